"""Strengths for targets, on laws whose answer is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbq.search import aim


class Law:
  """Shares by strength, and every strength that was asked for."""

  def __init__(self, share_of):
    self.share_of, self.asked = share_of, []

  def __call__(self, strengths):
    self.asked.append(list(strengths))
    return [self.share_of(s) for s in strengths]


def falling(strength):
  """From 1 at 0.001 to 0.5 at 10, linear in the logarithm: 0.125 a decade."""
  return 1.0 - 0.125 * math.log10(strength / 1e-3)


def test_halving_by_hand():
  law = Law(falling)
  # Between 0.001 and 10: 0.1 has 0.75, above 0.7; then 1 has 0.625, then
  # 0.316 has 0.6875, within 0.02.
  (found,) = aim.strengths(law, [0.7], (1e-3, 10.0), 9, 0.02)
  assert law.asked == [[0.1], [1.0], [0.316]]
  assert found.strength == 0.316 and found.is_met
  assert found.share == pytest.approx(0.6875, abs=1e-4)


def test_a_search_counts_for_all_targets():
  law = Law(falling)
  found = aim.strengths(law, [0.75, 0.625, 0.875], (1e-3, 10.0), 9, 0.01)
  # The first serves one target and brackets both others.
  assert law.asked == [[0.1], [1.0, 0.01]]
  assert [f.strength for f in found] == [0.1, 1.0, 0.01]
  assert [f.target for f in found] == [0.75, 0.625, 0.875]


def test_several_at_once_divide_by_as_many_and_one():
  law = Law(falling)
  # 0.001, 0.01, 0.1, 1, 10: from 0.875 at 0.01 to 0.75 at 0.1 lies 0.8; then
  # at 0.0178, 0.0316 and 0.0562 are 0.844, 0.8125 and 0.781.
  (found,) = aim.strengths(law, [0.8], (1e-3, 10.0), 2, 0.015, at_once=3)
  assert law.asked == [[0.01, 0.1, 1.0], [0.0178, 0.0316, 0.0562]]
  assert found.strength == 0.0316 and found.is_met
  assert found.share == pytest.approx(0.8125, abs=1e-3)


def test_what_another_seed_came_to_is_tried_first():
  law = Law(falling)
  found = aim.strengths(
    law, [0.75, 0.625], (1e-3, 10.0), 3, 0.01, first=(0.1, 0.5, 0.1)
  )
  # 0.1 is right, 0.5 has 0.663: between it and the end of the bracket is 2.24,
  # with 0.581, and between these 1.06.
  assert law.asked == [[0.1, 0.5], [2.24], [1.06]]
  assert [f.strength for f in found] == [0.1, 1.06]


def test_a_target_out_of_reach_is_not_met_and_ends():
  law = Law(lambda s: 1.0)
  (found,) = aim.strengths(law, [0.7], (1e-3, 10.0), 4, 0.02)
  assert [len(round_) for round_ in law.asked] == [1, 1, 1, 1]
  # Ever stronger, up to the end of the bracket.
  assert sorted(sum(law.asked, [])) == sum(law.asked, [])
  assert found.share == 1.0 and not found.is_met
  # Rounds end where three digits tell no strengths apart.
  narrow = Law(lambda s: 1.0)
  aim.strengths(narrow, [0.7], (1.0, 1.01), 99, 0.02)
  assert len(narrow.asked) < 5


@pytest.mark.parametrize("reach", [1.001, 1.1, 1.3])
def test_a_jump_that_noise_made_is_left(reach):
  """The first strength is too cheap by chance; what is sought is far above."""

  def share_of(strength):
    if 0.1 / reach < strength < 0.1 * reach:
      return 0.7
    return 0.85 if strength >= 1 else 1.0

  law = Law(share_of)
  (found,) = aim.strengths(law, [0.85], (1e-4, 1e2), 8, 0.01)
  assert found == aim.Found(0.85, 3.16, 0.85, True)
  # Halved below it until 0.1 decades are left; a run that resumes asks again.
  again = Law(share_of)
  aim.strengths(again, [0.85], (1e-4, 1e2), 8, 0.01)
  assert again.asked == law.asked and len(law.asked) <= 8
  assert law.asked[:3] == [[0.1], [0.00316], [0.0178]]


def test_a_steep_law_is_still_halved():
  """All is above the target to 0.15 and below it from there on."""
  law = Law(lambda s: 1.0 if s < 0.15 else 0.7)
  aim.strengths(law, [0.85], (1e-4, 1e2), 12, 0.01)
  asked = sum(law.asked, [])
  low = max(s for s in asked if s < 0.15)
  high = min(s for s in asked if s >= 0.15)
  assert len(asked) == 12 and high / low < 1.1


def test_a_point_for_a_budget_lies_within_it():
  law = Law({0.1: 0.71, 1.0: 0.66, 0.316: 0.695}.__getitem__)
  (near,) = aim.strengths(law, [0.7], (1e-3, 10.0), 3, 0.02)
  assert near.strength == 0.1 and len(law.asked) == 1
  (within,) = aim.strengths(law, [0.7], (1e-3, 10.0), 3, 0.02, at_most=True)
  assert within.strength == 0.316 and within.is_met
  # Where nothing is within, the closest is told, as not met.
  dear = Law(lambda s: 0.71)
  (found,) = aim.strengths(dear, [0.7], (1e-3, 10.0), 1, 0.02, at_most=True)
  assert found.share == 0.71 and not found.is_met


@given(
  st.lists(st.floats(0.55, 0.95), min_size=1, max_size=4),
  st.floats(0, 0.03),
  st.integers(0, 99),
)
def test_noise_moves_an_answer_by_no_more_than_itself(targets, noise, seed):
  random = np.random.default_rng(seed)
  error: dict[float, float] = {}

  def share_of(strength):
    return falling(strength) + error.setdefault(
      strength, random.uniform(-noise, noise)
    )

  law = Law(share_of)
  found = aim.strengths(law, targets, (1e-3, 10.0), 12, 1e-3)
  for one in found:
    assert one.share == share_of(one.strength)
    assert abs(one.share - one.target) <= 2 * noise + 2e-3
  asked = sum(law.asked, [])
  assert len(set(asked)) == len(asked) <= 12 * len(targets)
