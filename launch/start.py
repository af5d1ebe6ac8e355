"""Becomes a command that ends with the process that started it.

    python -IS launch/start.py PARENT CORES COMMAND...

PARENT is the id of that process, CORES are ids like 0,1. A program of its own,
as a process with threads can run no code between fork and exec.
"""

import ctypes
import os
import signal
import sys


def main(parent: str, cores: str, *command: str) -> None:
  if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != int(parent):  # it has ended already
      sys.exit(1)
    if cores:
      os.sched_setaffinity(0, map(int, cores.split(",")))
  os.execv(command[0], command)


if __name__ == "__main__":
  main(*sys.argv[1:])
