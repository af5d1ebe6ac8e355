"""Rules of quantization-aware training side by side, and beside float."""

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from pathlib import Path

from fbq.report import figures, records, tables
from fbq.report.shootout import Mean, mean


@dataclasses.dataclass(frozen=True)
class Outcome:
  """One network, trained.

  Attributes:
    method: rule of training.
    seed: of everything random.
    float_accuracy: of the float network of this seed.
    before: quantized, before training.
    after: after it.
  """

  method: str
  seed: int
  float_accuracy: float
  before: float
  after: float

  def __post_init__(self):
    for name in ("float_accuracy", "before", "after"):
      where = f"{self.method} of seed {self.seed}: {name}"
      records.fraction(getattr(self, name), where)


@dataclasses.dataclass(frozen=True)
class Row:
  """A method over its seeds.

  Attributes:
    method: its name.
    before, after: accuracies.
    lost: accuracy that the float network has more, within seeds.
    ahead: accuracy that the chosen method has more, within seeds.
  """

  method: str
  before: Mean
  after: Mean
  lost: Mean
  ahead: Mean


def rows(outcomes: Sequence[Outcome], chosen: str) -> list[Row]:
  """Every method, the chosen one first, then by mean accuracy.

  Raises:
    ValueError: a method lacks a seed that another one has.
  """
  by_method: dict[str, dict[int, Outcome]] = {}
  for o in outcomes:
    by_method.setdefault(o.method, {})[o.seed] = o
  reference, found = by_method[chosen], []
  for method, of_seed in by_method.items():
    if of_seed.keys() != reference.keys():
      raise ValueError(
        f"{method} has seeds {sorted(of_seed)}, expected {sorted(reference)}"
      )
    found.append(
      Row(
        method,
        _mean([o.before for o in of_seed.values()]),
        _mean([o.after for o in of_seed.values()]),
        _mean([o.float_accuracy - o.after for o in of_seed.values()]),
        _mean([reference[s].after - o.after for s, o in of_seed.items()]),
      )
    )
  return sorted(found, key=lambda r: (r.method != chosen, -r.after.value))


def verdict(rows_: Sequence[Row], words: str) -> str:
  """What the chosen method keeps, and whether another one does better.

  Args:
    rows_: of `rows`.
    words: the precision, for instance "4-bit weights and activations".
  """
  chosen, *others = rows_
  seeds = chosen.after.count
  text = (
    f"{words} by {chosen.method}: {chosen.after} % of the test images, "
    f"{chosen.lost} points below the float network"
  )
  text += f" (mean of {seeds} seeds)." if seeds > 1 else " (one seed)."
  better = [r for r in others if r.ahead.value < 0]
  if not others:
    return text
  if not better:
    return f"{text} No other rule tried is better."
  best = min(better, key=lambda r: r.ahead.value)
  gain = Mean(-best.ahead.value, best.ahead.error, best.ahead.count)
  text += f" {best.method} is {gain} points better"
  if not math.isnan(gain.error) and gain.value < 2 * gain.error:
    text += ", less than two standard errors"
  return f"{text}."


def write_csv(path: Path, outcomes: Sequence[Outcome], bits: int, activations):
  """One row for each trained network, accuracies in full."""
  text = io.StringIO(newline="")
  writer = csv.writer(text, lineterminator="\n")
  names = [field.name for field in dataclasses.fields(Outcome)]
  writer.writerow([*names, "bits", "activation_bits"])
  for o in outcomes:
    writer.writerow([*dataclasses.astuple(o), bits, activations])
  tables.write_atomically(path, text.getvalue().encode())


def console_table(rows_: Sequence[Row], outcomes: Sequence[Outcome]):
  """A `rich.table.Table` of the rows."""
  from rich.table import Table

  floats = {o.seed: o.float_accuracy for o in outcomes}
  float_accuracy = _mean(list(floats.values()))
  table = Table(title=f"Test accuracy (%); float {float_accuracy}")
  table.add_column("rule")
  for heading in ("before training", "after", "lost", "behind the chosen"):
    table.add_column(heading, justify="right", no_wrap=True)
  for r in rows_:
    numbers = (r.before, r.after, r.lost, r.ahead)
    table.add_row(r.method, *(str(number) for number in numbers))
  return table


def picture(outcomes: Sequence[Outcome], rows_: Sequence[Row]) -> bytes:
  """A PNG: accuracy of every seed before and after training, by method."""
  figure = figures.new(7.2, 0.9 + 0.55 * len(rows_))
  axes = figure.subplots()
  figures.bare(axes, "x")
  places = {r.method: -i for i, r in enumerate(rows_)}
  for o in outcomes:
    y = places[o.method]
    axes.plot(
      [100 * o.before, 100 * o.after],
      [y, y],
      color=figures.PALE,
      linewidth=2.5,
      zorder=1,
    )
    axes.plot(100 * o.before, y, "o", color=figures.GREY, markersize=4)
    axes.plot(100 * o.after, y, "o", color=figures.BLUE, markersize=5)
  float_ = _mean([o.float_accuracy for o in outcomes]).value
  axes.axvline(100 * float_, color=figures.VERMILION, linewidth=1)
  axes.set_yticks(list(places.values()), list(places), fontsize=9)
  axes.set_ylim(-len(rows_) + 0.4, 0.6)
  axes.set_xlabel("test accuracy (%)", fontsize=9)
  axes.tick_params(axis="x", labelsize=8)
  return figures.png(figure)


def _mean(values: Sequence[float]) -> Mean:
  found = mean(values)
  assert found is not None
  return found
