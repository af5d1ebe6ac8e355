"""A live line on a terminal, a line per event where there is none."""

import sys
import time

from launch.local import Tally


class Progress:
  """Shows a `Tally`; use as a context and call."""

  def __init__(self):
    self._live = None
    self._told: set[str] = set()

  def __enter__(self):
    if sys.stdout.isatty():
      from rich.live import Live  # 30 ms

      self._live = Live(refresh_per_second=4)
      self._live.start()
    return self

  def __exit__(self, *_):
    if self._live:
      self._live.stop()

  def __call__(self, tally: Tally) -> None:
    if self._live:
      self._live.update(line(tally))
    for point_id, error in tally.failed.items():
      if point_id not in self._told:
        self._say(f"failed {point_id}: {error}")
    if not self._live:
      for point_id in sorted(tally.done - self._told):
        self._say(f"done {point_id}  [{line(tally)}]")
    self._told |= tally.failed.keys() | tally.done

  def _say(self, text):
    if self._live:
      self._live.console.print(text, markup=False, highlight=False)
    else:
      print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def line(tally: Tally) -> str:
  """The tally in one line."""
  parts = [
    f"{len(tally.done)}/{tally.total} done",
    f"{len(tally.running)} running",
  ]
  if tally.elsewhere:
    parts.append(f"{len(tally.elsewhere)} run by others")
  if tally.failed:
    parts.append(f"{len(tally.failed)} failed")
  if tally.left_s:
    parts.append(f"{duration(tally.left_s)} left")
  return ", ".join(parts)


def duration(seconds: float) -> str:
  """For instance 45 s, 12 min or 3 h 05 min."""
  if seconds < 90:
    return f"{seconds:.0f} s"
  minutes = round(seconds / 60)
  if minutes < 90:
    return f"{minutes} min"
  return f"{minutes // 60} h {minutes % 60:02d} min"
