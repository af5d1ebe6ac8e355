"""Signs of life: how far a training is, and a line every so often."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping

# What `monitoring.Meter` reads, in words; what matters least is last.
_SPEEDS = {
  "images_per_second": "{:,.0f} images/s",
  "waiting": "{:.0%} waiting",
  "compile_seconds": "{:.1f} s compiling",
  "device_bytes": "{:,.0f} B on the device",
}


class Doing:
  """How far a training is; what a bar and a line say of it."""

  def __init__(self, title: str, steps: int, done: int = 0):
    """
    Args:
      title: name of the training.
      steps: steps in all.
      done: steps that were done before.
    """
    self._title, self._steps, self._step = title, steps, done
    # Time is told by the pace since the first move: what is before it is
    # mostly compilation, which does not come again.
    self._first: tuple[float, int] | None = None
    self._now = 0.0
    self._told: list[str] = []

  def move(
    self, step: int, metrics: Mapping[str, float], speed: Mapping[str, float]
  ) -> None:
    """Notes that so many steps are done, and what came of them."""
    self._now = time.perf_counter()
    self._first = self._first or (self._now, step)
    self._step = step
    told = [f"{name} {value:.3f}" for name, value in metrics.items()]
    self._told = told + [
      text.format(speed[name])
      for name, text in _SPEEDS.items()
      if name in speed
    ]

  @property
  def seconds_left(self) -> float | None:
    """By the pace so far; None where nothing can be said yet."""
    if self._first is None or self._step == self._first[1]:
      return None
    begun, first = self._first
    pace = (self._now - begun) / (self._step - first)
    return pace * (self._steps - self._step)

  def __str__(self) -> str:
    """A line: name, step, loss, speed, time left."""
    parts = [f"step {self._step:,} of {self._steps:,}", *self._told]
    if (left := self.seconds_left) is not None:
      parts.append(f"{duration(left)} left")
    return f"{self._title}: {', '.join(parts)}"

  def fitted(self, width: int) -> str:
    """The same in so many letters: what matters least goes first."""
    left = self.seconds_left
    end = f"{self._step}/{self._steps}"
    if left is not None:
      end += f" {duration(left)} left"
    title = self._title
    if len(title) + 1 + len(end) > width:
      room = max(1, width - len(end) - 2)
      title = title[:room] + "…" if room < len(title) else title
    text = f"{title} {end}"
    for part in self._told:
      if len(text) + 2 + len(part) > width:
        break
      text += f"  {part}"
    return text[: max(width, 1)]


def duration(seconds: float) -> str:
  """About how long, for instance '40 s', '3 min' or '2.5 h'."""
  if seconds < 90:
    return f"{seconds:.0f} s"
  if seconds < 5400:
    return f"{seconds / 60:.0f} min"
  return f"{seconds / 3600:.1f} h"


@contextlib.contextmanager
def beating(tell: Callable[[], None], seconds: float) -> Iterator[None]:
  """Within, `tell` is called every so many seconds, by a thread of its own.

  A thread, as compilation and long steps give the training's own no chance.
  """
  over = threading.Event()

  def beat():
    while not over.wait(seconds):
      tell()

  thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
  thread.start()
  try:
    yield
  finally:
    over.set()
    thread.join()
