"""What a sweep costs beside its runs.

    python -m benchmarks.launch [--points=1000] [--repeats=3]

Times the parts of a sweep of many points on this machine, median of the
repeats, wall and CPU (of the process and its children): CPU is what to compare
on a busy machine. The results collected are those of a run with 20 assignments
of 40 tensors, as the demo has them, written by this benchmark.
"""

import argparse
import contextlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from launch import local, manifest, resolve, slots
from launch.run import Run

CONFIG = "configs/digits_free_bits.py"
IDLE = 100
SWEEP = """
def get_sweep():
  return dict(
    grid={{"target": ("xpulp_v2", "xpulpnn_v1")}},
    random=dict(
      count={count},
      seed=0,
      draw={{
        "seed": ("integers", 0, 9),
        "float_training.learning_rate": ("log_uniform", 1e-3, 1e-1),
      }},
    ),
  )
"""
# What an interpreter that does nothing takes is told too.
STARTS = {
  "python that does nothing": ["-c", "pass"],
  "launch.sweep --help": ["-m", "launch.sweep", "--help"],
  "launch.sweep status, no points": ["-m", "launch.sweep", "status"],
  "import ml_collections": ["-c", "import ml_collections.config_flags"],
  "import jax": ["-c", "import jax"],
}


class Clock:
  """[wall, CPU] seconds of what was done under each name."""

  def __init__(self):
    self.seconds = {}

  def time(self, name, function):
    start, cpu = time.perf_counter(), sum(os.times()[:4])
    result = function()
    spent = time.perf_counter() - start, sum(os.times()[:4]) - cpu
    self.seconds.setdefault(name, []).append(spent)
    return result


def write_results(sweep, points, assignments=20, tensors=40):
  """What finished runs leave in the directory of a sweep."""
  columns = [f"bits:layer{i}.weight" for i in range(tensors)]
  lines = [",".join(["name", "cycles", "accuracy", *columns])]
  for i in range(assignments):
    cells = [f"a{i}", str(10**6 + i), f"0.9{i:02d}", *["8"] * tensors]
    lines.append(",".join(cells))
  text = "\n".join(lines) + "\n"
  for point in points:
    run = manifest.workdir(sweep, point)
    run.mkdir(parents=True)
    (run / "results.csv").write_text(text)
    (run / "result.json").write_text("{}")


def one_round(clock, count, directory):
  file = directory / "sweep.py"
  file.write_text(SWEEP.format(count=count // 2))
  points = clock.time("expand", lambda: resolve.points(CONFIG, str(file)))
  clock.time("write the manifest", lambda: manifest.write(directory, points))
  clock.time("read it", lambda: manifest.read(directory))
  idle = [
    Run(manifest.workdir(directory, point), ["/bin/true"]) for point in points
  ]
  idle = idle[:IDLE]
  name = f"start {len(idle)} runs that do nothing, one at a time"
  room = slots.make(1, "none")
  with contextlib.redirect_stdout(io.StringIO()):
    clock.time(name, lambda: local.run(idle, room, threading.Event()))
  write_results(directory, points)
  command = [sys.executable, "-m", "launch.sweep", f"--workdir={directory}"]
  for name in ("status", "run", "collect"):
    label = "run, all done" if name == "run" else name
    clock.time(
      f"launch.sweep {label}",
      lambda name=name: subprocess.run(
        [*command, name], check=True, capture_output=True
      ),
    )
  return len(points)


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--points", type=int, default=1000)
  parser.add_argument("--repeats", type=int, default=3)
  options = parser.parse_args()
  clock = Clock()
  for _ in range(options.repeats):
    with tempfile.TemporaryDirectory() as empty:
      for name, command in STARTS.items():
        given = [f"--workdir={empty}"] if "status" in command else []
        clock.time(
          name,
          lambda command=command, given=given: subprocess.run(
            [sys.executable, *command, *given], check=True, capture_output=True
          ),
        )
    with tempfile.TemporaryDirectory() as directory:
      count = one_round(clock, options.points, Path(directory))
  load = " ".join(f"{x:.1f}" for x in os.getloadavg())
  table = Table(
    title=f"A sweep of {count} points; {os.cpu_count()} CPUs, load {load}",
    title_justify="left",
  )
  table.add_column("")
  table.add_column("wall s", justify="right")
  table.add_column("CPU s", justify="right")
  for name, spent in clock.seconds.items():
    wall, cpu = (statistics.median(each) for each in zip(*spent, strict=True))
    table.add_row(name, f"{wall:.3f}", f"{cpu:.3f}")
  Console(width=80).print(table)


if __name__ == "__main__":
  main()
