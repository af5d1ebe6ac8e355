"""main.py that gets SIGKILL at a given moment.

  python tests/killed.py MOMENT --config=... --workdir=...

A moment is one of
  logged:STAGE:STEP   a line of metrics was written
  cut:STAGE:STEP      half of that line was
  saved:STAGE:STEP    a checkpoint was
  saving:STAGE:STEP   a checkpoint was written, but not yet renamed
  replacing:NAME      a file was written, but not yet renamed
  after:SECONDS       so much processor time was spent; how much is told by a
                      run that ends before
STAGE is the beginning of the name of a stage.
"""

import atexit
import ctypes
import os
import pathlib
import signal
import sys
import time


def die():
  os.kill(os.getpid(), signal.SIGKILL)


def before(owner, name, hook):
  """Calls `hook` with the arguments of a function before it runs."""
  function = getattr(owner, name)

  def hooked(*args, **kwargs):
    hook(*args)
    return function(*args, **kwargs)

  setattr(owner, name, hooked)


class _Event(ctypes.Structure):
  """`struct sigevent` of signal.h."""

  _fields_ = [
    ("value", ctypes.c_void_p),
    ("signal", ctypes.c_int),
    ("how", ctypes.c_int),
    ("rest", ctypes.c_char * 48),
  ]


def die_after(seconds):
  """SIGKILL by the kernel once the process has had so much processor time."""
  libc = ctypes.CDLL(None, use_errno=True)
  event, timer = _Event(None, signal.SIGKILL, 0, b""), ctypes.c_void_p()
  clock = time.CLOCK_PROCESS_CPUTIME_ID
  left = (ctypes.c_long * 4)(0, 0, int(seconds), int(seconds % 1 * 1e9))
  if libc.timer_create(clock, ctypes.byref(event), ctypes.byref(timer)):
    raise OSError(ctypes.get_errno(), "timer_create")
  if libc.timer_settime(timer, 0, left, None):
    raise OSError(ctypes.get_errno(), "timer_settime")
  atexit.register(lambda: print("processor seconds:", time.process_time()))


def arm(moment):
  """Makes the process die at a moment."""
  if moment.startswith("after:"):
    die_after(float(moment.removeprefix("after:")))
    return

  from fbq.train.checkpoints import Checkpoints
  from fbq.train.log import Log

  kind, name, *step = moment.split(":")
  step = int(step[0]) if step else None

  def is_it(stage, n):
    return stage.startswith(name) and n == step

  def write(log, stage, n, *speed, **values):
    if kind == "cut" and is_it(stage, n):
      with log._path.open("a") as file:
        file.write(f'{{"stage": "{stage}", "st')
      die()
    original_write(log, stage, n, *speed, **values)
    if kind == "logged" and is_it(stage, n):
      die()

  def save(checkpoints, n, *args):
    meant = is_it(checkpoints._directory.name, n)
    if kind == "saving" and meant:
      before(os, "rename", lambda *_: die())
      before(pathlib.Path, "rename", lambda *_: die())
    original_save(checkpoints, n, *args)
    if kind == "saved" and meant:
      die()

  original_write, Log.write = Log.write, write
  original_save, Checkpoints.save = Checkpoints.save, save
  if kind == "replacing":
    before(os, "replace", lambda _, to: str(to).endswith(name) and die())


if __name__ == "__main__":
  arm(sys.argv.pop(1))
  import runpy

  sys.argv[0] = "main.py"
  runpy.run_path("main.py", run_name="__main__")
