"""Cells of tables as the template and the terminal write them."""

import itertools
import math
import numbers
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeGuard

from fbq.report.blocks import Cell, Column, Table

_MISSING = "–"  # The script of the page sorts it last.
_LONGEST_BAR = 4.5  # rem
_NAME = 18  # letters of a name that a terminal shows on a line


class View(NamedTuple):
  """A cell as the template writes it.

  Attributes:
    tag: "th" for the name of the row, else "td".
    kind: kind of its column, see `Column`.
    text: in words or digits; "" beside chips.
    chips: bit-widths.
    sort: by what rows are sorted; None: by what the cell shows.
    width: length of a bar in rem; 0 for none.
    note, href: see `Cell`.
  """

  tag: str
  kind: str
  text: str
  chips: Sequence[object]
  sort: float | None
  width: float
  note: str
  href: str

  @property
  def words(self) -> str:
    """All that it shows, without colours."""
    chips = (_MISSING if bits is None else str(bits) for bits in self.chips)
    return f"{' / '.join(chips)}{self.text} {self.note}".strip()


def groups(columns: Sequence[Column]) -> list[tuple[str, int]]:
  """Headings above the columns, and how many columns each is above."""
  runs = itertools.groupby(column.group for column in columns)
  return [(group, len(list(members))) for group, members in runs]


def views(table: Table) -> list[list[View]]:
  """Every row of a table."""
  kinds = [column.kind for column in table.columns]
  names = kinds.index("text") if "text" in kinds else None
  rows = [
    [value if isinstance(value, Cell) else Cell(value) for value in row]
    for row in table.rows
  ]
  most = [
    max((c.value for c in column if _is_number(c.value)), default=0)
    for column in zip(*rows, strict=True)
  ]
  return [
    [
      _view(cell, column, "th" if i == names else "td", most[i])
      for i, (cell, column) in enumerate(zip(row, table.columns, strict=True))
    ]
    for row in rows
  ]


class Printed(NamedTuple):
  """A table for a terminal: as many columns, the first ones, as it is wide.

  Columns of kind "soft" and "long" are left to the page.
  """

  table: Table
  title: str = ""

  def __rich_console__(self, console, options) -> Iterator[object]:
    from rich.table import Table as Shown
    from rich.text import Text

    kept = [c.kind not in ("soft", "long") for c in self.table.columns]
    columns = list(itertools.compress(self.table.columns, kept))
    words = [
      [view.words for view in itertools.compress(row, kept)]
      for row in views(self.table)
    ]
    least = [
      _least(c, cells)
      for c, cells in zip(columns, _turned(words, columns), strict=True)
    ]
    count = _fitting(least, options.max_width)

    # As `Text`, in which rich finds no markup, whatever a name contains.
    shown = Shown(
      title=Text(self.title or self.table.label),
      box=None,
      padding=(0, 1, 0, 0),
    )
    for column, width in zip(columns[:count], least, strict=False):
      is_text = column.kind == "text"
      shown.add_column(
        Text(column.heading),
        justify="right" if column.kind in ("number", "bar") else "left",
        no_wrap=not is_text,
        min_width=min(width, options.max_width // 2) if is_text else None,
        overflow="fold",
      )
    marks = self.table.marks or [""] * len(words)
    for mark, row in zip(marks, words, strict=True):
      style = "bold" if mark == "best" else None
      shown.add_row(*map(Text, row[:count]), style=style)
    yield shown
    if left := len(columns) - count:
      yield Text(f"{left} more column{'s'[: left - 1]} in the page", "dim")


def printed(table: Table, title: str = "") -> Printed:
  """What `rich` prints of a table."""
  return Printed(table, title)


def _turned(rows, columns) -> list[Sequence[str]]:
  """Columns of rows."""
  return list(zip(*rows, strict=True)) if rows else [()] * len(columns)


def _least(column: Column, words: Sequence[str]) -> int:
  """Letters that a column needs: long names may break between their words."""
  whole = max(map(len, [*column.heading.split("\n"), *words]), default=0)
  if column.kind != "text":
    return whole
  pieces = " ".join([column.heading, *words]).split()
  return min(whole, max(_NAME, *map(len, pieces)))


def _fitting(least: Sequence[int], width: int) -> int:
  """How many of the first columns fit; the name and a number always stay."""
  ends = itertools.accumulate(n + 1 for n in least)
  return max(min(3, len(least)), sum(end <= width + 1 for end in ends))


def _view(cell: Cell, column: Column, tag: str, most: float) -> View:
  value, chips = cell.value, ()
  sort = value if _is_number(value) else None
  if cell.text is not None:
    text = cell.text
  elif column.kind == "bits":
    text, sort = "", None
    chips = value if isinstance(value, (tuple, list)) else (value,)
  elif sort is not None and column.kind in ("number", "bar"):
    text = column.format.format(value)
  else:
    text = _MISSING if value is None or value != value else str(value)
  if cell.error is not None and not math.isnan(cell.error):
    text += f" ± {column.format.format(cell.error).lstrip('+')}"
  width = 0.0
  if column.kind == "bar" and sort is not None and most > 0:
    width = round(_LONGEST_BAR * sort / most, 2)
  return View(tag, column.kind, text, chips, sort, width, cell.note, cell.href)


def _is_number(value: object) -> TypeGuard[float]:
  return isinstance(value, numbers.Real) and not math.isnan(value)
