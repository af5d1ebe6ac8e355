"""Tables 2 to 6 of the whitepaper (arXiv 1806.08342): what stands in a cell.

A cell is a network after one recipe, a `Case`; tables share cases, as in the
paper, where table 6 repeats a column of table 5.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fbq.report import whitepaper_published
from fbq.report.shootout import Mean, mean

PTQ, QAT = "ptq", "qat"


class Case(NamedTuple):
  """How a float network was quantized.

  Attributes:
    method: `PTQ` or `QAT`; "float" stays as it is.
    weight_bits: None leaves weights in float.
    activation_bits: None leaves activations in float.
    form: of the weights' grids, see `fbq.quantizers.affine`; the paper's
      symmetric ones are restricted.
    per_channel: weights have one grid for each output channel, else one.
    folded: batch norms into the weights, before these are quantized.
  """

  method: str
  weight_bits: int | None = None
  activation_bits: int | None = None
  form: str = "restricted"
  per_channel: bool = True
  folded: bool = True

  @property
  def name(self) -> str:
    """Short and unique, for files."""
    if self == FLOAT:
      return "float"
    widths = f"w{self.weight_bits or 32}a{self.activation_bits or 32}"
    words = [self.method, widths]
    if self.weight_bits:
      words += [
        "asymmetric" if self.form == "affine" else "symmetric",
        "channel" if self.per_channel else "layer",
      ]
    return "-".join(words) + "-unfolded" * (not self.folded)


class Column(NamedTuple):
  """A column of a table.

  Attributes:
    heading: for people.
    case: what stands in it.
    key: of the published one, "" for a column of ours.
  """

  heading: str
  case: Case
  key: str = ""


class Table(NamedTuple):
  """One of the whitepaper's tables."""

  number: int
  title: str
  columns: tuple[Column, ...]


class Cell(NamedTuple):
  """Ours beside the published.

  Attributes:
    ours: accuracy over seeds.
    lost: float minus ours, within seeds.
    published: accuracy; None if there is none.
    published_lost: the same of the published.
  """

  ours: Mean
  lost: Mean
  published: float | None
  published_lost: float | None


FLOAT = Case("float")


def _weights(activation_bits: int | None, keys: Sequence[str]):
  """Columns of the three kinds of 8-bit weights, not trained."""
  kinds = (("affine", False), ("restricted", True), ("affine", True))
  headings = ("asym. per layer", "sym. per channel", "asym. per channel")
  return tuple(
    Column(heading, Case(PTQ, 8, activation_bits, *kind), key)
    for heading, kind, key in zip(headings, kinds, keys, strict=True)
  )


_KEYS = (
  "asymmetric_per_layer",
  "symmetric_per_channel",
  "asymmetric_per_channel",
)
_UNFOLDED = Case(PTQ, 8, 8, "affine", False, folded=False)
W4A8 = Case(QAT, 4, 8, "restricted", True)
TABLES = (
  Table(2, "8-bit weights, not trained", _weights(None, _KEYS)),
  Table(
    3,
    "8-bit weights and activations, not trained",
    (
      *_weights(8, _KEYS),
      Column("activations only", Case(PTQ, None, 8), "activation_only"),
      Column("asym. per layer, not folded", _UNFOLDED),
    ),
  ),
  Table(
    4,
    "8-bit weights and activations, trained quantized (QAT) or not (PTQ)",
    (
      Column(
        "PTQ asym. per layer",
        Case(PTQ, 8, 8, "affine", False),
        "ptq_asymmetric_per_layer",
      ),
      Column(
        "PTQ sym. per channel",
        Case(PTQ, 8, 8, "restricted", True),
        "ptq_symmetric_per_channel",
      ),
      Column(
        "QAT asym. per layer",
        Case(QAT, 8, 8, "affine", False),
        "qat_asymmetric_per_layer",
      ),
      Column(
        "QAT sym. per channel",
        Case(QAT, 8, 8, "restricted", True),
        "qat_symmetric_per_channel",
      ),
    ),
  ),
  Table(
    5,
    "4-bit weights, 8-bit activations",
    (
      Column(
        "PTQ asym. per layer",
        Case(PTQ, 4, 8, "affine", False),
        "ptq_asymmetric_per_layer",
      ),
      Column(
        "PTQ sym. per channel",
        Case(PTQ, 4, 8, "restricted", True),
        "ptq_symmetric_per_channel",
      ),
      Column("PTQ asym. per channel", Case(PTQ, 4, 8, "affine", True)),
      Column("QAT asym. per layer", Case(QAT, 4, 8, "affine", False)),
      Column("QAT sym. per channel", W4A8, "qat_symmetric_per_channel"),
    ),
  ),
  Table(
    6,
    "8-bit weights, 4-bit activations; symmetric per channel",
    (
      Column("PTQ W8A4", Case(PTQ, 8, 4, "restricted", True), "ptq_w8a4"),
      Column("QAT W8A4", Case(QAT, 8, 4, "restricted", True), "qat_w8a4"),
      Column("QAT W4A8", W4A8, "qat_w4a8"),
    ),
  ),
)
CASES = tuple(dict.fromkeys(c.case for table in TABLES for c in table.columns))
# Of networks of several widths.
WIDTH_CASES = tuple(
  Case(method, bits, 8, "restricted", True)
  for method in (PTQ, QAT)
  for bits in (8, 4)
)


def published(builder: str, table: Table, column: Column) -> float | None:
  """What the whitepaper has in a column for the family of a builder."""
  return whitepaper_published.accuracy(builder, table.number, column.key)


def cells(
  builder: str, table: Table, accuracies: Mapping[Case, Sequence[float]]
) -> list[Cell | None]:
  """One for each column; None where the run has no such case.

  Args:
    builder: of the network.
    table: of `TABLES`.
    accuracies: case -> of each seed; `FLOAT` among them.
  """
  in_float = accuracies[FLOAT]
  reference = whitepaper_published.in_float(builder)
  found = []
  for column in table.columns:
    if column.case not in accuracies:
      found.append(None)
      continue
    ours = accuracies[column.case]
    theirs = published(builder, table, column)
    lost = [a - b for a, b in zip(in_float, ours, strict=True)]
    found.append(
      Cell(
        known(mean(ours)),
        known(mean(lost)),
        theirs,
        None if theirs is None or reference is None else reference - theirs,
      )
    )
  return found


def known(value: Mean | None) -> Mean:
  assert value is not None
  return value


def console_table(
  table: Table,
  rows: Mapping[str, tuple[str, Mapping[Case, Sequence[float]]]],
):
  """A `rich.table.Table`: three lines a network: ours, what it and they lose.

  Args:
    table: of `TABLES`.
    rows: network -> (its builder, accuracies).
  """
  from rich.table import Table as Rich

  shown = Rich(title=f"Table {table.number}: {table.title}; points of accuracy")
  shown.add_column("network", no_wrap=True)
  for heading in ("float", *(column.heading for column in table.columns)):
    shown.add_column(heading, justify="right")
  for name, (builder, accuracies) in rows.items():
    found = cells(builder, table, accuracies)
    ours = [str(known(mean(accuracies[FLOAT])))]
    ours += ["–" if cell is None else str(cell.ours) for cell in found]
    lost = ["–" if cell is None else signed(-cell.lost.value) for cell in found]
    theirs = [
      "–" if not cell or cell.published_lost is None
      else signed(-cell.published_lost)
      for cell in found
    ]  # fmt: skip
    shown.add_row(name, *ours, style="bold")
    shown.add_row("  against float", "", *lost)
    shown.add_row("  published", "", *theirs)
  return shown


def signed(share: float) -> str:
  """Points of a difference between shares, such as "-1.25"."""
  return f"{100 * share:+z.2f}"
