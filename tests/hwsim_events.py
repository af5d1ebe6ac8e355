"""Processes on a clock: the discrete events of `timeline_referee.py`."""

import heapq
import itertools


class Event:
  """Something processes can wait for."""

  def __init__(self):
    self.done, self.waiting = False, []


class Clock:
  """Runs processes: generators that yield a number of cycles or an Event."""

  def __init__(self):
    self.now, self.queue, self.order = 0, [], itertools.count()

  def start(self, process):
    end = Event()
    self._later(0, process, end)
    return end

  def fire(self, event):
    event.done = True
    for process, end in event.waiting:
      self._later(0, process, end)

  def run(self):
    while self.queue:
      self.now, _, process, end = heapq.heappop(self.queue)
      try:
        wish = next(process)
      except StopIteration:
        self.fire(end)
        continue
      if not isinstance(wish, Event):
        self._later(wish, process, end)
      elif wish.done:
        self._later(0, process, end)
      else:
        wish.waiting.append((process, end))
    return self.now

  def _later(self, delay, process, end):
    heapq.heappush(
      self.queue, (self.now + delay, next(self.order), process, end)
    )


class Channel:
  """A queue of transfers served one after the other."""

  def __init__(self, clock):
    self.clock, self.last = clock, None

  def transfer(self, cycles):
    """Queues a transfer; returns the event of its end."""
    self.last = self.clock.start(self._serve(self.last, cycles))
    return self.last

  def _serve(self, before, cycles):
    if before is not None:
      yield before
    yield cycles
