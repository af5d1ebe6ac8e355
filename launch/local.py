"""Runs the points of a sweep on this machine, one worker process per slot.

Nothing is written here: workers claim points and tell how they ended. So any
number of these may work on one manifest, on one machine or on several.
"""

import collections
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from launch.claims import Claims
from launch.manifest import Point
from launch.slots import Slot
from launch.workdir import MAIN, Sweep
from launch.worker import GRACE_S, Exit, Signals

POLL_S = 0.05  # of workers
LOOK_S = 1.0  # at points that others run


@dataclasses.dataclass
class Tally:
  """How a sweep stands; what `tell` gets.

  Attributes:
    total: points of this launch.
    done: ids of the points that are done, found so or made so.
    failed: {id: last error line}.
    running: {id: when its worker was started, by time.monotonic}.
    elsewhere: ids of the points that others run.
    seconds: of every point that was done in this launch.
    slots: number of points that run at the same time.
  """

  total: int
  slots: int
  done: set[str] = dataclasses.field(default_factory=set)
  failed: dict[str, str] = dataclasses.field(default_factory=dict)
  running: dict[str, float] = dataclasses.field(default_factory=dict)
  elsewhere: set[str] = dataclasses.field(default_factory=set)
  seconds: list[float] = dataclasses.field(default_factory=list)

  @property
  def left_s(self) -> float | None:
    """Seconds that the rest will take at the speed so far."""
    if not self.seconds:
      return None
    mean = sum(self.seconds) / len(self.seconds)
    now = time.monotonic()
    passed = sum(min(now - start, mean) for start in self.running.values())
    left = self.total - len(self.done) - len(self.failed) - len(self.elsewhere)
    return max(left * mean - passed, 0.0) / self.slots


def run(
  sweep: Sweep,
  points: Sequence[tuple[int, Point]],
  claims: Claims,
  slots: Sequence[Slot],
  signals: Signals,
  tell: Callable[[Tally], None] = lambda tally: None,
  retry_failed: bool = False,
  attempts: int = 3,
) -> Tally:
  """Runs all points that are not done and waits for those that others run.

  Args:
    points: with their line in the manifest, counted from 0.
    attempts: how often a point is started whose processes are killed; after
      that it counts as failed in this launch.
    tell: is called whenever something may have changed.

  Returns:
    How it ended. Workers are gone by then, also after a signal or an error.
  """
  pool = _Pool(sweep, claims, slots, retry_failed, attempts, points)
  try:
    while not signals.number:
      pool.settle()
      pool.fill()
      tell(pool.tally)
      if not (pool.workers or pool.waiting or pool.elsewhere):
        break
      time.sleep(POLL_S)
  finally:
    pool.stop()
  return pool.tally


class _Pool:
  """The workers of a launch and the points that wait for one."""

  def __init__(self, sweep, claims, slots, retry_failed, attempts, points):
    self.sweep, self.claims, self.slots = sweep, claims, slots
    self.retry_failed, self.attempts = retry_failed, attempts
    self.waiting = collections.deque(points)
    self.elsewhere: list[tuple[int, Point]] = []
    self.workers: dict[int, tuple[int, Point, subprocess.Popen]] = {}  # by slot
    self.tally = Tally(len(points), len(slots))
    self._killed = collections.Counter()
    self._next_look = 0.0

  def settle(self):
    """Takes note of the workers that have ended."""
    for slot, (line, point, worker) in list(self.workers.items()):
      if worker.poll() is not None:
        del self.workers[slot]
        self._ended(line, point, worker)

  def _ended(self, line, point, worker):
    tally = self.tally
    start = tally.running.pop(point.id)
    _, said = worker.communicate()
    match worker.returncode:
      case Exit.DONE:
        tally.done.add(point.id)
        tally.seconds.append(time.monotonic() - start)
      case Exit.FAILED:
        last = self.claims.last(point.id)
        outcome = (last and last.outcome) or {}
        tally.failed[point.id] = outcome.get("error", "")
      case Exit.BUSY | Exit.LOST:
        self.elsewhere.append((line, point))
      case code if code < 0 or code in (Exit.KILLED, Exit.STOPPED):
        self._killed[point.id] += 1
        if self._killed[point.id] < self.attempts:
          self.waiting.appendleft((line, point))
        else:
          tally.failed[point.id] = f"killed {self.attempts} times, given up"
      case _:  # the worker itself could not work
        tally.failed[point.id] = (said.splitlines() or ["no message"])[-1]

  def fill(self):
    """Gives free slots to the points that nobody runs."""
    if self.elsewhere and time.monotonic() >= self._next_look:
      self._next_look = time.monotonic() + LOOK_S
      self.waiting.extend(self.elsewhere)
      self.elsewhere.clear()
    while self.waiting and len(self.workers) < len(self.slots):
      line, point = self.waiting.popleft()
      last = self.claims.last(point.id)
      outcome = (last and last.outcome) or {}
      if self.sweep.is_done(point):
        self.tally.done.add(point.id)
      elif outcome.get("outcome") == "failed" and not self.retry_failed:
        self.tally.failed[point.id] = outcome.get("error", "")
      elif not self.claims.is_free(last):
        self.elsewhere.append((line, point))
      else:
        stale_ns = last.touched_ns if last and not outcome else None
        self._start(line, point, stale_ns)
    self.tally.elsewhere = {point.id for _, point in self.elsewhere}

  def _start(self, line, point, stale_ns):
    free = next(i for i in range(len(self.slots)) if i not in self.workers)
    slot, claims = self.slots[free], self.claims
    command = [
      *(sys.executable, "-m", "launch.worker"),
      f"--workdir={self.sweep.workdir}",
      f"--program={self.sweep.program}",
      f"--line={line}",
      f"--cores={','.join(map(str, slot.cores))}",
      f"--parent={os.getpid()}",
      f"--heartbeat_s={claims.heartbeat_s}",
      f"--stale_s={claims.stale_s}",
      *(["--retry_failed"] if self.retry_failed else []),
      *([f"--stale_ns={stale_ns}"] if stale_ns else []),
    ]
    worker = subprocess.Popen(
      command,
      env=_environment(slot.environment),
      stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
      start_new_session=True,  # Ctrl-C is for this process, which tells them
    )
    self.workers[free] = line, point, worker
    self.tally.running[point.id] = time.monotonic()

  def stop(self):
    """Ends the workers, which end their runs and give up their claims."""
    workers = [worker for _, _, worker in self.workers.values()]
    for worker in workers:
      worker.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S + 5
    for worker in workers:
      try:
        worker.communicate(timeout=max(deadline - time.monotonic(), 0))
      except subprocess.TimeoutExpired:
        worker.kill()  # its run dies with it
        worker.communicate()


def _environment(more: Mapping[str, str]) -> dict[str, str]:
  """This process's environment, in which `launch` is found as well."""
  paths = [str(MAIN.parent), os.environ.get("PYTHONPATH", "")]
  path = os.pathsep.join(filter(None, paths))
  return {**os.environ, **more, "PYTHONPATH": path}
