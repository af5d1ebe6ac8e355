"""Programs timed in turn, on a machine that may be busy."""

import os
import time

import jax
import numpy as np
from rich.table import Table


class Program:
  """A function of arrays, compiled; counts its traces.

  Attributes:
    traces: times it was traced.
    compile_seconds: of the first call.
    seconds: [wall, CPU] of every timed call.
  """

  def __init__(self, function, *arguments):
    self.traces = 0
    self.seconds = []

    def counted(*arguments):
      self.traces += 1
      return function(*arguments)

    self._call = jax.jit(counted)
    self._arguments = arguments
    self.compile_seconds, _ = self._time()

  def _time(self) -> tuple[float, float]:
    start, cpu_start = time.perf_counter(), time.process_time()
    jax.block_until_ready(self._call(*self._arguments))
    return time.perf_counter() - start, time.process_time() - cpu_start

  def run(self):
    self.seconds.append(self._time())

  @property
  def milliseconds(self) -> np.ndarray:
    """Median [wall, CPU]."""
    return 1e3 * np.median(self.seconds, axis=0)

  def over(self, other: "Program") -> np.ndarray:
    """Median of the ratios to `other` within a round: [wall, CPU]."""
    return np.median(np.divide(self.seconds, other.seconds), axis=0)


def interleave(programs, rounds):
  """Times the programs in turn, `rounds` times, after one round to warm up."""
  for program in programs:
    program.run()
    program.seconds.clear()
  for _ in range(rounds):
    for program in programs:
      program.run()


def new_table(title) -> Table:
  table = Table(title=title, title_justify="left")
  table.add_column("")
  return table


def machine() -> str:
  load = " ".join(f"{x:.1f}" for x in os.getloadavg())
  return (
    f"{os.cpu_count()} CPUs, load {load}; jax {jax.__version__} on "
    f"{jax.default_backend()} ({jax.devices()[0].device_kind}); "
    f"GLIBC_TUNABLES={os.environ.get('GLIBC_TUNABLES', '')!r}"
  )
