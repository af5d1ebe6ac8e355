"""What a run tells while it works: metrics.jsonl, progress bars, lines."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from fbq.files import write_atomically
from fbq.train import monitoring, processes
from fbq.train.heartbeat import Doing, beating, duration


class Log:
  """Metrics of all stages in one file, and a bar on a terminal.

  Attributes:
    console: terminal that tables and lines are printed on.
  """

  def __init__(self, path: Path, console: Console | None = None):
    self._path = Path(path)
    self.console = console or _console()
    self._doing: Doing | None = None

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
    """A function (steps done, metrics, speed) that moves a stage's bar.

    Where there is no terminal, `alive` tells of it instead.
    """
    doing = Doing(title, steps, done)
    bar = BarColumn(bar_width=24)
    with Progress(
      bar,
      TextColumn("{task.description}", markup=False),
      console=self.console,
      transient=True,
      disable=not is_terminal(self.console),
    ) as progress:

      def shown() -> str:  # a terminal may be made wider or narrower meanwhile
        room = self.console.width - 2
        bar.bar_width = min(24, max(4, (room - 40) // 3))
        return doing.fitted(room - bar.bar_width)

      task = progress.add_task(shown(), total=steps, completed=done)

      def move(
        step: int,
        metrics: Mapping[str, float],
        speed: Mapping[str, float] = {},  # noqa: B006  never changed
      ) -> None:
        doing.move(step, metrics, speed)
        progress.update(task, completed=step, description=shown())

      before, self._doing = self._doing, doing
      try:
        yield move
      finally:
        self._doing = before

  def alive(
    self, stage: Callable[[], str], seconds: float = 60.0
  ) -> contextlib.AbstractContextManager[None]:
    """Within, a line after every minute says what is being done.

    With step, loss, speed and the time left where that is a training, whose bar
    says so on a terminal.

    Args:
      stage: what is being done where nothing is trained; "" says nothing.
      seconds: between lines.
    """

    def tell():
      doing = self._doing
      if doing is None:
        if said := stage():
          self.say(said)
      elif not is_terminal(self.console):
        self.say(str(doing))

    return beating(tell, seconds)


def is_terminal(console: Console) -> bool:
  """Whether what is printed is seen on a terminal.

  FORCE_COLOR makes rich take a pipe for one: its colours are welcome there, a
  bar that is drawn again and again is not.
  """
  return console.is_terminal and console.file.isatty()


def _console() -> Console:
  """As wide as the terminal; wide enough for the table where there is none.

  Of several processes the first alone speaks.
  """
  console = Console(highlight=False, quiet=not processes.is_first())
  if not is_terminal(console) and "COLUMNS" not in os.environ:
    console.width = 120
  return console


class Stopwatch:
  """Seconds of wall time of each stage."""

  def __init__(self):
    self.seconds: dict[str, float] = {}
    self._running: list[tuple[str, float]] = []

  @contextlib.contextmanager
  def measure(self, name: str) -> Iterator[None]:
    """Adds the time of the block to `name`."""
    start = time.perf_counter()
    self._running.append((name, start))
    try:
      yield
    finally:
      self._running.pop()
      passed = time.perf_counter() - start
      self.seconds[name] = self.seconds.get(name, 0.0) + passed

  def __str__(self):
    """What is being measured, and for how long; "" for nothing."""
    running = self._running[-1:]  # read once: another thread asks
    return "".join(
      f"{name}: {duration(time.perf_counter() - start)} so far"
      for name, start in running
    )
