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


def _ways() -> list[tuple[str, str, Target]]:
  """(instruction set, what it is, target) of all that is simulated."""
  library = dataclasses.replace(XPULP_V2, conv_library="pulp-nn")
  reserved = XPULP_V2.l2_bytes - _UNCUT
  uncut = {"code_reserved_bytes": reserved}
  return [
    ("xpulp_v2", "simulated", XPULP_V2),
    ("xpulp_v2", "8/8 by pulp-nn, as DORY takes it", library),
    (
      *("xpulp_v2", "354 kB of L2, so that pw3 has slices of 4 rows"),
      dataclasses.replace(XPULP_V2, **uncut),
    ),
    (
      *("xpulp_v2", "both: pulp-nn and 354 kB"),
      dataclasses.replace(library, **uncut),
    ),
    ("xpulp_v2", "instruction counts without stalls", XPULP_V2_ISS),
    ("xpulpnn_v1", "simulated", XPULPNN_V1),
    ("xpulpnn_v1", "instruction counts without stalls", XPULPNN_V1_ISS),
  ]


def variants(
  changes: Callable[[Target], Mapping[str, float]],
) -> tuple[Variant, ...]:
  """All variants, the one that is furthest from what is published first.

  Args:
    changes: target -> {name of a network: change against 8/8}.
  """
  found = list(_MEASURED)
  for name, what, target in _ways():
    own = changes(target)
    found.append(Variant(name, what, own["4/4"], own["4/4+FB"]))
  return tuple(sorted(found, key=lambda v: -max(map(abs, v.off))))
