"""What a run tells at its end, as Markdown for documents."""

import html
import itertools
from collections.abc import Sequence
from typing import Any

from fbq.report import cells
from fbq.report.blocks import Table
from fbq.report.run import Run

_FACTS = ("date", "machine", "versions")


class Told:
  """Takes the place of a run's log: keeps what an experiment's `tell` says."""

  def __init__(self):
    self.parts: list[str] = []
    self.console = self

  def print(self, shown: object) -> None:
    """What is printed: tables become Markdown, other things text."""
    is_table = isinstance(shown, cells.Printed)
    self.parts.append(of_table(shown.table) if is_table else str(shown))

  def say(self, text: str) -> None:
    self.parts.append(_plain(text))


def told(kind: Any, results: Any, run: Run) -> list[str]:
  """What an experiment tells at the end of a run, then how that came about.

  Args:
    kind: the experiment, see `fbq.lab.experiment.load`.
    results: its record.
    run: how the record came about.
  """
  log = Told()
  kind.tell(results, log)
  return [*log.parts, origin(run)]


def of_table(table: Table) -> str:
  """Lines of a table; the best row is bold.

  As in a terminal, columns of kind "soft" and "long" are left to the page.
  """
  kept = [c.kind not in ("soft", "long") for c in table.columns]
  columns = list(itertools.compress(table.columns, kept))
  numbers = [c.kind in ("number", "bar") for c in columns]
  rows = [
    [view.words for view in itertools.compress(row, kept)]
    for row in cells.views(table)
  ]
  marks = table.marks or [""] * len(rows)
  lines = [
    _line([c.heading.replace("\n", " ") for c in columns]),
    _line(["---:" if right else "---" for right in numbers], escape=False),
  ]
  for mark, row in zip(marks, rows, strict=True):
    lines.append(_line(row, bold=mark == "best"))
  return "\n".join(lines)


def origin(run: Run) -> str:
  """One line: command, date, machine, versions, commit, seeds and time."""
  facts = [str(run.facts[name]) for name in _FACTS if name in run.facts]
  minutes = sum(run.stages.values()) / 60
  seeds = ", ".join(map(str, run.seeds))
  parts = [
    f"`{run.command}`",
    *facts,
    *([f"commit {run.commit[:9]}"] if run.commit else []),
    *([f"seeds {seeds}"] if seeds else []),
    f"{minutes:.0f} min of stages" if minutes >= 1 else "under a minute",
  ]
  return "; ".join(parts) + "."


def _line(words: Sequence[str], bold: bool = False, escape: bool = True) -> str:
  shown = [
    _plain(word).replace("|", "\\|") if escape else word for word in words
  ]
  if bold:
    shown = [f"**{word}**" if word else "" for word in shown]
  return f"| {' | '.join(shown)} |"


def _plain(text: str) -> str:
  """Text in which Markdown finds no marks."""
  text = html.escape(" ".join(text.split()), quote=False)
  for mark in ("\\", "`", "*", "_"):
    text = text.replace(mark, f"\\{mark}")
  return text
