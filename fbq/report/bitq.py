"""Results of block formats: records, the choice by eq. 1 of BitQ, the table."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

from fbq.report import records
from hwsim.bfp.energy import Traffic
from hwsim.bfp.formats import BlockFormat

PAPER_FACTOR = 32  # of its table 4, whose picojoules per access count per bit


@dataclasses.dataclass(frozen=True)
class Outcome:
  """A network of block formats, trained and costed.

  Attributes:
    name: unique.
    family: "BitQ", "uniform", "published" or "ablation".
    word: bits it is labelled with.
    formats: {site: format}, as priced.
    traffic: of every layer with weights.
    joules: of data movement, eq. 8.
    test, validation: accuracy after training, 0 to 1; None if not trained.
    untrained_test: accuracy of the float network's weights in these formats.
    divergence: predicted KL from the float network, in nats; None outside of
      the searched formats.
    source, text: where the formats are from, and the formats in words.
  """

  name: str
  family: str
  word: int
  formats: Mapping[str, BlockFormat]
  traffic: tuple[Traffic, ...]
  joules: float
  test: float | None
  validation: float | None
  untrained_test: float | None
  divergence: float | None
  source: str = ""
  text: str = ""

  def __post_init__(self):
    for field in ("test", "validation", "untrained_test"):
      value = getattr(self, field)
      if value is not None:
        records.fraction(value, f"{self.name}: {field}")

  @property
  def percent(self) -> float:
    """Test accuracy of a network that was trained."""
    assert self.test is not None, f"{self.name} was not trained"
    return 100 * self.test

  @property
  def dram_bits(self) -> float:
    return float(sum((t.dram_bits for t in self.traffic), Fraction(0)))

  @property
  def sram_bits(self) -> float:
    return float(sum((t.sram_bits for t in self.traffic), Fraction(0)))

  @property
  def tensor_bits(self) -> tuple[float, float, float]:
    """DRAM traffic of inputs, weights and outputs."""
    parts = zip(*(t.tensor_bits for t in self.traffic), strict=True)
    first, second, third = (float(sum(part, Fraction(0))) for part in parts)
    return first, second, third


def objective(outcome: Outcome, float_accuracy: float, largest, alpha) -> float:
  """Eq. 1 with what was measured: accuracy lost + alpha movement / largest.

  Args:
    outcome: trained.
    float_accuracy: of FP32 after the same training, on validation images.
    largest: data movement of the widest formats, in bits.
    alpha: the weight of movement.
  """
  assert outcome.validation is not None, f"{outcome.name} was not trained"
  lost = float_accuracy - outcome.validation
  return lost + alpha * outcome.dram_bits / float(largest)


def recommended(
  outcomes: Sequence[Outcome], float_accuracy: float, largest, alpha: float
) -> Outcome:
  """The one of least `objective`; of equals the one that moves less."""
  return min(
    outcomes,
    key=lambda o: (
      objective(o, float_accuracy, largest, alpha),
      o.dram_bits,
      o.name,
    ),
  )


def formats_in_words(formats: Mapping[str, BlockFormat]) -> str:
  """For instance 'X 4-6, blocks 16-48' over all tensors."""

  def span(values):
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low}-{high}"

  chosen = set(formats.values())
  return (
    f"X {span([f.element_bits for f in chosen])}, "
    f"SE {span([f.exponent_bits for f in chosen])}, "
    f"BS {span([f.block_size for f in chosen])}"
  )


def console_table(outcomes: Sequence[Outcome], test_count: int, best: set[str]):
  """A `rich.table.Table`, most movement first; ★ marks the names in `best`."""
  from rich.table import Table

  reference = next(o for o in outcomes if o.name == "FP32")
  table = Table(title="Block formats; ★ recommended by eq. 1")
  table.add_column("network", overflow="fold")
  table.add_column("formats", overflow="fold")
  for heading in ("DRAM kB", "vs FP32", "energy uJ", "accuracy %", "untrained"):
    table.add_column(heading, justify="right", no_wrap=True)
  for o in sorted(outcomes, key=lambda o: -o.dram_bits):
    table.add_row(
      ("★ " if o.name in best else "  ") + o.name,
      o.text or formats_in_words(o.formats),
      f"{o.dram_bits / 8192:,.1f}",
      f"{o.dram_bits / reference.dram_bits:.3f}",
      f"{o.joules * 1e6:,.2f}",
      accuracy_text(o.test, test_count),
      "–" if o.untrained_test is None else f"{o.untrained_test * 100:.2f}",
      style="bold" if o.name in best else None,
    )
  return table


def accuracy_text(accuracy: float | None, test_count: int) -> str:
  """Percent with one binomial standard error."""
  if accuracy is None:
    return "–"
  error = records.standard_error(accuracy, test_count)
  return f"{accuracy * 100:.2f} ±{error * 100:.2f}"


def is_apart(a: float, b: float, test_count: int) -> bool:
  """Whether accuracies differ by more than two standard errors."""
  errors = [records.standard_error(x, test_count) for x in (a, b)]
  return abs(a - b) > 2 * math.hypot(*errors)
