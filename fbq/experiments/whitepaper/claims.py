"""What the whitepaper says, as numbers that a run can agree with or not.

A claim compares two networks. The whitepaper's own tables say whether it holds
for each of its networks; ours is decided by a t-test over seeds, on differences
within seeds.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fbq.experiments.whitepaper.cases import FLOAT, PAPER, Claim, published
from fbq.report.means import Mean, mean

Accuracies = Mapping[str, Sequence[float]]  # name of a case -> of each seed
LEVEL = 0.95
TRAINED_4 = "qat-w4a8-symmetric-channel"
_ROUNDING = 1e-9
AGREES, DIFFERS, OPEN = "agrees", "does not agree", "undecided"


class Verdict(NamedTuple):
  """A claim held against a run.

  Attributes:
    claim: that was held.
    ours: the difference over seeds.
    above: seeds whose difference is above the bound.
    theirs: the whitepaper's difference; None where it printed none.
    is_above: ours; None if the seeds do not decide it.
    word: `AGREES`, `DIFFERS` or `OPEN`; "" without published numbers.
  """

  claim: Claim
  ours: Mean
  above: int
  theirs: float | None
  is_above: bool | None
  word: str

  @property
  def text(self) -> str:
    """What ours says."""
    if self.is_above is None:
      return f"{self.claim.above} in {self.above} of {self.ours.count} seeds"
    return self.claim.above if self.is_above else self.claim.below


def verdicts(builder: str, accuracies: Accuracies) -> list[Verdict]:
  """Every claim held against a network; not those whose cases it lacks."""
  found = []
  for claim in PAPER.claims:
    ends = claim.left, claim.right
    if {*ends} <= accuracies.keys():
      theirs = difference(*(published(builder, end) for end in ends))
      apart = differences(*(accuracies[end] for end in ends))
      found.append(verdict(claim, apart, theirs))
  return found


def loses_more(*networks: tuple[str, str, Accuracies]) -> Verdict:
  """Whether the first of two networks loses more by 4-bit weights, trained.

  Args:
    *networks: (name, builder, accuracies) of both.
  """
  one, other = (name for name, *_ in networks)
  title = f"lost by {one} - by {other}, 4-bit weights, trained"
  above, below = f"{one} loses more", f"{one} loses no more"
  claim = Claim(title, 0.0, TRAINED_4, TRAINED_4, above, below)
  ours, theirs = [], []
  for _, builder, found in networks:
    ours.append(differences(found[FLOAT], found[TRAINED_4]))
    printed = (published(builder, name) for name in (FLOAT, TRAINED_4))
    theirs.append(difference(*printed))
  return verdict(claim, differences(*ours), difference(*theirs))


def differences(left: Sequence[float], right: Sequence[float]) -> list[float]:
  """left - right, of each seed."""
  return [a - b for a, b in zip(left, right, strict=True)]


def difference(left: float | None, right: float | None) -> float | None:
  """left - right, where both were printed."""
  return None if left is None or right is None else left - right


def verdict(
  claim: Claim, apart: Sequence[float], theirs: float | None
) -> Verdict:
  """`claim` held against the differences of all seeds and a published one.

  Above or not above the bound by a one-sided t-test at 95 % either way, else
  undecided, as one seed always is. A published difference at the bound is not
  above.
  """
  ours = mean(apart)
  is_above = side(ours, claim.bound)
  word = "" if theirs is None else OPEN
  if theirs is not None and is_above is not None:
    # Published numbers have three digits: sums of them are not exact.
    is_theirs = theirs > claim.bound + _ROUNDING
    word = AGREES if is_above == is_theirs else DIFFERS
  above = sum(difference > claim.bound for difference in apart)
  return Verdict(claim, ours, above, theirs, is_above, word)


def side(ours: Mean, bound: float) -> bool | None:
  """Whether a mean over seeds is above `bound`; None if that is not decided."""
  if math.isnan(ours.error):
    return None
  from scipy import special  # imports in a tenth of the time of scipy.stats

  # Differences of shares are not exact; one at the bound is not above it.
  reach = float(special.stdtrit(ours.count - 1, LEVEL)) * ours.error
  if ours.value - reach > bound + _ROUNDING:
    return True
  if ours.value + reach <= bound + _ROUNDING:
    return False
  return None
