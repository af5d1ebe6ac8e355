"""The page of a Free Bits run: which precision each tensor should have."""

from pathlib import Path

from fbq.report import page, points_page
from fbq.report.assignments import Assignments
from fbq.report.run import Run
from fbq.train.log import Log


def write(results: Assignments, run: Run, workdir: Path) -> None:
  """Writes report.html and its picture."""
  page.write(
    workdir / "report.html",
    *points_page.heading(results),
    points_page.content(results),
    points_page.about(results, run, workdir),
  )


def tell(results: Assignments, log: Log) -> None:
  """Prints the table of all assignments and the answer."""
  points_page.tell(results, log)
