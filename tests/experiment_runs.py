"""Runs of main.py in processes of their own, for tests of whole experiments."""

import json
import os
import pathlib
import subprocess
import sys

from compiling import XLA_FLAGS

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = "tests/configs/tiny.py"


def start(
  cache,
  workdir,
  *more,
  program="main.py",
  moment=None,
  config=CONFIG,
  tells_compiles=False,
):
  """A process of main.py, or of killed.py with the moment of its death.

  Its programs are compiled without optimization, in a quarter of the time.
  """
  arguments = [] if moment is None else [moment]
  arguments += [f"--config={config}", f"--compilation_cache={cache}"]
  if workdir is not None:
    arguments.append(f"--workdir={workdir}")
  environment = os.environ | {
    "COLUMNS": "1000",  # lines are compared, which would wrap at long paths
    "XLA_FLAGS": XLA_FLAGS,
    "JAX_LOG_COMPILES": "1" if tells_compiles else "0",
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": str(ROOT),
  }
  return subprocess.Popen(
    [sys.executable, program, *arguments, *more],
    cwd=ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def run(*args, **options):
  """(exit status, what was printed)."""
  process = start(*args, **options)
  output, _ = process.communicate(timeout=300)
  return process.returncode, output


def numbers(workdir):
  """Everything in a workdir that must not depend on when it was made.

  Notes of checkpoints hold a digest of their numbers and the results.
  """
  found = {}
  for pattern in (
    "config.json",
    "latency_table.csv",
    "results.csv",
    "result.json",
    "precision/*",
    "checkpoints/*/*/notes/metadata",
  ):
    for path in workdir.glob(pattern):
      found[str(path.relative_to(workdir))] = path.read_bytes()
  lines = [json.dumps(line).encode() for line in metrics(workdir)]
  found["metrics.jsonl"] = b"\n".join(lines)
  return found


def metrics(workdir):
  """The lines of metrics.jsonl, without what differs from run to run."""
  lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  return [{k: v for k, v in line.items() if k != "speed"} for line in lines]


def page_again(workdir):
  """The page of a run, made again of its record alone: it must be the same."""
  from fbq.lab import experiment

  path = workdir / "report.html"
  page = path.read_text()
  path.unlink()
  kind, results, about = experiment.load(workdir)
  kind.write(results, about, workdir)
  assert path.read_text() == page
  return page
