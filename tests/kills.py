"""Runs killed at random moments end with the numbers of one left alone.

  python tests/kills.py /tmp/kills 20 0 tiny_exact tiny_qat

Into a folder, with so many SIGKILLs for each experiment, from a seed; without
names every tests/configs/tiny*.py. Moments are drawn from the time that a run
takes; a run that ends before it is killed begins anew in another workdir.
"""

import pathlib
import random
import shutil
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import experiment_runs
from same_results import MORE, untimed


def killed(folder: pathlib.Path, name: str, kills: int, seed: int) -> str:
  """How often a run was killed and ended, and what differs then."""
  draw = random.Random(f"{name} {seed}")
  cache, whole = folder / "cache", folder / f"{name}-whole"
  more = MORE.get(name, "").format(parent=folder).split()
  options = dict(config=pathlib.Path("tests/configs") / f"{name}.py")
  for _ in range(2):  # the first fills the cache
    shutil.rmtree(whole, ignore_errors=True)
    start = time.monotonic()
    status, output = experiment_runs.run(cache, whole, *more, **options)
    assert status == 0, output
    seconds = time.monotonic() - start
  expected = _numbers(whole)

  done = ended = 0
  differing: set[str] = set()
  while done < kills or not ended:
    workdir = folder / f"{name}-{ended}"
    shutil.rmtree(workdir, ignore_errors=True)
    while not (workdir / "result.json").exists():
      process = experiment_runs.start(cache, workdir, *more, **options)
      if done < kills:
        deadline = time.monotonic() + draw.uniform(0, seconds)
        while time.monotonic() < deadline and process.poll() is None:
          time.sleep(0.01)
        done += process.poll() is None
        process.kill()
      output, _ = process.communicate()
      assert process.returncode in (0, -9), output
    found = _numbers(workdir)
    differing |= {n for n in expected if found.get(n) != expected[n]}
    ended += 1
  said = f"differ: {sorted(differing)}" if differing else "the same bytes"
  return f"{name}: {done} kills, {ended} runs ended, {said}"


def _numbers(workdir):
  """All that must be the same; costs of searches are times."""
  result = untimed(workdir / "result.json").encode()
  return {**experiment_runs.numbers(workdir), "result.json": result}


if __name__ == "__main__":
  place, count, first, *names = sys.argv[1:]
  known = sorted(p.stem for p in pathlib.Path("tests/configs").glob("tiny*.py"))
  for each in names or known:
    folder = pathlib.Path(place)
    folder.mkdir(parents=True, exist_ok=True)
    print(killed(folder, each, int(count), int(first)), flush=True)
