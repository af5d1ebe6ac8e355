"""The answer to the question of a page of points, in words."""

import collections
from collections.abc import Mapping

from fbq.report.records import Recommendation

_WEIGHT = ".weight"  # hwsim.workload.Workload.weight_site


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
      said.append(f"{group}: {', '.join(parts)} tensors")
  return "; ".join(said)


def answer(best: Recommendation, network: str, target: str) -> str:
  """The answer in plain words."""
  point, reference = best.point, best.reference
  tolerance = f"{best.tolerance * 100:g} points"
  if best.is_reference:
    return (
      f"Keep {reference.name} in every tensor of {network} on {target}: of the "
      f"{best.others} other assignments none is faster and loses at most "
      f"{tolerance} of its {reference.accuracy:.2%} accuracy; it takes "
      f"{reference.cycles:,} cycles per image."
    )
  difference = (point.accuracy - reference.accuracy) * 100
  side = "above" if difference > 0 else "below"
  distance = (
    f"{abs(difference):.2f} points {side}" if difference else "equal to"
  )
  fewer = "fewer" if best.cycles_saved >= 0 else "more"
  allowed = f"({tolerance} below are allowed)"
  if not best.is_accurate:
    allowed = (
      f"(more than the {tolerance} allowed, but {reference.name} breaks "
      f"{reference.breaks}, and nothing that breaks no demand is more accurate)"
    )
  elif reference.breaks:
    allowed += f"; {reference.name} breaks {reference.breaks}"
  return (
    f"Give the tensors of {network} the bits of {point.name}: on {target} an "
    f"image then takes {point.cycles:,} cycles, {abs(best.cycles_saved):.1%} "
    f"{fewer} than {reference.name} ({best.speedup:.2f}x as fast), at "
    f"{point.accuracy:.2%} test accuracy, {distance} {reference.name} "
    f"{allowed}."
  )
