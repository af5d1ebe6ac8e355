"""Runs the points of a sweep on this machine, a thread and a slot for each.

Any number of launchers may work on one manifest, and need not know of each
other: the lock of a point's log keeps them apart.
"""

import queue
import time
from collections import Counter
from collections.abc import Sequence
from concurrent import futures
from threading import Event

from launch.run import Run, State
from launch.slots import Slot

LOOK_S = 1.0  # between looks at the points that other launchers run


def run(runs: Sequence[Run], slots: Sequence[Slot], stop: Event) -> Counter:
  """How many points ended in each state, after all did, others' too.

  Args:
    slots: room for the points that run at the same time.
    stop: set to end all runs; they go on when the sweep is launched again.
  """
  free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
  for slot in slots:
    free.put(slot)

  def one(run):
    slot = free.get()
    try:
      return run(slot, stop)
    except OSError as error:  # a full disk, a file server that is away
      return State("failed", str(error))
    finally:
      free.put(slot)

  counts: Counter = Counter()
  with futures.ThreadPoolExecutor(len(slots)) as pool:
    try:
      running = {pool.submit(one, run): run for run in runs}
      elsewhere = []
      while running or elsewhere:
        if not running:
          stop.wait(LOOK_S)
        ended = futures.wait(running, LOOK_S, futures.FIRST_COMPLETED).done
        if not ended:  # a quiet moment: what became of the others' points?
          running |= {pool.submit(one, run): run for run in elsewhere}
          elsewhere = []
        for future in ended:
          run, (name, detail) = running.pop(future), future.result()
          if name == "running" and not stop.is_set():
            elsewhere.append(run)
            continue
          counts[name] += 1
          what = f"{name} {run.workdir.name}{detail and f': {detail}'}"
          now = time.strftime("%H:%M:%S")
          print(f"{now} {what}  [{told(counts, len(runs))}]", flush=True)
    except BaseException:
      stop.set()  # the pool waits for its threads
      raise
  return counts


def told(counts: Counter, total: int) -> str:
  """The counts in one line, for instance 3/4 done, 1 failed."""
  rest = [f"{n} {name}" for name, n in counts.items() if name != "done"]
  return ", ".join([f"{counts['done']}/{total} done", *rest])
