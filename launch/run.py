"""A point's run: started unless it is done, failed or running; how it ended.

All that launchers know of a point stands in files: <id>/result.json if it is
done, <id>.error if it failed, and <id>.log, which is locked while it runs. The
launcher holds that lock until the end of the run is written down, and the run
inherits it: the kernel frees it when both are gone. The lock that main.py takes
in its workdir comes too late, seconds after a run is started, and goes too
early, before anybody knows how the run ended.
"""

import contextlib
import fcntl
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from threading import Event
from typing import NamedTuple

from fbq.files import write_atomically
from launch import start
from launch.slots import Slot

ATTEMPTS = 3  # with a run whose process gets killed, for instance out of memory
POLL_S = 0.2


class State(NamedTuple):
  """How a point stands.

  Attributes:
    name: "done", "running", "failed", "missing" if it was never begun, or
      "stopped" if nobody runs what was begun.
    detail: the error, or what it printed last.
  """

  name: str
  detail: str = ""


def state(workdir: Path) -> State:
  """How the point with this workdir stands."""
  path, failure = workdir.with_suffix(".log"), workdir.with_suffix(".error")
  if (workdir / "result.json").exists():
    return State("done")
  if not path.exists():
    return State("missing")
  with path.open("rb") as log:
    if not _lock(log, fcntl.LOCK_SH):
      return State("running", _last_line(path))
  if failure.exists():
    return State("failed", failure.read_text().strip())
  return State("stopped", _last_line(path))


class Run(NamedTuple):
  """A point that is to run.

  Attributes:
    workdir: directory of main.py's results, which must hold nothing else.
    command: what fills it.
    retry_failed: whether it runs if it failed before.
  """

  workdir: Path
  command: list[str]
  retry_failed: bool = False

  def __call__(self, slot: Slot, stop: Event) -> State:
    """Runs the point until `stop` is set, if it has to be run.

    Raises:
      OSError: the directory cannot be used, or the disk is full.
    """
    if stop.is_set():
      return State("stopped")
    self.workdir.parent.mkdir(exist_ok=True)
    with self.workdir.with_suffix(".log").open("ab", buffering=0) as log:
      if not _lock(log, fcntl.LOCK_EX):
        return State("running")
      try:
        return self._locked(log, slot, stop)
      finally:
        fcntl.flock(log, fcntl.LOCK_UN)

  def _locked(self, log, slot, stop):
    result = self.workdir / "result.json"
    failure = self.workdir.with_suffix(".error")
    if result.exists():
      return State("done")
    if failure.exists() and not self.retry_failed:
      return State("failed", failure.read_text().strip())

    failure.unlink(missing_ok=True)
    for _ in range(ATTEMPTS):
      head = f"{time.strftime('%Y-%m-%d %H:%M:%S')}, {socket.gethostname()}"
      log.write(f"-- {head}: {shlex.join(self.command)}\n".encode())
      begin = log.tell()
      code = self._exit_status(log, slot, stop)
      if code < 0:
        log.write(f"-- killed by signal {-code}\n".encode())
      if code >= 0 or result.exists() or stop.is_set():
        break

    if result.exists():
      return State("done")
    if stop.is_set():
      return State("stopped")
    error = _last_line(Path(log.name), begin)
    if code < 0:
      error = f"{ATTEMPTS} times {error.removeprefix('-- ')}, given up"
    elif code == 0:
      error = f"no result.json; it said: {error}"
    write_atomically(failure, f"{error}\n")
    return State("failed", error)

  def _exit_status(self, log, slot, stop):
    cores = ",".join(map(str, slot.cores))
    starter = [sys.executable, "-IS", start.__file__, str(os.getpid()), cores]
    process = subprocess.Popen(
      [*starter, *self.command],
      env={**os.environ, **slot.environment},
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      start_new_session=True,  # Ctrl-C is for the launcher alone
    )
    try:
      while not stop.is_set():
        with contextlib.suppress(subprocess.TimeoutExpired):
          return process.wait(POLL_S)
    finally:  # submitit leaves by an exception
      if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)  # runs resume, however they end
    return process.wait()


def _lock(log, kind):
  """Whether a lock of an open log could be had."""
  with contextlib.suppress(BlockingIOError):
    fcntl.flock(log, kind | fcntl.LOCK_NB)
    return True
  return False


def _last_line(log, begin=0):
  """The last line of a log that tells an error, else its last line."""
  lines = log.read_bytes()[begin:].decode(errors="replace").splitlines()
  lines = [line.strip() for line in lines if line.strip()]
  errors = [line for line in lines if line.startswith(("error:", "FATAL"))]
  return (errors or lines or ["it printed nothing"])[-1][:400]
