"""Blocks that a page is made of: what is shown, never how it is written.

A page is a list of blocks; `page.write` makes HTML of it and escapes every
text. Values of tables are plain numbers and texts: their column formats them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field
from pydantic.dataclasses import dataclass


class Text(NamedTuple):
  """A paragraph.

  Attributes:
    text: one or more sentences.
    lead: its first words, in bold.
    note: whether it is small print, as below a table.
  """

  text: str
  lead: str = ""
  note: bool = False


def note(text: str) -> Text:
  """Small print, as below a table."""
  return Text(text, note=True)


class Answer(NamedTuple):
  """The answer to the question of the page, in a box.

  Attributes:
    sentences: shown in bold, one below the other.
    more: texts and links below them, in small print.
  """

  sentences: Sequence[str]
  more: "Sequence[Text | Links]" = ()


class Figures(NamedTuple):
  """Key numbers side by side: (number, what it is)."""

  items: Sequence[tuple[str, str]]


class Bullets(NamedTuple):
  """A list of sentences."""

  items: Sequence[str]


class Links(NamedTuple):
  """Links side by side: (text, address), "#anchor" within the page."""

  items: Sequence[tuple[str, str]]


class Code(NamedTuple):
  """Text to be read or copied letter by letter."""

  text: str


class Facts(NamedTuple):
  """Names and values, one pair below the other."""

  items: Mapping[str, object]


class Picture(NamedTuple):
  """A picture.

  Attributes:
    svg: text that `picture.svg` returns, with its name for those who do not
      see it.
    file: name under which `page.write` leaves it beside the page, if any.
  """

  svg: str
  file: str = ""


class Cell(NamedTuple):
  """A value of a table that needs more than its column says.

  Attributes:
    value: as any other value of the column; rows are sorted by it.
    text: shown instead of the formatted value.
    error: standard error, shown behind a number in the format of its column.
    note: small print behind it.
    href: address that it links to.
  """

  value: object
  text: str | None = None
  error: float | None = None
  note: str = ""
  href: str = ""


@dataclass(frozen=True)
class Column:
  """One column of a table.

  Attributes:
    heading: may have line breaks.
    kind: "soft": less important; "long": text of many words; "sign": a symbol;
      "bits": bit-widths, a number, None or several of them; "bar": a number as
      a bar, and as a text.
    format: how numbers are written, for `str.format`. None is shown as a dash.
    group: heading above it, shared by neighbours that have the same one.
  """

  heading: str
  kind: Literal["text", "soft", "long", "sign", "number", "bits", "bar"] = (
    "text"
  )
  format: str = "{:,}"
  group: str = ""


def percents(heading: str) -> Column:
  """A column of percents or points, such as `means.Mean.cell`."""
  return number(heading, "{:z.2f}")


def number(heading: str, format: str = "{:,}", group: str = "") -> Column:
  """A column of numbers."""
  return Column(heading, "number", format, group)


@dataclass(frozen=True)
class Table:
  """A table, which readers sort by its headings.

  Attributes:
    columns: what its columns are; the first of kind "text" names the rows.
    rows: a value per column: a text, a number, None, a `Cell`, or for "bits" a
      sequence of numbers.
    marks: "best", "like" (close to the best) or "" for every row; may be left
      out.
    label: what the table shows, for those who do not see it.

  Raises:
    ValueError: a row is of another length, a kind or a mark does not exist.
  """

  columns: Sequence[Column]
  rows: Sequence[Sequence[object]]
  marks: Sequence[Annotated[str, Field(pattern="^(best|like|)$")]] = ()
  label: str = ""

  @classmethod
  def of(
    cls,
    items: Iterable[Any],
    *columns: tuple[Column | str, Callable[[Any], object]],
    marks: Callable[[Any], Any] | None = None,
    label: str = "",
  ) -> Self:
    """A row for each item: every column with the value that it shows of it.

    A heading alone is a column of texts.
    """
    items = list(items)
    return cls(
      [Column(c) if isinstance(c, str) else c for c, _ in columns],
      [[value(item) for _, value in columns] for item in items],
      [marks(item) for item in items] if marks else (),
      label,
    )

  def __post_init__(self):
    name = self.label or ", ".join(column.heading for column in self.columns)
    for i, row in enumerate(self.rows):
      if len(row) != len(self.columns):
        raise ValueError(
          f"table {name!r}: row {i} has {len(row)} values, expected "
          f"{len(self.columns)}, one per column"
        )
    if self.marks and len(self.marks) != len(self.rows):
      raise ValueError(
        f"table {name!r}: {len(self.marks)} marks for {len(self.rows)} rows, "
        "expected one per row or none"
      )


class Details(NamedTuple):
  """Blocks that a click shows.

  Attributes:
    summary: line that is always seen.
    blocks: what it hides.
    note: small print behind the summary.
  """

  summary: str
  blocks: "Sequence[Block]"
  note: str = ""


class Section(NamedTuple):
  """Blocks under a heading; sections within sections have smaller ones.

  Attributes:
    title: the heading.
    blocks: what is under it.
    anchor: name for links to it, "#anchor".
  """

  title: str
  blocks: "Sequence[Block]"
  anchor: str = ""


Plain = Text | Answer | Figures | Bullets | Links | Code | Facts | Picture
Block = Plain | Table | Details | Section
