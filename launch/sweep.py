"""Runs a sweep, tells how it stands, collects it.

  python -m launch.sweep --config=configs/digits_free_bits.py \\
    --sweep=configs/sweeps/digits_free_bits.py --workdir=runs/sweep
  python -m launch.sweep status --workdir=runs/sweep
  python -m launch.sweep collect --workdir=runs/sweep

The same command again goes on where the sweep stands. See launch/README.md.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event

from launch import manifest, slots
from launch.manifest import Point, SweepError
from launch.run import Run, state

MAIN = Path(__file__).parents[1] / "main.py"
STATES = ("running", "failed", "stopped", "missing", "done")


def main(arguments: Sequence[str] | None = None) -> int:
  options = _parser().parse_args(arguments)
  points, problems = manifest.read(options.workdir)
  try:
    if options.command == "status":
      names = STATES if options.all else STATES[:3]
      print(status(options.workdir, points, names), *problems, sep="\n")
      return int(bool(problems))
    if problems:
      hint = "Nothing was run. Mend it, or delete the file and run the sweep "
      hint += "again: points keep their ids, what is done is not run again."
      raise SweepError("\n".join([*problems, hint]))
    if options.command == "collect":
      from launch import collect

      print(collect.collect(options.workdir, points, options.by))
      return 0
    points = _up_to_date(options, points)
    return 0 if options.command == "expand" else _run(options, points)
  except (ValueError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1


def status(sweep: Path, points: Sequence[Point], names: Sequence[str]) -> str:
  """How many points stand how, and a line for each in one of some states."""
  found = [(point, *state(manifest.workdir(sweep, point))) for point in points]
  counts = {name: sum(how == name for _, how, _ in found) for name in STATES}
  told = ", ".join(f"{n} {name}" for name, n in counts.items() if n)
  lines = [f"{sweep}: {len(points)} points: {told}"]
  for name in names:
    for point, how, detail in found:
      if how == name:
        said = f": {detail}" if detail else ""
        given = " ".join(point.arguments[1:]).replace("--config.", "")
        lines.append(f"  {how:8}{point.id}  {given}{said}")
  return "\n".join(lines)


def _up_to_date(options, old):
  """The points of the manifest, after what the sweep file says now."""
  if bool(options.config) != bool(options.sweep):
    raise SweepError("--config and --sweep go together")
  if not options.sweep and not old:
    raise SweepError(f"{options.workdir}: no points; give --config, --sweep")
  if not options.sweep:
    return old
  from launch import resolve

  given = resolve.points(options.config, options.sweep)
  new, known = {point.id: point for point in given}, {point.id for point in old}
  if list(new.values()) != old:
    manifest.write(options.workdir, new.values())
  print(
    f"{options.workdir}: {len(new)} points, {len(new.keys() - known)} of them "
    f"new; {len(given) - len(new)} repeat another; {len(known - new.keys())} "
    "are no longer in the sweep",
    flush=True,
  )
  return list(new.values())


def _run(options, points):
  runs = []
  for point in points[options.share]:
    workdir = manifest.workdir(options.workdir, point)
    command = [sys.executable, "-u", str(options.program), *point.arguments]
    command.append(f"--workdir={workdir}")
    runs.append(Run(workdir, command, options.retry_failed))
  if options.executor == "slurm":
    return _submit(options, runs)
  from launch import local

  stop = Event()
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stop.set())
  counts = local.run(runs, slots.make(options.slots, options.gpus), stop)
  print(f"{options.workdir}: {local.told(counts, len(runs))}")
  if counts["stopped"]:
    print("the same command goes on from the last checkpoints")
  if counts["failed"]:
    print("see points/<id>.log; --retry_failed runs failed points again")
  return int(counts["done"] < len(runs))


def _submit(options, runs):
  try:
    from launch import slurm
  except ModuleNotFoundError as error:
    raise SweepError(f"{error}: run pip install 'fbq[slurm]'") from error

  todo = [run for run in runs if state(run.workdir).name != "done"]
  given = [text.removeprefix("--").partition("=") for text in options.sbatch]
  jobs = slurm.submit(
    todo,
    options.cores,
    options.workdir / "slurm",
    {name: value or True for name, _, value in given},
    time=options.minutes,
    array_parallelism=options.parallel,
  )
  arrays = dict.fromkeys(job.job_id.partition("_")[0] for job in jobs)
  print(f"{len(todo)} of {len(runs)} points submitted, as {' '.join(arrays)}")
  return 0


def _parser():
  parser = argparse.ArgumentParser(
    prog="python -m launch.sweep",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  commands = ("run", "expand", "status", "collect")
  add("command", nargs="?", default="run", choices=commands)
  add("--workdir", type=Path, required=True, help="directory of the sweep")
  add("--config", help="as main.py's: FILE or FILE:ARGUMENT")
  add("--sweep", help="a file like those in configs/sweeps, or FILE:ARGUMENT")
  add("--retry_failed", action="store_true", help="run failed points again")
  add("--share", type=_share, default="0/1", help="I/N: every N-th from I")
  add("--program", type=Path, default=MAIN, help="instead of main.py")
  add("--slots", type=int, default=0, help="local: points at a time")
  add("--gpus", help="local: e.g. 0,2; none for the cores alone")
  add("--executor", choices=("local", "slurm"), default="local")
  add("--minutes", type=int, default=60, help="slurm: time limit of a task")
  add("--cores", type=int, default=1, help="slurm: of a task")
  add("--parallel", type=int, default=1000, help="slurm: tasks at a time")
  add("--sbatch", action="append", default=[], help="e.g. --sbatch=--gpus=1")
  add("--all", action="store_true", help="status: every point")
  add("--by", help="collect: column to colour by, e.g. config.target")
  return parser


def _share(given):
  first, count = map(int, given.split("/"))
  if not 0 <= first < count:
    raise ValueError(given)
  return slice(first, None, count)


if __name__ == "__main__":
  sys.exit(main())
