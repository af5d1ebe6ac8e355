"""What the whitepaper says, as numbers that a run can agree with or not.

A claim compares two networks: the accuracy of one minus that of the other is
above a bound, or not. The whitepaper's own tables say which for each of its
networks; ours is decided by a t-test over seeds, on differences within seeds.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fbq.experiments.whitepaper import cases
from fbq.experiments.whitepaper.cases import FLOAT, Case, published
from fbq.report.means import Mean, mean

Accuracies = Mapping[str, Sequence[float]]  # name of a case -> of each seed
LEVEL = 0.95
AGREES, DIFFERS, OPEN = "agrees", "does not agree", "undecided"


class Claim(NamedTuple):
  """Accuracy of `left` minus that of `right` is above `bound`, or not.

  Attributes:
    title: what the difference is.
    left, right: networks.
    bound: share of the test images.
    above: what it means if the difference is above, in a few words.
    below: what it means if it is not.
  """

  title: str
  left: Case
  right: Case
  bound: float
  above: str
  below: str


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
      count = f"{self.above} of {self.ours.count}"
      return f"{self.claim.above} in {count} seeds"
    return self.claim.above if self.is_above else self.claim.below


# Bounds of 1 and 2 points are those of the whitepaper's abstract: 8 bits after
# training are within 2 % of float, trained quantized within about 1 %. Its
# table 4 has 1.0 points for MobileNetV2, hence 1.5.
CLAIMS = (
  Claim(
    "float - per layer, 8 bits, not trained",
    *(FLOAT, cases.LAYER_8, 0.1),
    "collapses per layer",
    "does not collapse per layer",
  ),
  Claim(
    "per channel - per layer, 8 bits, not trained",
    *(cases.CHANNEL_8, cases.LAYER_8, 0.1),
    "per channel rescues",
    "per channel has nothing to rescue",
  ),
  Claim(
    "float - asymmetric per channel, 8 bits, not trained",
    *(FLOAT, cases.CHANNEL_8, 0.025),
    "per channel loses more than 2.5 points",
    "per channel is within 2.5 points",
  ),
  Claim(
    "asymmetric - symmetric per channel, 8 bits, not trained",
    *(cases.CHANNEL_8, cases.SYMMETRIC_8, 0.01),
    "symmetric loses a point or more",
    "symmetric is as good",
  ),
  Claim(
    "weights only - weights and activations, 8 bits",
    *(cases.W8_CHANNEL, cases.CHANNEL_8, 0.01),
    "activations cost a point or more",
    "8-bit activations are nearly free",
  ),
  Claim(
    "float - trained per layer, 8 bits",
    *(FLOAT, cases.TRAINED_LAYER_8, 0.015),
    "training leaves a gap per layer",
    "training closes the gap also per layer",
  ),
  Claim(
    "float - trained per channel, 8 bits",
    *(FLOAT, cases.TRAINED_8, 0.015),
    "training leaves a gap",
    "training closes the gap",
  ),
  Claim(
    "sym. per channel - asym. per layer, 4-bit weights, not trained",
    *(cases.SYMMETRIC_4, cases.LAYER_4, 0.05),
    "per channel is better",
    "per channel is no better",
  ),
  Claim(  # the whitepaper compares other granularities of other forms alone
    "asymmetric per channel - per layer, 4-bit weights, not trained",
    *(cases.CHANNEL_4, cases.LAYER_4, 0.05),
    "per channel is better",
    "per channel is no better",
  ),
  Claim(
    "trained - not trained, 4-bit weights per channel",
    *(cases.TRAINED_W4A8, cases.SYMMETRIC_4, 0.01),
    "4-bit weights need training",
    "4-bit weights need no training",
  ),
  Claim(
    "float - trained, 4-bit weights per channel",
    *(FLOAT, cases.TRAINED_W4A8, 0.01),
    "4-bit weights lose more than a point",
    "4-bit weights lose less than a point",
  ),
  Claim(
    "trained - not trained, 4-bit activations",
    *(cases.TRAINED_W8A4, cases.W8A4, 0.01),
    "4-bit activations need training",
    "4-bit activations need no training",
  ),
  Claim(
    "4-bit weights - 4-bit activations, trained",
    *(cases.TRAINED_W4A8, cases.TRAINED_W8A4, 0.0),
    "W4A8 is better than W8A4",
    "W4A8 is worse than W8A4",
  ),
)


def verdicts(builder: str, accuracies: Accuracies) -> list[Verdict]:
  """Every claim held against a network; not those whose cases it lacks."""
  found = []
  for claim in CLAIMS:
    ends = claim.left, claim.right
    if all(end.name in accuracies for end in ends):
      ours = (accuracies[end.name] for end in ends)
      theirs = (published(builder, end) for end in ends)
      found.append(verdict(claim, differences(*ours), difference(*theirs)))
  return found


def loses_more(
  names: tuple[str, str],
  networks: tuple[Accuracies, Accuracies],
  builders: tuple[str, str] = ("", ""),
) -> Verdict:
  """Whether the first of two networks loses more by 4-bit weights, trained."""
  case, (one, other) = cases.TRAINED_W4A8, names
  claim = Claim(
    f"lost by {one} - by {other}, 4-bit weights, trained",
    *(case, case, 0.0),
    f"{one} loses more",
    f"{one} loses no more",
  )
  ours = (differences(n[FLOAT.name], n[case.name]) for n in networks)
  theirs = (
    difference(published(b, FLOAT), published(b, case)) for b in builders
  )
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
  word = ""
  if theirs is not None:
    word = OPEN
    if is_above is not None:
      # Published numbers have three digits: sums of them are not exact.
      word = AGREES if is_above == (theirs > claim.bound + 1e-9) else DIFFERS
  above = sum(difference > claim.bound for difference in apart)
  return Verdict(claim, ours, above, theirs, is_above, word)


def side(ours: Mean, bound: float) -> bool | None:
  """Whether a mean over seeds is above `bound`; None if that is not decided."""
  if math.isnan(ours.error):
    return None
  from scipy import special  # imports in a tenth of the time of scipy.stats

  reach = float(special.stdtrit(ours.count - 1, LEVEL)) * ours.error
  if ours.value - reach > bound:
    return True
  if ours.value + reach < bound or (reach == 0.0 and ours.value == bound):
    return False
  return None
