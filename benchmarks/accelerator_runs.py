"""Whole runs of main.py on an accelerator, parts of accelerator_parts.py.

Each takes a directory to work in, and whether it is tiny, and gives numbers by
name.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]


def cifar(directory, tiny, number=1):
  words = ":tiny" if tiny else ""
  return _whole_run(
    f"--config=benchmarks/cifar_form.py{words}",
    f"--config.data.directory={directory}/cifar_files",
    workdir=f"{directory}/cifar{number}",
    cache=f"{directory}/cifar_programs",
  )


def cifar_again(directory, tiny):
  return cifar(directory, tiny, 2)


def digits(directory, tiny):
  config = "tests/configs/tiny.py" if tiny else "configs/digits_free_bits.py"
  return _whole_run(
    f"--config={config}",
    workdir=f"{directory}/digits",
    cache=f"{directory}/digits_programs",
  )


def _whole_run(*flags, workdir, cache):
  """Seconds of main.py, and what its metrics tell of each kind of stage."""
  start = time.perf_counter()
  done = subprocess.run(
    [
      *(sys.executable, "main.py", *flags, f"--workdir={workdir}"),
      f"--compilation_cache={cache}",
    ],
    cwd=ROOT,
    stdout=sys.stderr,
  )
  if done.returncode:
    sys.exit(done.returncode)  # it has said why
  found = {"run: seconds": time.perf_counter() - start}
  speeds = {}
  for line in (pathlib.Path(workdir) / "metrics.jsonl").open():
    entry = json.loads(line)
    kind = "-".join(entry["stage"].split("-")[: 2 if "fine" in line else 1])
    speeds.setdefault(kind, []).append(entry["speed"])
  for kind, told in speeds.items():
    for name in ("images_per_second", "waiting"):
      values = [speed[name] for speed in told if name in speed]
      if values:
        found[f"{kind}: {name}"] = statistics.median(values)
    # Of runs trained together each tells what all have taken.
    compiling = max(speed.get("compile_seconds", 0) for speed in told)
    found[f"{kind}: compile_seconds"] = compiling
  result = json.loads((pathlib.Path(workdir) / "result.json").read_text())
  if "float_accuracy" in result:
    found["float accuracy"] = result["float_accuracy"]
  return found
