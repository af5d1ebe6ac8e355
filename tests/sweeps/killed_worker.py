"""launch.worker that gets SIGKILL at a given moment.

python tests/sweeps/killed_worker.py MOMENT --workdir=... --line=...
"""

import os
import signal
import sys


def die(*_, **__):
  os.kill(os.getpid(), signal.SIGKILL)


def dies_before(owner, name):
  setattr(owner, name, die)


def dies_after(owner, name):
  function = getattr(owner, name)

  def hooked(*args, **kwargs):
    function(*args, **kwargs)
    die()

  setattr(owner, name, hooked)


def arm(moment):
  """Makes the process die at a moment; all of MOMENTS are different places."""
  from launch import claims, process, worker

  {
    "before the claim": lambda: dies_before(claims.Claims, "acquire"),
    "before the claim has its name": lambda: dies_before(os, "link"),
    "after the claim": lambda: dies_after(os, "link"),
    "before the run": lambda: dies_before(process, "start"),
    "after the start of the run": lambda: dies_after(process, "start"),
    "at a heartbeat": lambda: dies_before(claims.Claim, "beat"),
    "after the run": lambda: dies_before(worker, "last_error"),
    "before the outcome": lambda: dies_before(claims.Claim, "end"),
  }[moment]()


if __name__ == "__main__":
  arm(sys.argv.pop(1))
  from launch import worker

  sys.exit(worker.main())
