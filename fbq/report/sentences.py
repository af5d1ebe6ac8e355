"""The answer to the question of a page of points, in words."""

import collections
from collections.abc import Mapping

from fbq.report.means import Mean
from fbq.report.records import Point, Recommendation, cost_of

# What is least -> (superlative, comparative, unit)
_WORDS = {
  "cycles": ("fastest", "faster", "cycles"),
  "weight_bytes": ("smallest", "smaller", "bytes of weights"),
  "peak_activation_bytes": ("leanest", "leaner", "bytes of activations"),
}
_WEIGHT = ".weight"  # hwsim.workload.Workload.weight_site


def counted(count: int, noun: str, plural: str = "") -> str:
  """For instance '1 seed' or '1,234 seeds'."""
  return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def more_or_less(change: float, noun: str = "") -> str:
  """A relative change in words: '17.0% fewer cycles', or '5.4% more cycles'.

  Args:
    change: share of what it is compared with, below 0 where it is less.
    noun: what is counted; without it "less" stands for "fewer".
  """
  few = "fewer" if noun else "less"
  words = [f"{abs(change):.1%}", "more" if change > 0 else few, noun]
  return " ".join(filter(None, words))


def points_lost(loss: Mean, what: str = "") -> str:
  """A loss in words: 'loses 0.50 ±0.10 points', or 'gains' where it is below 0.

  Args:
    loss: mean share of accuracy that is lost.
    what: behind the points, for instance " of test accuracy".
  """
  verb = "loses" if round(100 * loss.value, 2) >= 0 else "gains"
  return f"{verb} {loss._replace(value=abs(loss.value))} points{what}"


def points_below(loss: Mean) -> str:
  """'0.50 ±0.10 points below', or 'above' where a loss is below 0."""
  side = "below" if round(100 * loss.value, 2) >= 0 else "above"
  return f"{loss._replace(value=abs(loss.value))} points {side}"


def bits_in_words(precision: Mapping[str, int]) -> str:
  """For instance 'weights: 2 bits in 3, 8 in 5 tensors; activations: ...'.

  Counts tensors; sites that end in '.weight' are weights.
  """
  groups = {"weights": [], "activations": []}
  for site, bits in precision.items():
    groups["weights" if site.endswith(_WEIGHT) else "activations"].append(bits)
  said = []
  for group, bits in groups.items():
    counts = sorted(collections.Counter(bits).items())
    parts = [
      f"{b}{'' if i else ' bits'} in {n}" for i, (b, n) in enumerate(counts)
    ]
    if parts:
      tensors = "tensor" if len(bits) == 1 else "tensors"
      said.append(f"{group}: {', '.join(parts)} {tensors}")
  return "; ".join(said)


def answer(
  best: Recommendation, network: str, target: str, metric: str = "accuracy"
) -> str:
  """The answer in plain words; numbers of the metric are those of the test."""
  point, reference = best.point, best.reference
  if best.is_reference:
    return (
      f"Keep {reference.name} in every tensor of {network} on {target}: of the "
      f"{counted(best.others, 'other assignment')} none is faster and "
      f"{_sure(best)}; it takes {reference.cycles:,} cycles per image, at "
      f"{reference.test.accuracy:.2%} test {metric}."
    )
  loss = 100 * point.test.loss
  side = "below" if loss > 0 else "above"
  distance = (
    f"{abs(loss):.2f} ± {100 * point.test.loss_error:.2f} points {side}"
    if loss or point.test.loss_error
    else "equal to"
  )
  fewer = "fewer" if best.cycles_saved >= 0 else "more"
  breaks = (
    f"; {reference.name} breaks {reference.breaks}" if reference.breaks else ""
  )
  return (
    f"Give the tensors of {network} the bits of {point.name}: on {target} an "
    f"image then takes {point.cycles:,} cycles, {abs(best.cycles_saved):.1%} "
    f"{fewer} than {reference.name} ({best.speedup:.2f}x as fast), at "
    f"{point.test.accuracy:.2%} test {metric}, {distance} "
    f"{reference.name}{breaks}."
  )


def why(best: Recommendation) -> str:
  """By what the answer was chosen, and what is missing for a faster one."""
  point, reference, nearest = best.point, best.reference, best.nearest
  first, better, unit = _WORDS[best.cost]
  said = []
  if not best.is_accurate:
    said.append(
      f"{reference.name} breaks {reference.breaks}, and of what breaks no "
      f"demand nothing {_sure(best)}; {point.name} is the most accurate in "
      f"validation, where it {_loses(point, best)}."
    )
  elif not best.is_reference:
    said.append(
      f"Of {counted(best.others, 'assignment')}, {point.name} is the {first} "
      f"that {_sure(best)}: in validation it {_loses(point, best)}."
    )
  if nearest is not None:
    seems_fine = nearest.validation.loss <= best.tolerance
    missing = (
      "it may keep the tolerance, which more validation images would show"
      if seems_fine
      else "that is beyond the tolerance"
    )
    said.append(
      f"The nearest of the {better} ones, {nearest.name} with "
      f"{cost_of(nearest, best.cost):,} {unit}, {_loses(nearest, best)}: "
      f"{missing}."
    )
  return " ".join([*said, "Test images chose nothing."])


def _sure(best: Recommendation) -> str:
  return (
    f"loses at most {best.tolerance * 100:g} points with "
    f"{100 * best.confidence:g}% confidence"
  )


def _loses(point: Point, best: Recommendation) -> str:
  """What a point loses in validation, or gains."""
  score = point.validation
  loss = 100 * score.loss
  most = (
    f"{100 * score.largest_loss(best.each):.2f} with that confidence in all "
    f"{_WORDS[best.cost][1]} ones together"
  )
  error = f"{100 * score.loss_error:.2f} points"
  if round(loss, 2) < 0:
    return f"gains {-loss:.2f} ± {error}, and loses at most {most}"
  return f"loses {loss:z.2f} ± {error}, at most {most}"
