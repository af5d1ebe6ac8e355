"""Runs what the documents state and writes it there: make results.

  python -m benchmarks.results                 all of `RUNS`, 35 minutes idle
  python -m benchmarks.results digits_exact    one of them
  python -m benchmarks.results digits_bitq=runs/bitq    a run that is there

Runs lie in runs/results/ and resume; one that is finished is not made again:
delete its folder for that. In the documents a pair of comments holds a place
for what a run told at its end, or for its answer alone:

  <!-- results: digits_exact -->  ...  <!-- end of results -->
  <!-- answer: digits_exact -->  ...  <!-- end of results -->
"""

import pathlib
import re
import shutil
import subprocess
import sys

from fbq import files
from fbq.lab import experiment
from fbq.report import markdown

ROOT = pathlib.Path(__file__).parent.parent
RUNS = {
  "digits_free_bits": "digits_free_bits.py",
  "digits_exact": "digits_exact.py",
  "digits_ptq": "digits_ptq.py",
  "digits_qat": "digits_qat.py:method=lsq,bits=4",
  "digits_whitepaper": "digits_whitepaper.py",
  "profile_pulp": "profile_pulp.py",
}
DOCUMENTS = ("README.md", "docs/index.md", "docs/results.md")
PICTURES = {"digits_free_bits": ("front.svg", "docs/front.svg")}
_PLACE = re.compile(
  r"(<!-- (results|answer): ([\w.-]+) -->\n).*?(<!-- end of results -->)",
  re.DOTALL,
)


def filled(text: str, told: dict[str, list[str]]) -> str:
  """A document with every place filled that a run of `told` has.

  Args:
    text: the document.
    told: by name of the run, what it told, part by part; how it came about is
      the last one.
  """

  def place(match):
    begin, kind, name, end = match.groups()
    if name not in told:
      return match[0]
    parts = told[name]
    if kind == "answer":  # the first sentences, which no table is
      parts = [next(p for p in parts if not p.startswith("|")), parts[-1]]
    shown = "\n\n".join(parts)
    return f"{begin}\n{shown}\n\n{end}"

  return _PLACE.sub(place, text)


def main(arguments: list[str]) -> None:
  """Runs, and fills the documents."""
  told = {}
  for argument in arguments or RUNS:
    name, _, given = argument.partition("=")
    if not given and name not in RUNS:
      sys.exit(f"error: {name!r} is no run; known: {', '.join(RUNS)}")
    workdir = pathlib.Path(given or ROOT / "runs" / "results" / name)
    if not given:
      config = f"--config=configs/{RUNS[name]}"
      where = f"--workdir={workdir.relative_to(ROOT)}"  # it will be read
      command = [sys.executable, "main.py", config, where]
      print(" ".join(command), flush=True)
      subprocess.run(command, cwd=ROOT, check=True)
    told[name] = markdown.told(*experiment.load(workdir))
    if name in PICTURES:
      picture, place = PICTURES[name]
      shutil.copyfile(workdir / picture, ROOT / place)

  for document in DOCUMENTS:
    path = ROOT / document
    text = path.read_text(encoding="utf-8")
    files.write_atomically(path, filled(text, told))


if __name__ == "__main__":
  main(sys.argv[1:])
