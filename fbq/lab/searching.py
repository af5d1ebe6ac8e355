"""Searches by training at given strengths, or at those that targets need.

A search that finds nothing says so: see `warnings`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fbq.lab.lab import Lab
from fbq.lab.settings import Aim
from fbq.search import aim as aiming
from fbq.train.loop import Trainer


class Searcher(NamedTuple):
  """What searches have in common that differ in their strength.

  Attributes:
    name: name of their runs, before the strength.
    stage: stage whose time is measured.
    trainer: compiled step of all.
    start: variables before a search.
    run_of: strength -> data of its run.
    assignment_of: variables -> bits of every site.
    share_of: bits of every site -> what they cost, as a share; see `Aim`.
  """

  name: str
  stage: str
  trainer: Trainer
  start: Mapping[str, Any]
  run_of: Callable[[float], Mapping[str, jax.Array]]
  assignment_of: Callable[[Mapping[str, Any]], dict[str, int]]
  share_of: Callable[[Mapping[str, int]], float]


class Searched(NamedTuple):
  """A search that has ended.

  Attributes:
    asked: what it was asked for: "0.006", or "85%" of a target.
    strength: strength of its penalty.
    variables: variables after it.
    assignment: bits that it chose.
    share: what they cost, see `Searcher.share_of`.
    is_met: whether that is the target, where it had one.
  """

  asked: str
  strength: float
  variables: Mapping[str, Any]
  assignment: dict[str, int]
  share: float
  is_met: bool = True


def search(
  lab: Lab,
  searcher: Searcher,
  strengths: Sequence[float],
  aim: Aim,
  first: Sequence[float] = (),
) -> tuple[list[Searched], int]:
  """(a search for each strength, or else for each target; how many were run).

  A run that resumes asks for the same strengths again, of which those that are
  finished cost nothing.

  Args:
    lab: where it trains.
    searcher: what the searches have in common.
    strengths: strengths of the penalty; none: targets count.
    aim: targets, and how strengths for them are found.
    first: strengths to try first, see `fbq.search.aim.strengths`.
  """
  ended: dict[float, Searched] = {}

  def shares_of(some):
    found = lab.run_many(
      [f"{searcher.name}-{strength:g}" for strength in some],
      searcher.stage,
      searcher.trainer,
      [searcher.start] * len(some),
      [searcher.run_of(strength) for strength in some],
    )
    for strength, variables in zip(some, found, strict=True):
      bits = searcher.assignment_of(variables)
      share = searcher.share_of(bits)
      asked = f"{strength:g}"
      ended[strength] = Searched(asked, strength, variables, bits, share)
      lab.log.say(f"{searcher.name}-{asked}: {share:.1%} of 8/8's {aim.words}")
    return [ended[strength].share for strength in some]

  # Given strengths need no law between them.
  if strengths:
    shares_of(strengths)
    return list(ended.values()), len(ended)

  found = aiming.strengths(
    shares_of,
    aim.targets,
    aim.bracket,
    aim.searches,
    aim.tolerance,
    aim.at_most,
    first,
    aim.at_once,
  )
  return [
    ended[one.strength]._replace(asked=f"{one.target:.0%}", is_met=one.is_met)
    for one in found
  ], len(ended)


def warnings(
  searcher: Searcher, searched: Sequence[Searched], aim: Aim
) -> list[str]:
  """Sentences about searches that found nothing; none where all is well."""
  told = []
  begin = searcher.assignment_of(searcher.start)
  idle = [one for one in searched if one.assignment == begin]
  said = ", ".join(f"{one.strength:g}" for one in searched)

  # A search that ends where it began may have been too short to end elsewhere.
  if idle:
    far = max(_moved(searcher.start, one.variables) for one in idle)
    told.append(
      f"{searcher.name}: {len(idle)} of {len(searched)} searches (strengths "
      f"{', '.join(f'{one.strength:g}' for one in idle)}) changed the bits of "
      f"no tensor; no gate moved by more than {far:.2g} in "
      f"{searcher.trainer.steps:,} steps. Raise config.search."
      "gate_learning_rate, config.search.steps or the strength."
    )
  different = {tuple(one.assignment.items()) for one in searched}
  if len(searched) > 1 and len(different) == 1:
    told.append(
      f"{searcher.name}: all searches (strengths {said}) ended alike. Spread "
      "the strengths, or search longer."
    )
  if missed := [one for one in searched if not one.is_met]:
    told.append(
      f"{searcher.name}: no search came near "
      + ", ".join(
        f"{one.asked} of {aim.words} (nearest: {one.share:.1%} at strength "
        f"{one.strength:g})"
        for one in missed
      )
      + ". Widen config.search.aim.bracket where such a strength lies at its "
      "end. Elsewhere what searches come to jumps: allow more of them, or "
      "search longer."
    )
  return told


def _moved(start, end) -> float:
  """The farthest that a gate has gone."""
  moves = jax.tree.map(
    lambda a, b: float(np.max(np.abs(np.asarray(b) - np.asarray(a)))),
    start["gates"],
    {name: end["gates"][name] for name in start["gates"]},
  )
  return max(jax.tree.leaves(moves))
