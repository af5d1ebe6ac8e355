"""What an exact choice came to."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from fbq.report.assignments import Assignments
from fbq.search import problem
from fbq.search.certificate import Certificate


@dataclasses.dataclass(frozen=True)
class Chosen:
  """The chosen assignments beside uniform ones, and what they were chosen by.

  Attributes:
    assignments: every assignment with its results.
    measure: what makes a precision harmful, "kl", "loss" or "mse".
    harm: {tensor: {bits: harm to the float network, alone}}, of the first seed.
    front: (cycles, sum of harms) of the assignments on the exact front,
      likewise.
    front_error: cycles to which the front is exact.
    images: calibration images on which harm was measured.
    agreement: rank correlation of the sum of harms with the loss measured in
      validation, over the points of each seed; None where all are equal.
    certificates: what is proven of the choice under each budget, of the first
      seed.
    choices: power of ten of how many assignments there are in all.
  """

  assignments: Assignments
  measure: str
  harm: dict[str, dict[int, float]]
  front: tuple[tuple[int, float], ...]
  front_error: int
  images: int
  agreement: tuple[float | None, ...]
  certificates: tuple[Certificate, ...] = ()
  choices: float = 0.0

  def table(self) -> Iterator[Sequence[Any]]:
    """Rows of results.csv, the headings first."""
    return self.assignments.table()

  def summary(self) -> dict[str, Any]:
    """What result.json says."""
    return self.assignments.summary()


def front_rows(front: problem.Candidates) -> Iterator[Sequence[Any]]:
  """Headings, then an assignment of the front: costs, harm, bits by site."""
  yield [*front.costs, "harm", *(f"bits:{site}" for site in front.sites)]
  for i in range(len(front.value)):
    costs = [int(cost[i]) for cost in front.costs.values()]
    yield [*costs, repr(-float(front.value[i])), *front.bits[i]]
