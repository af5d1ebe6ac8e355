"""Searches at strengths and for targets, without any training."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from fbq.lab import searching
from fbq.lab.settings import Aim

SITES = ("a.weight", "a.out", "b.weight", "b.out")


class Steps(NamedTuple):
  steps: int = 200


class Lab:
  """Gates fall by the logarithm of the strength; says nothing is trained."""

  def __init__(self, fall=1.0):
    self.fall, self.names, self.told = fall, [], []
    self.log = self
    self.say = self.told.append

  def run_many(self, names, stage, trainer, variables, runs):
    self.names.append(names)
    for start, run in zip(variables, runs, strict=True):
      decades = math.log10(float(run["strength"]) / 1e-3)
      logits = start["gates"]["logits"] - self.fall * decades
      yield {**start, "gates": {"logits": logits}}


def assignment_of(variables):
  """Gate i closes below 0: 4 bits."""
  logits = np.asarray(variables["gates"]["logits"])
  return dict(zip(SITES, np.where(logits > 0, 8, 4).tolist(), strict=True))


def searcher():
  """Gates that close at 0.01, 0.1, 1 and 10; each is an eighth of the cost."""
  return searching.Searcher(
    "search-free",
    "precision search",
    Steps(),
    {"params": 1, "gates": {"logits": jnp.array([1.0, 2.0, 3.0, 4.0]) - 0.01}},
    lambda strength: {"strength": jnp.float32(strength)},
    assignment_of,
    lambda bits: sum(bits.values()) / 32,
  )


def test_a_search_for_each_strength():
  lab = Lab()
  found, count = searching.search(lab, searcher(), (0.5, 0.03), Aim())
  assert lab.names == [["search-free-0.5", "search-free-0.03"]] and count == 2
  assert [one.asked for one in found] == ["0.5", "0.03"]
  # 0.5 is beyond 0.01 and 0.1: two gates closed; 0.03 one.
  assert [one.share for one in found] == [0.75, 0.875]
  assert [list(one.assignment.values()) for one in found] == [
    [4, 4, 8, 8],
    [4, 8, 8, 8],
  ]
  assert not searching.warnings(searcher(), found, Aim())


def test_targets_are_found_by_bisection_and_found_again():
  aim = Aim(targets=(0.75, 0.875), bracket=(1e-3, 10.0), searches=5)
  lab = Lab()
  found, count = searching.search(lab, searcher(), (), aim)
  assert lab.names == [["search-free-0.1"], ["search-free-0.01"]]
  assert [one.asked for one in found] == ["75%", "88%"]
  assert [one.share for one in found] == [0.75, 0.875]
  assert all(one.is_met for one in found)
  assert count == 2
  # Every search is told as it ends, with what targets count.
  assert len(lab.told) == count
  assert all("of 8/8's cycles after the hardware pass" in t for t in lab.told)
  # A run that resumes asks for the same searches.
  again = Lab()
  searching.search(again, searcher(), (), aim)
  assert again.names == lab.names


def test_a_search_that_moves_no_tensor_says_so():
  lab = Lab(fall=0.3)  # at 0.5 the gates have gone 0.8 of 0.99
  found, _ = searching.search(lab, searcher(), (0.5, 0.03), Aim())
  idle, alike = searching.warnings(searcher(), found, Aim())
  assert "2 of 2 searches (strengths 0.5, 0.03) changed the bits of no" in idle
  assert "no gate moved by more than 0.81 in 200 steps" in idle
  assert "all searches (strengths 0.5, 0.03) ended alike" in alike
  # One of two: that one is named.
  found, _ = searching.search(Lab(), searcher(), (0.5, 0.002), Aim())
  (idle,) = searching.warnings(searcher(), found, Aim())
  assert "1 of 2 searches (strengths 0.002) changed the bits of no" in idle


def test_searches_that_end_alike_and_targets_that_are_missed_say_so():
  found, _ = searching.search(Lab(), searcher(), (0.5, 0.6), Aim())
  (alike,) = searching.warnings(searcher(), found, Aim())
  assert "all searches (strengths 0.5, 0.6) ended alike" in alike
  aim = Aim(targets=(0.3,), bracket=(1e-3, 10.0), searches=2)
  found, _ = searching.search(Lab(), searcher(), (), aim)
  (missed,) = searching.warnings(searcher(), found, aim)
  assert "30% of cycles after the hardware pass (nearest: 62.5% at" in missed
  assert "Widen config.search.aim.bracket" in missed
  assert "allow more of them, or search longer." in missed
