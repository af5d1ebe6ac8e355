"""The benchmark of accelerators works, where there is none."""

import json
import os
import re
import subprocess
import sys

import pytest

from benchmarks import accelerator


def test_every_part_but_whole_runs_tells_its_numbers(tmp_path):
  # The other parts compile for a minute, and what they time has tests of its
  # own; FBQ_SLOW asks for them, too.
  slow = bool(os.environ.get("FBQ_SLOW"))
  parts = ["machine", "golden"]
  if slow:
    parts = ["machine", "images", "peer", "points"]
    parts += ["depthwise", "golden", "hwsim"]
  out = tmp_path / "numbers.json"
  done = subprocess.run(
    [
      *(sys.executable, "-m", "benchmarks.accelerator", "--tiny"),
      *("--minutes=30", f"--out={out}", "--parts", *parts),
    ],
    cwd=accelerator.ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  found = json.loads(out.read_text())
  assert list(found) == parts and found["machine"]["backend"] == "cpu"
  for part, numbers in found.items():
    assert numbers.pop("seconds") > 0
    if part != "machine":
      assert numbers and all(value >= 0 for value in numbers.values())
  assert found["golden"]["bayesian_bits_test: comparisons"] > 10
  deviations = {k: v for k, v in found["golden"].items() if "deviation" in k}
  assert all(0 < v < 2e-5 for v in deviations.values())
  assert not any(v for k, v in found["golden"].items() if "not exact" in k)
  if slow:
    assert len(found["images"]) == 2 * (3 + 2)
    assert "search, bfloat16: images/s" in done.stdout


@pytest.mark.parametrize(
  ("part", "seconds", "expected"),
  [
    ("no part", 60, "exit status 2: .*invalid choice: 'no part'"),
    ("machine", 0, "not run: the time was over"),
    ("machine", 0.01, "not done in the 0 s that were left"),
  ],
)
def test_a_part_that_fails_says_why(part, seconds, expected, tmp_path):
  found = accelerator.run_part(part, str(tmp_path), True, seconds)
  assert list(found) == ["error"] and re.search(expected, found["error"])
