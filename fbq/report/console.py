"""Tables of pages on a terminal."""

from fbq.report import blocks, cells


def table(block: blocks.Table):
  """A `rich.table.Table` of the same rows; texts of many words are left out."""
  from rich.table import Table

  kept = [i for i, c in enumerate(block.columns) if c.kind != "long"]
  shown = Table(title=block.label)
  for column in (block.columns[i] for i in kept):
    heading = " ".join(column.heading.split())
    if column.kind in ("number", "bar"):
      shown.add_column(heading, justify="right")
    else:
      shown.add_column(heading, overflow="fold")
  for row in cells.views(block):
    texts = (row[i].text or "/".join(map(str, row[i].chips)) for i in kept)
    shown.add_row(*(text.replace("± ", "±") for text in texts))
  return shown
