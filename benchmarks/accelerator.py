"""What fbq does on a GPU or TPU: one table, one JSON file, under 8 minutes.

    python -m benchmarks.accelerator [--out=accelerator.json] [--minutes=8]
    python -m benchmarks.accelerator --tiny   # a CPU, to see that it works

Needs no network. Each part is a process of its own, so that one that crashes
or runs out of time or memory leaves the others their numbers; the file is
written again after each. Parts: see `benchmarks/accelerator_parts.py`.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from rich.console import Console
from rich.table import Table

ROOT = pathlib.Path(__file__).parents[1]
# The most telling first: what is left when the time is over is not run.
PARTS = (
  *("machine", "images", "peer", "points", "depthwise", "golden"),
  *("cifar", "cifar again", "digits", "hwsim"),
)


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--out", default="accelerator.json")
  parser.add_argument("--minutes", type=float, default=8.0)
  parser.add_argument("--tiny", action="store_true", help="small sizes")
  parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
  given = parser.parse_args()
  end = time.monotonic() + 60 * given.minutes

  found = {}
  with tempfile.TemporaryDirectory() as directory:
    for part in given.parts:
      start = time.monotonic()
      found[part] = run_part(part, directory, given.tiny, end - start)
      found[part]["seconds"] = time.monotonic() - start
      pathlib.Path(given.out).write_text(json.dumps(found, indent=1) + "\n")
  Console(width=100).print(table_of(found))
  sys.exit(any("error" in numbers for numbers in found.values()))


def run_part(part: str, directory: str, tiny: bool, seconds: float) -> dict:
  """The numbers of a part, or {"error": why there are none}."""
  if seconds <= 0:
    return {"error": "not run: the time was over"}
  # Parts share the device, none may take all of its memory in advance.
  environment = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "PYTHONPATH": os.pathsep.join(
      (str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", ""))
    ),
  }
  command = ["-m", "benchmarks.accelerator_parts", part, directory]
  try:
    done = subprocess.run(
      [sys.executable, *command, *(["--tiny"] if tiny else [])],
      cwd=ROOT,
      env=os.environ | environment,
      capture_output=True,
      text=True,
      timeout=seconds,
    )
  except subprocess.TimeoutExpired:
    return {"error": f"not done in the {seconds:.0f} s that were left"}
  if done.returncode:
    tail = (done.stdout + done.stderr).strip().splitlines()[-5:]
    return {"error": f"exit status {done.returncode}: {' | '.join(tail)}"}
  return json.loads(done.stdout.splitlines()[-1])


def table_of(found: dict[str, dict]) -> Table:
  """A row for each number; parts without any say why."""
  machine = found.get("machine", {})
  table = Table(
    title=" ".join(str(v) for k, v in machine.items() if k != "seconds"),
    title_justify="left",
  )
  table.add_column("part")
  table.add_column("what")
  table.add_column("number", justify="right")
  table.add_column("aim", justify="right")
  for part, numbers in found.items():
    if part == "machine" and "error" not in numbers:
      continue
    for what, value in numbers.items():
      number = value if isinstance(value, str) else f"{value:,.4g}"
      table.add_row(part, what, number, AIMS.get((part, what), ""))
  return table


# What the numbers were meant to be, on an H100.
AIMS = {
  ("images", "float, bfloat16: images/s"): ">= 13,000",
  ("images", "search, bfloat16: images/s"): ">= 11,500",
  ("points", "16 points: in turn / together"): ">= 4",
  ("cifar", "run: seconds"): "<= 100",
  ("cifar", "float: waiting"): "< 0.02",
  ("cifar", "fine-tune: waiting"): "< 0.02",
  ("cifar again", "run: seconds"): "<= 60",
  ("digits", "run: seconds"): "<= 60",
}


if __name__ == "__main__":
  main()
