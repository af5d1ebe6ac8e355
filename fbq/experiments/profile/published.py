"""What is published of Free Bits on both instruction sets, and variants of it.

MobileNetV1-0.75-224, change of cycles against uniform 8 bits, outputs timed at
8 bits (docs/facts/pulp.md 4.1 and corrections 7 to 9). Nothing is fitted to it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

from hwsim.pulp import (
  XPULP_V2,
  XPULP_V2_ISS,
  XPULPNN_V1,
  XPULPNN_V1_ISS,
  Target,
)

# Instruction set -> change of 4/4, and of 4/4 after the pass (slides)
PUBLISHED = {"xpulp_v2": (0.499, -0.035), "xpulpnn_v1": (-0.323, -0.371)}
_UNCUT = 354_048  # bytes of L2 from which pw3 at 8 bits has slices of 4 rows


class Variant(NamedTuple):
  """One way to come to the published figures.

  Attributes:
    target: instruction set.
    what: what it is, for the reader.
    four, free: change of 4/4 and of 4/4+FB against 8/8, as fractions.
  """

  target: str
  what: str
  four: float
  free: float

  @property
  def off(self) -> tuple[float, float]:
    """Points above what is published, of both."""
    published = PUBLISHED[self.target]
    return tuple(
      100 * (own - theirs)
      for own, theirs in zip((self.four, self.free), published, strict=True)
    )


# Sums of layers that GVSOC ran (docs/facts/pulp.md, correction 9)
_MEASURED = (
  Variant("xpulp_v2", "layers run in GVSOC", 0.472, -0.134),
  Variant(
    *("xpulp_v2", "the same, depthwise layers of the closed form"),
    *(0.554, -0.101),
  ),
  Variant("xpulpnn_v1", "layers run in GVSOC", -0.344, -0.384),
)


def _ways() -> list[tuple[str, str, Target, Target]]:
  """(instruction set, what it is, target, that of 8/8) of all simulated.

  DORY takes pulp-nn for networks of 8 bits alone: the baseline, and no layer at
  8/8 of another network.
  """
  cut = dataclasses.replace(
    XPULP_V2, code_reserved_bytes=XPULP_V2.l2_bytes - _UNCUT
  )
  pairs = [
    ("xpulp_v2", "simulated", XPULP_V2, "XpulpV2"),
    ("xpulp_v2", "8/8 by pulp-nn, as DORY takes it", XPULP_V2, "pulp-nn"),
    ("xpulp_v2", "354 kB of L2: pw3 in slices of 4 rows", cut, "XpulpV2"),
    ("xpulp_v2", "both: pulp-nn and 354 kB", cut, "pulp-nn"),
    ("xpulp_v2", "instructions without stalls", XPULP_V2_ISS, "XpulpV2"),
    ("xpulpnn_v1", "simulated", XPULPNN_V1, "XpulpNN"),
    ("xpulpnn_v1", "instructions without stalls", XPULPNN_V1_ISS, "XpulpNN"),
  ]
  return [
    (*row, target, dataclasses.replace(target, conv_library=library))
    for *row, target, library in pairs
  ]


def variants(
  cycles: Callable[[Target], Mapping[str, int]],
) -> tuple[Variant, ...]:
  """All variants, the one that is furthest from what is published first.

  Args:
    cycles: target -> {name of a network: its cycles}.
  """
  found = list(_MEASURED)
  for name, what, target, baseline in _ways():
    own, eight = cycles(target), cycles(baseline)["8/8"]
    found.append(
      Variant(name, what, own["4/4"] / eight - 1, own["4/4+FB"] / eight - 1)
    )
  return tuple(sorted(found, key=lambda v: -max(map(abs, v.off))))
