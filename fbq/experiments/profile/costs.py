"""Costs of layers and of whole networks on one target.

Cycles are of one image; bits of weights are None where a layer has none, bits
of an output that is not quantized are 32.
"""

from typing import NamedTuple

PARTS = ("compute", "waiting", "dma", "overhead", "l3")


class Cost(NamedTuple):
  """One layer at one precision on one target.

  Attributes:
    kind: "convolution", "pointwise", "depthwise", "linear", "add" or "pool".
    least_bytes: every tensor once, packed.
    cycles, ...: as in `hwsim.pulp.LayerCycles`.
    engine: what runs it, where hardware has more than cores: NE16's mode, or
      "cores".
  """

  target: str
  layer: str
  kind: str
  in_bits: int
  weight_bits: int | None
  out_bits: int
  macs: int
  least_bytes: int
  cycles: int
  compute: int
  dma: int
  overhead: int
  l3: int
  waiting: int
  engine: str = ""

  @property
  def parts(self) -> dict[str, int]:
    """Cycles by cause, `PARTS`; they add up to `cycles`."""
    parts = {name: getattr(self, name) for name in PARTS}
    return parts | {"compute": self.compute - self.waiting}

  @property
  def both(self) -> tuple[int, int | None]:
    """Input and weight bits."""
    return self.in_bits, self.weight_bits

  @property
  def bits(self) -> str:
    """The same in letters, for instance '8/4'."""
    return f"{self.in_bits}/{self.weight_bits or '-'}"


class Whole(NamedTuple):
  """A network under one assignment on one target.

  Attributes:
    change: change of cycles against 8/8 on the same target, as a fraction.
    published: the same as published, or None.
    raised: layers that the pass changed.
  """

  target: str
  name: str
  cycles: int
  change: float
  published: float | None = None
  raised: int = 0


class Gain(NamedTuple):
  """A layer that is faster at a higher precision.

  Attributes:
    start: the uniform network it was raised from.
    before, after: the same layer at both precisions.
    why: where the cycles went, in words.
  """

  start: str
  before: Cost
  after: Cost
  why: str


def short(target: str) -> str:
  """A target's name without its overrides."""
  return target.partition(" ")[0]
