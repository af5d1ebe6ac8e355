"""The page of a Free Bits run: which precision each tensor should have."""

from pathlib import Path

from fbq.experiments.exact.results import Chosen
from fbq.report.run import Run
from fbq.train.log import Log


def write(results: Chosen, run: Run, workdir: Path) -> None:
  """Writes report.html and its picture."""


def tell(results: Chosen, log: Log) -> None:
  """Prints the table of all assignments and the answer."""
  from fbq.report import recommend, tables

  found = results.assignments
  best = recommend(found.points, found.reference, found.tolerance)
  log.console.print(tables.results_table(found.points, best, found.test_count))
  log.say(tables.summary(best))
