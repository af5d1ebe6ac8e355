"""tests/kills.py finds runs that do not end as those left alone."""

import json
import pathlib
import signal

import experiment_runs
import kills
import pytest

SECONDS = 8.0  # that a whole run takes


@pytest.mark.parametrize(
  ("fault", "expected"),
  [
    (None, ""),
    ("numbers", "FAULT: results.csv is not as in a run left alone"),
    ("summary", "FAULT: result.json is not as"),
    ("leftover", "FAULT: a.writing is left behind"),
    ("resume", "FAULT: does not go on after train: lost its way"),
  ],
)
def test_a_run_that_ends_otherwise_is_told(
  fault, expected, tmp_path, monkeypatch
):
  """On a stand-in for runs, which remembers how long it has worked."""

  def run(cache, workdir, *more, config, program, moment, timeout):
    assert timeout is None  # however long others have the machine
    stage = workdir / "checkpoints" / "train"
    stage.mkdir(parents=True, exist_ok=True)
    state = workdir / ".lock"  # what no comparison reads
    kills_before, had = (
      json.loads(state.read_text()) if state.exists() else (0, 0.0)
    )
    if fault == "resume" and kills_before:
      return 1, "lost its way"
    had += float(moment.removeprefix("after:"))
    if had < SECONDS:
      state.write_text(json.dumps((kills_before + 1, had)))
      if fault == "leftover":
        (workdir / "a.writing").write_text("half")
      return -signal.SIGKILL, ""
    (stage / "4").mkdir(exist_ok=True)
    lines = "metrics.jsonl", "results.csv", "result.json"
    for name, text in zip(lines, ("", "a\n1\n", '{"a": 1}'), strict=True):
      (workdir / name).write_text(text)
    if fault == "numbers" and kills_before:
      (workdir / "results.csv").write_text("a\n2\n")
    if fault == "summary" and kills_before:
      (workdir / "result.json").write_text('{"b": 1}')
    return 0, f"processor seconds: {SECONDS}\n"

  monkeypatch.setattr(experiment_runs, "run", run)
  said = kills.kill(pathlib.Path(tmp_path), "tiny", 6, 0)
  assert expected in "\n".join(said)
  if fault is None:
    assert said[0].startswith("6 kills") and "FAULT" not in "\n".join(said)
    assert said[1] == "killed in: train 6"
