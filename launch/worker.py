"""Runs one point of a sweep: claims it, starts main.py, watches, tells the end.

    python -m launch.worker --workdir=runs/sweep --line=0

The local executor and the tasks of a Slurm array start it. The exit status is
an `Exit`. What main.py prints is in logs/<id>.txt.
"""

import argparse
import contextlib
import enum
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from launch import manifest, process
from launch.claims import HEARTBEAT_S, STALE_S, Claim, ClaimLost, Claims
from launch.manifest import Point
from launch.workdir import MAIN, Sweep, last_error

GRACE_S = 10.0


class Exit(enum.IntEnum):
  """What became of the point."""

  DONE = 0
  FAILED = 10  # main.py ended with an error
  BUSY = 11  # another worker has it
  KILLED = 12  # main.py was killed
  STOPPED = 13  # this worker was asked to stop
  LOST = 14  # another worker took it over


class Signals:
  """Remembers being asked to stop; `number` is the signal, 0 before."""

  def __init__(self, *numbers: int):
    self.number = 0
    for number in numbers:
      signal.signal(number, self._remember)

  def _remember(self, number, _):
    self.number = self.number or number


def run(
  sweep: Sweep,
  point: Point,
  claims: Claims,
  signals: Signals,
  retry_failed: bool = False,
  stale_ns: int | None = None,
) -> Exit:
  """Runs a point unless it is done, failed before, or is another's.

  Raises:
    OSError: the directory of the sweep cannot be used, or the disk is full.
  """
  if sweep.is_done(point):
    return Exit.DONE
  before = claims.last(point.id)
  if not retry_failed and before and _failed(before.outcome):
    return Exit.FAILED
  claim = claims.acquire(point.id, stale_ns)
  if claim is None:
    return Exit.BUSY
  if sweep.is_done(point):  # by whoever had the claim until now
    claim.end("done")
    return Exit.DONE
  try:
    sweep.log_of(point).parent.mkdir(exist_ok=True)
    with sweep.log_of(point).open("ab") as log:
      command = sweep.command(point)
      head = f"-- {claim.path.name} on {socket.gethostname()}, "
      head += f"{time.strftime('%Y-%m-%d %H:%M:%S')}: {shlex.join(command)}\n"
      log.write(head.encode())
      log.flush()
      start = log.tell()
      began = time.monotonic()
      child = process.start(command, log, [claim.descriptor])
      status, details = _watch(child, claim, claims, signals)
  except BaseException as error:
    with contextlib.suppress(OSError):
      claim.end("stopped", error=str(error))
    raise
  if status is Exit.FAILED:
    done = sweep.is_done(point) and details["exit"] == 0
    status = Exit.DONE if done else status
    details["error"] = last_error(sweep.log_of(point), start)
    if details["exit"] == 0:
      details["error"] = f"no result.json; it said {details['error']!r}"
  if status is Exit.DONE:
    details = {}
  details["seconds"] = round(time.monotonic() - began, 3)
  claim.end(status.name.lower(), **details)
  return status


def _watch(
  child: subprocess.Popen, claim: Claim, claims: Claims, signals: Signals
) -> tuple[Exit, dict]:
  """Waits for the end of a run, and ends it if it has to be.

  A worker that was suspended finds its heartbeat overdue in its first turn.
  """
  turn_s = min(0.1, claims.heartbeat_s / 4)
  beaten = heard = _now()
  try:
    while True:
      with contextlib.suppress(subprocess.TimeoutExpired):
        code = child.wait(turn_s)
        if code < 0:
          return Exit.KILLED, {"error": f"killed: {_name(-code)}"}
        return Exit.FAILED, {"exit": code}  # unless there is a result
      if _now() - beaten >= claims.heartbeat_s:
        beaten = _now()
        try:
          claim.beat()
          heard = beaten
        except OSError:  # the file server may come back
          if beaten - heard >= claims.stale_s / 2:
            raise
      if signals.number:
        process.stop(child, GRACE_S)
        return Exit.STOPPED, {"error": f"stopped: {_name(signals.number)}"}
  except ClaimLost:
    process.stop(child, 0)
    return Exit.LOST, {}
  except BaseException:
    process.stop(child, 0)
    raise


def _now():
  """Seconds that pass while the machine sleeps, too."""
  clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
  return time.clock_gettime(clock)


def _failed(outcome):
  return bool(outcome) and outcome.get("outcome") == "failed"


def _name(number):
  try:
    return signal.Signals(number).name
  except ValueError:
    return f"signal {number}"


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Flags that the sweep hands on to its workers."""
  parser.add_argument("--heartbeat_s", type=float, default=HEARTBEAT_S)
  parser.add_argument(
    "--stale_s",
    type=float,
    default=STALE_S,
    help="silence after which a point of another machine is taken over",
  )
  parser.add_argument(
    "--program", type=Path, default=MAIN, help="instead of main.py"
  )
  parser.add_argument(
    "--retry_failed", action="store_true", help="run failed points again"
  )


def _parser():
  parser = argparse.ArgumentParser(
    prog="python -m launch.worker", description=__doc__.splitlines()[0]
  )
  parser.add_argument("--workdir", type=Path, required=True)
  parser.add_argument("--line", type=int, required=True, help="from 0")
  parser.add_argument(
    "--lines", type=int, default=1, help="how many, one after the other"
  )
  parser.add_argument("--cores", default="", help="e.g. 0,1")
  parser.add_argument("--parent", type=int, help="ends when this one does")
  parser.add_argument("--stale_ns", type=int, help="a heartbeat found stale")
  parser.add_argument(
    "--on_timeout", default="", help="command to run after SIGUSR1"
  )
  parser.add_argument(
    "--wait_s", type=float, default=0, help="for a claim that may be stale"
  )
  add_flags(parser)
  return parser


def main(arguments: Sequence[str] | None = None) -> int:
  options = _parser().parse_args(arguments)
  signals = Signals(signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
  if options.parent:
    process.die_with(options.parent)
  if options.cores and hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [int(core) for core in options.cores.split(",")])
  sweep = Sweep(options.workdir, options.program)
  claims = Claims(sweep.claims, options.heartbeat_s, options.stale_s)
  worst = Exit.DONE
  for line in range(options.line, options.line + options.lines):
    try:
      point = manifest.load_line(sweep.manifest, line)
      if not point.in_sweep:
        continue
      deadline = time.monotonic() + options.wait_s
      while True:
        status = run(
          sweep, point, claims, signals, options.retry_failed, options.stale_ns
        )
        if status is not Exit.BUSY or time.monotonic() >= deadline:
          break
        if signals.number or _is_beating(claims, point):
          break
    except (OSError, ValueError) as error:
      sys.exit(f"error: point on line {line + 1}: {error}")
    print(f"{point.id}: {status.name.lower()}", flush=True)
    worst = max(worst, status)
    if signals.number:
      break
  if signals.number == signal.SIGUSR1 and options.on_timeout:
    return subprocess.call(options.on_timeout, shell=True)
  return worst


def _is_beating(claims, point):
  """Whether the owner of a claim is heard within two heartbeats or so."""
  before = claims.last(point.id)
  period_s = before.owner.get("heartbeat_s", claims.heartbeat_s)
  deadline = time.monotonic() + 2.5 * period_s
  while time.monotonic() < deadline:
    time.sleep(min(1.0, period_s / 4))
    now = claims.last(point.id)
    if claims.is_free(now):
      return False
    if now != before:
      return True
  return False


if __name__ == "__main__":
  sys.exit(main())
