"""The page of a Free Bits run: which precision each tensor should have."""

from pathlib import Path

from fbq.lab.points import Assignments
from fbq.report.run import Run
from fbq.train.log import Log


def write(results: Assignments, run: Run, workdir: Path) -> None:
  """Writes report.html and its picture."""


def tell(results: Assignments, log: Log) -> None:
  """Prints the table of all assignments and the answer."""
  from fbq.report import recommend, tables

  best = recommend(results.points, results.reference, results.tolerance)
  log.console.print(
    tables.results_table(results.points, best, results.test_count)
  )
  log.say(tables.summary(best))
