"""Runs killed at random moments end with the bytes of one left alone.

  python tests/kills.py /tmp/kills                      every tiny config
  python tests/kills.py /tmp/kills tiny_exact tiny_qat  --kills=20 --seed=0

Every experiment that trains is run into a folder, left alone and then with
SIGKILLs. Moments are drawn from the processor time that a run takes, so that
other work on the machine moves none of them. A killed run is given the same
command again, is killed again, and then compared.
"""

import argparse
import collections
import json
import pathlib
import random
import shutil
import signal
import sys
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import experiment_runs
import same_results

CONFIGS = pathlib.Path("tests/configs")
_NEVER = 1e6  # seconds
_UNFINISHED = (".writing", ".tmp", ".part")


def kill(folder: pathlib.Path, name: str, kills: int, seed: int) -> list[str]:
  """Kills runs of tests/configs/`name`.py; what was found, a line each."""
  draw = random.Random(f"{name} {seed}")
  more = same_results.MORE.get(name, "").format(parent=folder).split()

  def run(workdir, seconds):
    return experiment_runs.run(
      folder / "cache",
      workdir,
      *more,
      config=CONFIGS / f"{name}.py",
      program="tests/killed.py",
      moment=f"after:{seconds}",
      timeout=None,  # others may have the machine
    )

  # ---- Left alone twice: the first run compiles, and may differ by its times
  whole, alone = folder / f"{name}-whole", []
  for _ in range(2):
    shutil.rmtree(whole, ignore_errors=True)
    status, output = run(whole, _NEVER)
    if status:
      return [f"fails when left alone: {output}"]
    seconds = float(output.split()[-1])
    alone.append(contents(whole))
  first, expected = alone
  timed = {path for path in expected if first.get(path) != expected[path]}

  # ---- Killed at random, each time to go on where it was: twice a run, first
  # in one tenth of it after the other, so that all of it is hit
  stages, faults = collections.Counter(), []
  half_written = ended = 0
  while stages.total() < kills and not faults:
    workdir = folder / f"{name}-killed"
    shutil.rmtree(workdir, ignore_errors=True)
    moments = [(ended % 10 + draw.random()) / 10, draw.random()]
    while not (workdir / "result.json").exists():
      dies = moments and stages.total() < kills
      status, output = run(
        workdir, moments.pop(0) * seconds if dies else _NEVER
      )
      if status == -signal.SIGKILL:
        stages[where(workdir, whole)] += 1
        half_written += bool(unfinished(workdir))
        print(
          f"{name}: kill {stages.total()}, {where(workdir, whole)}", flush=True
        )
      elif status:
        faults.append(f"does not go on after {where(workdir, whole)}: {output}")
        break
    else:
      ended += 1
      found = contents(workdir)
      faults += [
        f"{path} is not as in a run left alone: {workdir}"
        for path in sorted(expected.keys() | found.keys())
        if path not in timed and found.get(path) != expected.get(path)
      ]
      faults += [f"{path} is left behind" for path in unfinished(workdir)]

  # ---- What is said of it
  hit = ", ".join(f"{stage} {count}" for stage, count in stages.items())
  return [
    f"{stages.total()} kills, {half_written} in the middle of a file; {ended} "
    f"runs went on to their end; {len(expected) - len(timed)} files equal",
    f"killed in: {hit}",
    *(
      [f"not compared, differ without kills: {sorted(timed)}"] if timed else []
    ),
    *(f"FAULT: {fault}" for fault in faults),
  ]


def where(workdir: pathlib.Path, whole: pathlib.Path) -> str:
  """What a run was at: "float", "after fine-tune", "start" or "page".

  Trainings of one kind are one; "after" it is whatever follows it and trains
  nothing. A run left alone tells how many steps each takes.
  """
  if (workdir / "results.json").exists():
    return "page"
  checkpoints = workdir / "checkpoints"
  if not checkpoints.exists() or not any(checkpoints.iterdir()):
    return "start"
  stage = max(checkpoints.iterdir(), key=lambda path: path.stat().st_mtime_ns)
  kind = "-".join(
    word
    for word in stage.name.split("-")
    if word.isalpha() and word not in ("locked", "free")
  )
  kind = kind or stage.name
  steps = {p.name for p in (whole / "checkpoints" / stage.name).iterdir()}
  done = {p.name for p in stage.iterdir()}
  return f"after {kind}" if steps <= done else kind


def unfinished(workdir: pathlib.Path) -> list[str]:
  """Files and checkpoints that were not yet renamed."""
  return [
    path.name
    for path in workdir.rglob("*")
    if path.name.endswith(_UNFINISHED) or "orbax-checkpoint-tmp" in path.name
  ]


def contents(workdir: pathlib.Path) -> dict[str, str]:
  """All files that must be the same, by path; without times and places.

  Of checkpoints their notes, which have a digest of all numbers; the files that
  orbax writes have times in them. The page, which shows times, is made of
  results.json alone.
  """
  special: dict[str, Callable[[pathlib.Path], object]] = {
    "metrics.jsonl": lambda path: experiment_runs.metrics(path.parent),
    ".json": same_results.untimed,
    ".csv": same_results.table,
  }
  found = {}
  for path in sorted(workdir.rglob("*")):
    inside = path.relative_to(workdir)
    in_checkpoint = inside.parts[0] == "checkpoints"
    if not path.is_file() or path.name in (".lock", "report.html"):
      continue
    if in_checkpoint and inside.parts[-2:] != ("notes", "metadata"):
      continue
    read = special.get(
      path.name, special.get(path.suffix, pathlib.Path.read_text)
    )
    text = json.dumps(read(path))
    found[str(inside)] = text.replace(str(workdir), "WORKDIR")
  return found


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("folder", type=pathlib.Path)
  parser.add_argument("names", nargs="*", metavar="tiny...")
  parser.add_argument("--kills", type=int, default=20)
  parser.add_argument("--seed", type=int, default=0)
  given = parser.parse_args()
  given.folder.mkdir(parents=True, exist_ok=True)
  known = sorted(path.stem for path in CONFIGS.glob("tiny*.py"))

  wrong = False
  for name in given.names or known:
    lines = kill(given.folder, name, given.kills, given.seed)
    print("\n  ".join([name, *lines]), flush=True)
    wrong |= any(line.startswith(("FAULT", "fails")) for line in lines)
  sys.exit(wrong)


if __name__ == "__main__":
  main()
