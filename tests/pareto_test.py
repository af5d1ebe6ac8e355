"""The front against every pair compared."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbq.search import pareto


def by_pairs(cost, value):
  """The mask by the definition, one pair at a time."""
  mask = []
  for c, v in zip(cost, value, strict=True):
    mask.append(
      not any(
        other_c <= c and other_v >= v and (other_c < c or other_v > v)
        for other_c, other_v in zip(cost, value, strict=True)
      )
    )
  return mask


# Few distinct numbers make ties and duplicates common.
few = st.tuples(st.integers(0, 5), st.sampled_from([0.0, 0.25, 0.5, -1.0]))
many = st.tuples(
  st.integers(-(10**9), 10**9), st.floats(-1, 1, allow_subnormal=False)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(few, max_size=12) | st.lists(many, max_size=30))
def test_front_equals_comparison_of_all_pairs(candidates):
  cost = [c for c, _ in candidates]
  value = [v for _, v in candidates]
  assert pareto.front(cost, value).tolist() == by_pairs(cost, value)


def test_front_of_a_drawn_example():
  #  value
  #    3 |         d e      d dominates e; b and c are equal and both stay
  #    2 |   b,c f
  #    1 | a
  #      +------------ cost
  cost, value = [1, 2, 2, 4, 5, 3], [1, 2, 2, 3, 3, 2]
  got = pareto.front(cost, value)
  assert got.tolist() == [True, True, True, True, False, False]


def test_empty_front():
  assert pareto.front([], []).shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
  with pytest.raises(ValueError, match=r"value of candidates \[1\]"):
    pareto.front([1, 2], [0.5, bad])
  with pytest.raises(ValueError, match=r"cost of candidates \[0\]"):
    pareto.front([bad, 2], [0.5, 0.5])


def test_shapes_that_do_not_match_are_refused():
  with pytest.raises(ValueError, match="expected one number of each"):
    pareto.front([1, 2], [0.5])
  with pytest.raises(ValueError, match="expected one number of each"):
    pareto.front([[1, 2]], [[0.5, 0.5]])
