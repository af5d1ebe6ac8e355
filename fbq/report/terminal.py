"""Tables of pages for a terminal."""

from fbq.report import cells
from fbq.report.blocks import Table


def shown(table: Table):
  """A `rich.table.Table` of a page's table."""
  import rich.table
  from rich.text import Text

  found = rich.table.Table(title=table.label or None)
  for column in table.columns:
    is_number = column.kind in ("number", "bar", "bits")
    found.add_column(
      column.heading, justify="right" if is_number else "left", overflow="fold"
    )
  for row in cells.views(table):
    # Text, so that nothing in a name is taken for markup
    found.add_row(*(Text(c.text or " / ".join(map(str, c.chips))) for c in row))
  return found
