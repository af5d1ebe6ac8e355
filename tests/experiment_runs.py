"""Runs of main.py in processes of their own, for tests of whole experiments.

They are forked from a server that has imported and traced what a run needs,
see preloaded.py: half of the processor time of a run that resumes.
"""

import atexit
import json
import multiprocessing
import os
import pathlib
import runpy
import sys
import tempfile

from compiling import XLA_FLAGS

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = "tests/configs/tiny.py"
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["preloaded"])


class Run:
  """A program in a process of its own, with what it prints."""

  def __init__(self, program, arguments, environment):
    descriptor, path = tempfile.mkstemp(prefix="fbq-run")
    os.close(descriptor)
    self._path = pathlib.Path(path)
    self._process = _FORKS.Process(
      target=_main, args=(program, arguments, environment, self._path)
    )
    self._process.start()

  @property
  def returncode(self):
    """Minus the signal that ended it; None while it runs."""
    return self._process.exitcode

  def kill(self):
    """SIGKILL, if it still runs."""
    self._process.kill()

  def communicate(self, timeout=None):
    """(all that it printed, None) once it has ended, as of subprocess."""
    self._process.join(timeout)
    if self.returncode is None:
      raise TimeoutError(self._path.read_text())
    text = self._path.read_text()
    self._path.unlink()
    return text, None


def _main(program, arguments, environment, output):
  """Runs a program as Python would that was started with it."""
  file = os.open(output, os.O_WRONLY | os.O_TRUNC)
  for stream in (1, 2):
    os.dup2(file, stream)
  os.environ |= environment
  os.chdir(ROOT)
  sys.path.insert(0, str(ROOT))
  sys.argv = [program, *arguments]
  import jax

  jax.config.update("jax_log_compiles", environment["JAX_LOG_COMPILES"] == "1")
  try:
    runpy.run_path(program, run_name="__main__")
  finally:
    atexit._run_exitfuncs()  # a forked process ends without them


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
  environment = {
    "COLUMNS": "1000",  # lines are compared, which would wrap at long paths
    "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", ""),
    "XLA_FLAGS": XLA_FLAGS,
    "JAX_LOG_COMPILES": "1" if tells_compiles else "0",
    "JAX_PLATFORMS": "cpu",
  }
  return Run(program, [*arguments, *more], environment)


def run(*args, timeout=900, **options):
  """(exit status, what was printed)."""
  process = start(*args, **options)
  output, _ = process.communicate(timeout)
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
