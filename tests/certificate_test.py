"""A certificate holds over all assignments, one by one."""

import dataclasses

import numpy as np
import pytest
from exact_test import cases
from hypothesis import given, settings
from hypothesis import strategies as st

from fbq.search import certificate, exact
from fbq.search.problem import SIZE


@settings(max_examples=40, deadline=None)
@given(cases(), st.data())
def test_no_assignment_within_a_budget_has_less_harm_than_is_proven(case, data):
  ends = int(case.cycles.min()), int(case.cycles.max())
  budgets = data.draw(st.lists(st.integers(*ends), min_size=1, max_size=3))
  chosen = exact.best_value(case.problem, budgets)
  front = exact.front(case.problem)
  harm = -case.value
  found = certificate.certify(case.problem, front, chosen, budgets)
  for one, budget in zip(found, budgets, strict=True):
    least = harm[case.cycles <= budget].min()
    assert one.harm == pytest.approx(least, abs=1e-9)
    assert one.price >= 0 and one.bound <= least + 1e-6 and one.gap >= 0
    # What the page says can be checked by anybody
    relaxed = harm + one.price * (case.cycles - budget)
    assert one.bound == pytest.approx(relaxed.min(), abs=1e-6)
  assert 10 ** certificate.assignments(case.problem) == pytest.approx(
    np.prod([float(len(a)) for a in case.problem.allowed])
  )


@settings(max_examples=20, deadline=None)
@given(cases(), st.data())
def test_no_price_proves_more(case, data):
  """The price is that of the hull: a corner of it has no gap."""
  budget = data.draw(
    st.integers(int(case.cycles.min()), int(case.cycles.max()))
  )
  chosen = exact.best_value(case.problem, [budget])
  front = exact.front(case.problem)
  (one,) = certificate.certify(case.problem, front, chosen, [budget])
  harm = -case.value
  for price in (0.0, one.price / 2, one.price * 2, one.price + 1):
    other = (harm + price * (case.cycles - budget)).min()
    assert other <= one.bound + 1e-6 * (1 + abs(one.bound))


@settings(max_examples=5, deadline=None)
@given(cases(most_free=4))
def test_a_binding_limit_has_no_proof_and_says_so(case):
  sizes, _ = case.bytes()
  limits = {SIZE: int(sizes.max()) - 1}
  problem = dataclasses.replace(case.problem, limits=limits)
  if (sizes <= limits[SIZE]).sum() == 0:
    return
  budget = int(case.cycles.max())
  chosen = exact.best_value(problem, [budget])
  (one,) = certificate.certify(problem, exact.front(problem), chosen, [budget])
  if one.price is not None and one.price > 0:
    raise AssertionError("a price proves nothing where a limit binds")
