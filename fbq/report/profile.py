"""What a latency profile shows: records of layers, networks and causes.

Cycles are of one image; bits of weights are None where a layer has none, bits
of an output that is not quantized are 32.
"""

import csv
import dataclasses
import io
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fbq.report import tables

UNIFORM = ("8/8", "4/4", "2/2")
PARTS = ("compute", "waiting", "dma", "overhead", "l3")


class Cost(NamedTuple):
  """One layer at one precision on one target.

  Attributes:
    kind: "convolution", "pointwise", "depthwise", "linear", "add" or "pool".
    least_bytes: every tensor once, packed.
    cycles: the sum of `compute`, `dma`, `overhead` and `l3`.
    compute: kernels. `waiting` is the part of it that the average core waits
      for the slowest.
    dma: L2 <-> L1 transfers that no kernel hides.
    overhead: software of layers and tiles.
    l3: L3 <-> L2 transfers that nothing hides.
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

  @property
  def parts(self) -> dict[str, int]:
    """Cycles by cause, `PARTS`; they add up to `cycles`."""
    return {
      "compute": self.compute - self.waiting,
      "waiting": self.waiting,
      "dma": self.dma,
      "overhead": self.overhead,
      "l3": self.l3,
    }


class Whole(NamedTuple):
  """A network under one assignment on one target.

  Attributes:
    name: "8/8", "4/4", "2/2", or one of these with "+FB" after the Free Bits
      pass.
    change: of cycles against 8/8 on the same target, as a fraction.
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
    start: the uniform assignment it was raised from.
    before, after: the same layer at both precisions.
    why: where the cycles went, in words.
  """

  start: str
  before: Cost
  after: Cost
  why: str

  @property
  def saved(self) -> dict[str, int]:
    """Cycles saved by cause; negative where a cause costs more."""
    after = self.after.parts
    return {name: n - after[name] for name, n in self.before.parts.items()}


class Budget(NamedTuple):
  """Cycles of the whole network for one part of L2 left to tensors, bytes.

  `cycles` maps the names of `Whole` to cycles; empty where a layer does not
  fit.
  """

  size: int
  cycles: Mapping[str, int]
  is_default: bool = False


@dataclasses.dataclass(frozen=True)
class Profile:
  """All that the pictures and the page of a profile show.

  Attributes:
    network, target: names for the reader.
    targets: names of all targets compared, `target` among them.
    layers: names in the order they run.
    costs: every layer at every precision with 8-bit (or 32-bit) outputs on
      every target.
    uniform: by (target, name of a uniform assignment), the costs of the layers
      in that network, whose fixed tensors keep their bits.
    wholes: networks, target by target.
    gains: layers faster at a higher precision, on `target`.
    budgets: the sweep of L2, ascending.
    peaks: MAC/cycle of inner loops by (target, "conv" or "depthwise", name of
      a uniform assignment).
    dma_bytes_per_cycle, l3_bytes_per_cycle, clock_hertz: of `target`.
    published_source: where the published figures are from, or "".
    constants: of the target: (name, value, whether overridden).
    facts, config, assumptions: as in `html.Report`.
  """

  network: str
  target: str
  targets: Sequence[str]
  layers: Sequence[str]
  costs: Sequence[Cost]
  uniform: Mapping[tuple[str, str], Sequence[Cost]]
  wholes: Sequence[Whole]
  gains: Sequence[Gain]
  budgets: Sequence[Budget]
  peaks: Mapping[tuple[str, str, str], float]
  dma_bytes_per_cycle: float
  l3_bytes_per_cycle: float
  clock_hertz: float
  published_source: str = ""
  constants: Sequence[tuple[str, object, bool]] = ()
  facts: Mapping[str, object] = dataclasses.field(default_factory=dict)
  config: Mapping[str, object] = dataclasses.field(default_factory=dict)
  assumptions: Sequence[str] = ()

  def whole(self, name: str, target: str | None = None) -> Whole:
    """The network of that name, on the profile's target unless one is given."""
    key = target or self.target, name
    return {(w.target, w.name): w for w in self.wholes}[key]

  def kinds(self) -> list[str]:
    """Kinds of layers with weights, in the order the network meets them."""
    return list(
      dict.fromkeys(c.kind for c in self.costs if c.weight_bits is not None)
    )

  def relative(
    self, target: str, kind: str, in_bits: int, weight_bits: int
  ) -> float:
    """Cycles of all layers of a kind, over those at 8/8."""

    def total(bits):
      return sum(
        cost.cycles
        for cost in self.costs
        if (cost.target, cost.kind) == (target, kind)
        and (cost.in_bits, cost.weight_bits) == bits
      )

    return total((in_bits, weight_bits)) / total((8, 8))


def write_csv(path: str | os.PathLike, costs: Sequence[Cost]) -> None:
  """One row per cost; "-" where a layer has no weights."""
  text = io.StringIO(newline="")
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(Cost._fields)
  for cost in costs:
    writer.writerow("-" if value is None else value for value in cost)
  tables.write_atomically(path, text.getvalue().encode())


def wholes_table(profile: Profile):
  """A `rich.table.Table` of the uniform networks and their Free Bits ones."""
  from rich.table import Table

  published = any(whole.published is not None for whole in profile.wholes)
  overrides = profile.target.partition(" ")[2]
  table = Table(title=f"{profile.network} {overrides}: cycles per image")
  table.add_column("target")
  table.add_column("assignment")
  headings = ["cycles", "ms", "vs 8/8", "layers raised"]
  headings += ["published"] * published
  for heading in headings:
    table.add_column(heading, justify="right", no_wrap=True)
  for whole in profile.wholes:
    cells = [
      f"{whole.cycles:,}",
      f"{whole.cycles / profile.clock_hertz * 1e3:,.2f}",
      f"{whole.change:+.1%}",
      str(whole.raised) if "FB" in whole.name else "",
    ]
    if published:
      cells.append("" if whole.published is None else f"{whole.published:+.1%}")
    table.add_row(
      whole.target.partition(" ")[0],
      whole.name,
      *cells,
      end_section=whole.name == "2/2+FB",
    )
  return table
