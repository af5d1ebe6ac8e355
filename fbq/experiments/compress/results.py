"""What compressing a network came to."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from fbq.report.assignments import Assignments


@dataclasses.dataclass(frozen=True)
class Closeness:
  """How close a network is to the float network, on inputs held back.

  Attributes:
    kl: KL divergence of its class probabilities from the float network's, nats,
      on the inputs that are reported.
    agreement: share of these of the float network's class.
    validation_kl: KL divergence on the inputs that everything is chosen by.
  """

  kl: float
  agreement: float
  validation_kl: float


@dataclasses.dataclass(frozen=True)
class LayerRounding:
  """A layer's weights at one precision.

  Attributes:
    layer: name of the layer.
    bits: precision of its weights.
    error: mean squared error of its outputs; None where it was rounded to the
      nearest.
    nearest_error: the same if weights were rounded to the nearest.
  """

  layer: str
  bits: int
  error: float | None
  nearest_error: float | None


@dataclasses.dataclass(frozen=True)
class Integers:
  """The recommended assignment in integers.

  Attributes:
    files: names of what was written.
    images: inputs that were compared, those that are reported.
    same_class: of these, those of the simulated network's class.
    accuracy: share that is right, or of the float network's class.
    sizes: bytes by name.
    failed: {what went wrong: why}.
    left_out: {what this network cannot become: why}.
  """

  files: tuple[str, ...]
  images: int
  same_class: int
  accuracy: float
  sizes: dict[str, int]
  failed: dict[str, str]
  left_out: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Compressed:
  """A network out of a file at several precisions.

  Attributes:
    assignments: every assignment with its results; accuracies are agreements
      with the float network where inputs have no labels.
    labelled: whether they have.
    closeness: by name of the point.
    harm: {tensor: {bits: KL divergence alone, nats}}.
    passes: forward passes that this took.
    calibration_images: inputs of them.
    roundings: every layer at every precision.
    correlation: rank correlation of the sum of harms with the KL divergence
      that points came to in validation; None where it is not defined.
    budget_unit: what budgets are of.
    microjoules: by name of the point; empty where no power is set.
    integers: what the recommended assignment became.
    notes: sentences about the file.
  """

  assignments: Assignments
  labelled: bool
  closeness: dict[str, Closeness]
  harm: dict[str, dict[int, float]]
  passes: int
  calibration_images: int
  roundings: tuple[LayerRounding, ...]
  correlation: float | None
  budget_unit: str
  microjoules: dict[str, float]
  integers: Integers
  notes: tuple[str, ...]

  @property
  def measure(self) -> str:
    """What scores are of, in words."""
    return "accuracy" if self.labelled else "agreement"

  def table(self) -> Iterator[Sequence[Any]]:
    """Rows of results.csv, the headings first."""
    rows = self.assignments.table()
    yield [*next(rows), "kl", "agreement", "validation_kl", "microjoules"]
    for row in rows:
      close = self.closeness[str(row[0])]
      yield [
        *row,
        *(repr(close.kl), repr(close.agreement), repr(close.validation_kl)),
        self.microjoules.get(str(row[0])),
      ]

  def summary(self) -> dict[str, Any]:
    """What result.json says."""
    found = self.assignments.summary()
    for name, point in found["points"].items():
      point |= dataclasses.asdict(self.closeness[name])
    return found | {
      "measure": self.measure,
      "correlation": self.correlation,
      "integers": dataclasses.asdict(self.integers),
      "failed": self.integers.failed,
    }
