"""The strength of a penalty that leads a search to a target, by bisection.

What a search costs falls with the strength of its penalty, but for noise: it is
known of a strength only after a search. So strengths are halved, in logarithms,
or divided by more where several searches cost no more than one, and every
search counts for all targets. A search that noise made too cheap
hides the strengths above it: where costs jump, these are tried as well.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

_NARROWER = 32  # times that a jump is than another gap, before it is left


class Found(NamedTuple):
  """The search that came closest to a target.

  Attributes:
    target: share that was asked for.
    strength: strength of the search.
    share: share that it came to.
    is_met: whether that is within the tolerance.
  """

  target: float
  strength: float
  share: float
  is_met: bool


def strengths(
  shares_of: Callable[[Sequence[float]], Sequence[float]],
  targets: Sequence[float],
  bracket: tuple[float, float],
  searches: int,
  tolerance: float,
  at_most: bool = False,
  first: Sequence[float] = (),
  at_once: int = 1,
) -> list[Found]:
  """The strength for each target.

  Args:
    shares_of: strengths -> what searches at them cost, as shares; called once a
      round, with the strengths that no search has had.
    targets: shares that are asked for.
    bracket: strengths between which the answers lie, above 0 and rising; its
      ends are not tried.
    searches: rounds, each of at most `at_once` new searches for a target.
    tolerance: distance of a share from its target at which it is met.
    at_most: whether a share above its target is not good enough: a point for a
      budget.
    first: strengths that are tried before any is halved, as those that another
      seed came to; a round as well.
    at_once: strengths that a target tries in a round, evenly between two.
  """
  known: dict[float, float] = {}  # strength -> share
  if first:
    tried = list(dict.fromkeys(first))
    known |= zip(tried, shares_of(tried), strict=True)
  for _ in range(searches - bool(first)):
    wanted = dict.fromkeys(
      strength
      for target in targets
      if not _closest(known, target, tolerance, at_most).is_met
      for strength in _between(*_gap(known, target, bracket), at_once)
      if strength not in known
    )
    if not wanted:
      break
    known |= zip(wanted, shares_of(list(wanted)), strict=True)
  return [_closest(known, target, tolerance, at_most) for target in targets]


def _gap(known, target, bracket) -> tuple[float, float]:
  """The weakest search within a target and the one before it.

  Or the widest gap of those above, where these two are close to each other
  and still make up most of all differences that were seen: such a jump may be
  noise, and then no halving leads out of it.
  """
  high = min((s for s in known if known[s] <= target), default=bracket[1])
  low = max((s for s in known if s < high), default=bracket[0])
  if {low, high} <= known.keys():
    jump = known[low] - known[high]
    seen = max(known.values()) - min(known.values())
    stronger = {s for s in (*known, bracket[1]) if high <= s <= bracket[1]}
    gaps = itertools.pairwise(sorted(stronger))
    widest = max(gaps, key=_width, default=(low, high))
    is_narrow = _NARROWER * _width((low, high)) < _width(widest)
    if is_narrow and jump > seen / 2:
      low, high = widest
  return low, high


def _between(low, high, count) -> list[float]:
  """`count` strengths of equal ratios; in three digits, as they name runs."""
  steps = (step / (count + 1) for step in range(1, count + 1))
  return [float(f"{low ** (1 - step) * high**step:.3g}") for step in steps]


def _width(gap) -> float:
  """Logarithm of the ratio of its ends, which halving halves."""
  return math.log(gap[1] / gap[0])


def _closest(known, target, tolerance, at_most) -> Found:
  """The best of the searches there are."""
  within = [s for s in known if known[s] <= target]
  among = within if at_most and within else list(known)
  if not among:
    return Found(target, math.nan, math.nan, False)
  strength = min(among, key=lambda s: (abs(known[s] - target), s))
  share = known[strength]
  # A distance that is the tolerance in decimal numbers is within it.
  is_near = abs(share - target) <= tolerance + 1e-9
  return Found(
    target, strength, share, is_near and (share <= target or not at_most)
  )
