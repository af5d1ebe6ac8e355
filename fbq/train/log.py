"""What a run tells while it works: metrics.jsonl, progress bars, lines."""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import (
  BarColumn,
  MofNCompleteColumn,
  Progress,
  TextColumn,
  TimeRemainingColumn,
)

from fbq.files import write_atomically
from fbq.train import monitoring, processes

_SPEEDS = {
  "images_per_second": "{:,.0f} images/s",
  "waiting": "{:.0%} waiting",
  "compile_seconds": "{:.1f} s compiling",
  "device_bytes": "{:,.0f} B on the device",
}


class Log:
  """Metrics of all stages in one file, and a bar on a terminal.

  Attributes:
    console: terminal that tables and lines are printed on.
  """

  def __init__(self, path: Path, console: Console | None = None):
    self._path = Path(path)
    self.console = console or _console()

  @property
  def workdir(self) -> Path:
    """Directory of the run."""
    return self._path.parent

  def resume(self, stage: str, step: int) -> None:
    """Drops lines of `stage` after `step`, which will be written again.

    A line cut off by a kill is dropped too.
    """
    if not self._path.exists():
      return
    kept = []
    for line in self._path.read_text().splitlines():
      with contextlib.suppress(json.JSONDecodeError):
        entry = json.loads(line)
        if entry["stage"] != stage or entry["step"] <= step:
          kept.append(line)
    write_atomically(self._path, "".join(line + "\n" for line in kept))

  def write(
    self, stage: str, step: int, speed: Mapping[str, float], **metrics: float
  ) -> None:
    """Appends one line: the metrics of a stage after a number of steps.

    Args:
      stage, step: stage and number of steps that the metrics belong to.
      speed: what differs from run to run, from `monitoring.Meter`; apart, so
        that all else in the file is the same when a run is done again.
      metrics: numbers of the training.
    """
    entry = {"stage": stage, "step": step, **metrics, "speed": dict(speed)}
    with self._path.open("a") as file:
      file.write(json.dumps(entry) + "\n")
    monitoring.write_board(self.workdir, stage, step, {**metrics, **speed})

  def say(self, text: str) -> None:
    """One line for the reader."""
    self.console.print(text, markup=False)

  @contextlib.contextmanager
  def bar(self, title: str, steps: int, done: int) -> Iterator:
    """A function (steps done, metrics, speed) that moves a stage's bar."""
    with Progress(
      TextColumn("{task.description}"),
      BarColumn(bar_width=24),
      MofNCompleteColumn(),
      TextColumn("{task.fields[metrics]}"),
      TimeRemainingColumn(),
      console=self.console,
      transient=True,
      disable=not self.console.is_terminal,
    ) as progress:
      task = progress.add_task(title, total=steps, completed=done, metrics="")

      def move(
        step: int,
        metrics: Mapping[str, float],
        speed: Mapping[str, float] = {},  # noqa: B006  never changed
      ) -> None:
        parts = [f"{name} {value:.3f}" for name, value in metrics.items()]
        parts += [
          text.format(speed[name])
          for name, text in _SPEEDS.items()
          if name in speed
        ]
        progress.update(task, completed=step, metrics="  ".join(parts))

      yield move


def _console() -> Console:
  """As wide as the terminal; wide enough for the table where there is none.

  Of several processes the first alone speaks.
  """
  console = Console(highlight=False, quiet=not processes.is_first())
  if not console.is_terminal and "COLUMNS" not in os.environ:
    console.width = 120
  return console


class Stopwatch:
  """Seconds of wall time of each stage."""

  def __init__(self):
    self.seconds: dict[str, float] = {}

  @contextlib.contextmanager
  def measure(self, name: str) -> Iterator[None]:
    """Adds the time of the block to `name`."""
    start = time.perf_counter()
    try:
      yield
    finally:
      passed = time.perf_counter() - start
      self.seconds[name] = self.seconds.get(name, 0.0) + passed
