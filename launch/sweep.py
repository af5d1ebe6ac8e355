"""Runs a sweep, tells how it stands, collects it.

  python -m launch.sweep --config=configs/digits_free_bits.py \\
    --sweep=configs/sweeps/digits_free_bits.py --workdir=runs/sweep
  python -m launch.sweep status --workdir=runs/sweep
  python -m launch.sweep collect --workdir=runs/sweep

The same command again goes on where the sweep stands; so does the same command
on another machine that shares the directory. See launch/README.md.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from launch import manifest
from launch.claims import Claims
from launch.manifest import SweepError
from launch.workdir import Sweep
from launch.worker import Signals, add_flags


def main(arguments: Sequence[str] | None = None) -> int:
  options = _parser().parse_args(arguments)
  sweep = Sweep(options.workdir, options.program)
  try:
    claims = Claims(sweep.claims, options.heartbeat_s, options.stale_s)
    return {"run": _run, "status": _status, "collect": _collect}[
      options.command
    ](options, sweep, claims)
  except (SweepError, ValueError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1


def _run(options, sweep, claims):
  points = _up_to_date(options, sweep)
  lines = [(line, p) for line, p in enumerate(points) if p.in_sweep]
  lines = lines[options.share[0] :: options.share[1]]
  if options.executor == "slurm":
    return _submit(options, sweep, claims, lines)
  from launch import local, progress, slots

  room = slots.make(
    slots.cores_here(),
    slots.gpus_here(options.gpus),
    options.slots,
    options.cores_per_point,
    options.points_per_gpu,
  )
  signals = Signals(signal.SIGINT, signal.SIGTERM)
  with progress.Progress() as tell:
    tally = local.run(
      sweep,
      lines,
      claims,
      room[: len(lines)],
      signals,
      tell,
      options.retry_failed,
      options.attempts,
    )
  print(f"{sweep.workdir}: {progress.line(tally)}")
  if signals.number:
    print("stopped; the same command goes on from the last checkpoints")
    return 128 + signals.number
  if tally.failed:
    print("see logs/<id>.txt; --retry_failed runs failed points again")
  return int(bool(tally.failed))


def _submit(options, sweep, claims, lines):
  from launch import slurm

  todo = [line for line, point in lines if not sweep.is_done(point)]
  if not todo:
    print(f"{sweep.workdir}: all points are done")
    return 0
  path = sweep.workdir / "slurm" / "array.sh"
  path.parent.mkdir(exist_ok=True)
  text = slurm.script(
    sweep,
    todo,
    claims,
    options.sbatch,
    options.parallel,
    slurm.max_array_here(),
    options.retry_failed,
  )
  manifest.write_atomically(path, text.encode())
  print(f"not submitted: {path}" if options.dry_run else slurm.submit(path))
  return 0


def _status(options, sweep, claims):
  from launch import status

  print(status.table(sweep, claims, options.all))
  return int(bool(manifest.read(sweep.manifest)[1]))


def _collect(options, sweep, claims):
  from launch import collect

  points = manifest.load(sweep.manifest)
  print(collect.collect(sweep, points, options.by))
  return 0


def _up_to_date(options, sweep):
  """The points of the manifest, after what the sweep file says now."""
  old = manifest.load(sweep.manifest)
  if bool(options.config) != bool(options.sweep):
    raise SweepError("--config and --sweep go together")
  if not options.sweep:
    if not old:
      raise SweepError(
        f"{sweep.manifest} has no points: give --config, --sweep"
      )
    return old
  from launch import resolve

  new = resolve.points(options.config, options.sweep)
  repeated = manifest.count_repeated(new)
  points, added, removed = manifest.merge(old, new)
  sweep.workdir.mkdir(parents=True, exist_ok=True)
  manifest.write(sweep.manifest, points)
  told = f"{sweep.manifest}: {len(points) - len(removed)} points"
  if old and added:
    told += f", {len(added)} of them new"
  if repeated:
    told += f"; {repeated} repeat the configuration of another and are left out"
  if removed:
    told += f"; {len(removed)} are no longer in the sweep, not run, not deleted"
  print(told, flush=True)
  return points


def _parser():
  parser = argparse.ArgumentParser(
    prog="python -m launch.sweep",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    "command", nargs="?", default="run", choices=("run", "status", "collect")
  )
  parser.add_argument(
    "--workdir", type=Path, required=True, help="of the sweep"
  )
  parser.add_argument("--config", help="as main.py's: FILE or FILE:ARGUMENT")
  parser.add_argument(
    "--sweep", help="a file in configs/sweeps, or with an argument"
  )
  parser.add_argument("--executor", choices=("local", "slurm"), default="local")
  parser.add_argument(
    "--share", type=_share, default=(0, 1), help="I/N: every N-th point from I"
  )
  add_flags(parser)
  local = parser.add_argument_group("local")
  local.add_argument("--slots", type=int, default=0, help="points at a time")
  local.add_argument("--cores_per_point", type=int, default=0)
  local.add_argument("--gpus", help="e.g. 0,2; none for the cores alone")
  local.add_argument("--points_per_gpu", type=int, default=1)
  local.add_argument(
    "--attempts", type=int, default=3, help="with a point that gets killed"
  )
  slurm = parser.add_argument_group("slurm")
  slurm.add_argument(
    "--sbatch",
    action="append",
    default=[],
    help='e.g. --sbatch="--time=1:00:00"',
  )
  slurm.add_argument("--parallel", type=int, default=0, help="tasks at a time")
  slurm.add_argument(
    "--dry_run", action="store_true", help="write the script, do not submit"
  )
  status = parser.add_argument_group("status, collect")
  status.add_argument("--all", action="store_true", help="every point")
  status.add_argument("--by", help="column to colour the picture by")
  return parser


def _share(given):
  index, _, count = given.partition("/")
  share = int(index), int(count)
  if not 0 <= share[0] < share[1]:
    raise ValueError(given)
  return share


if __name__ == "__main__":
  sys.exit(main())
