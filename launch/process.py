"""Processes that do not outlive the one that started them."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

_PR_SET_PDEATHSIG = 1


def die_with(parent: int, number: int = signal.SIGTERM) -> None:
  """Makes the kernel send this process a signal when its parent ends.

  On Linux; elsewhere a process whose parent was killed goes on, and keeps its
  claim locked while it does.
  """
  if sys.platform == "linux":
    _prctl()(_PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:  # it had ended before
      os.kill(os.getpid(), number)


def start(
  command: Sequence[str],
  log: Any,
  keep: Sequence[int] = (),
  environment: Mapping[str, str] | None = None,
) -> subprocess.Popen:
  """A command in a process group of its own that is killed if this one dies.

  For a process with one thread, as Python code runs between fork and exec.

  Args:
    log: file or descriptor for what it prints.
    keep: descriptors that it inherits.
  """
  parent = os.getpid()
  if sys.platform == "linux":
    _prctl()  # loaded before the fork
  return subprocess.Popen(
    command,
    stdin=subprocess.DEVNULL,
    stdout=log,
    stderr=subprocess.STDOUT,
    pass_fds=keep,
    env=environment,
    start_new_session=True,
    preexec_fn=lambda: die_with(parent, signal.SIGKILL),
  )


def stop(process: subprocess.Popen, grace_s: float) -> None:
  """Ends a process group: asks with SIGTERM, after `grace_s` kills."""
  with contextlib.suppress(ProcessLookupError):
    if grace_s > 0:
      os.killpg(process.pid, signal.SIGTERM)
      with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(grace_s)
        return
    os.killpg(process.pid, signal.SIGKILL)
  process.wait()


_loaded = []


def _prctl():
  if not _loaded:
    _loaded.append(ctypes.CDLL(None, use_errno=True).prctl)
  return _loaded[0]
