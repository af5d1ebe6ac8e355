"""Whether two versions of fbq give the same numbers, byte for byte.

  python tests/same_results.py record /tmp/before  in a checkout of the old
  python tests/same_results.py record /tmp/after   in the new one
  python tests/same_results.py compare /tmp/before /tmp/after

Runs every tests/configs/tiny*.py, or those named after the directory, and
compares `results.csv` and `result.json`; what was timed is left out.
"""

import csv
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import experiment_runs

# Columns and keys that hold times, or costs in times of steps.
TIMED = ("seconds", "search_steps", "stages", "wall_seconds", "date")
MORE = {
  "tiny_folder": "--config.data.directory={parent}/images",
}


def record(directory: pathlib.Path, names: list[str]) -> None:
  """Runs the tiny configs, each into a folder of `directory`."""
  directory.mkdir(parents=True, exist_ok=True)
  for path in sorted(pathlib.Path("tests/configs").glob("tiny*.py")):
    if names and path.stem not in names:
      continue
    more = MORE.get(path.stem, "").format(parent=directory)
    status, output = experiment_runs.run(
      directory / "cache", directory / path.stem, *more.split(), config=path
    )
    print(f"{path.stem}: exit status {status}")
    if status:
      print(output)


def compare(before: pathlib.Path, after: pathlib.Path) -> list[str]:
  """What differs, a line each."""
  different = []
  for folder in sorted(p for p in before.iterdir() if p.name != "cache"):
    for name, read in (("results.csv", table), ("result.json", untimed)):
      old, new = folder / name, after / folder.name / name
      if not old.exists():
        continue
      if not new.exists():
        different.append(f"{new} is missing")
      elif read(old) != read(new):
        different.append(f"{new} differs from {old}")
  return different


def table(path: pathlib.Path) -> list[list[str]]:
  """Rows of a CSV file as text, without timed columns."""
  with path.open(newline="") as file:
    rows = list(csv.reader(file))
  kept = [i for i, name in enumerate(rows[0]) if name not in TIMED]
  return [[row[i] for i in kept if i < len(row)] for row in rows]


def untimed(path: pathlib.Path) -> str:
  """The text of a JSON file, without timed entries."""

  def kept(value):
    if isinstance(value, dict):
      return {k: kept(v) for k, v in value.items() if k not in TIMED}
    return [kept(v) for v in value] if isinstance(value, list) else value

  return json.dumps(kept(json.loads(path.read_text())))


if __name__ == "__main__":
  verb, first, *rest = sys.argv[1:]
  if verb == "record":
    record(pathlib.Path(first), rest)
  else:
    lines = compare(pathlib.Path(first), pathlib.Path(rest[0]))
    print("\n".join(lines) or "the same numbers")
    sys.exit(bool(lines))
