"""A short run of every fuzzer, and that they find faults."""

import json

import numpy as np
import pytest
from fuzz import (
  checkpoints,
  fuzzing,
  onnx_files,
  precision_files,
  settings,
  tables,
)


@pytest.mark.parametrize(
  "fuzzer", [tables, precision_files, checkpoints, settings, onnx_files]
)
def test_every_input_is_answered(fuzzer):
  counts = fuzzer.run(seed=0, count=120)
  assert counts.total() == 120
  assert counts["accepted"] and counts["refused"]


def test_every_tflite_file_is_answered():
  pytest.importorskip("ai_edge_litert")  # fbq[tflite]
  from fuzz import tflite_files

  test_every_input_is_answered(tflite_files)


def sevens(path):
  return json.loads(path.read_text())


def verbose(path):
  raise ValueError("7" * 3000)


@pytest.mark.parametrize(
  ("attempt", "wrong", "message"),
  [
    (sevens, lambda path, found: "a 7", "accepted, and a 7"),
    (lambda path: {}[path], None, "Traceback.*KeyError"),
    (verbose, None, "an error of"),
  ],
)
def test_faults_are_found(attempt, wrong, message):
  with pytest.raises(fuzzing.Fault, match=f"(?s)number 0: b.7.: .*{message}"):
    fuzzing.fuzz(lambda random: b"7", attempt, wrong, ".json", 0, 3)


def test_mutations_depend_on_the_seed_alone():
  given = bytes(range(256)) * 4
  for change in (
    lambda random: fuzzing.bytes_changed(given, random),
    lambda random: fuzzing.words_changed("a b c", [(0, 1), (4, 5)], random),
  ):
    made = [change(np.random.default_rng([0, i])) for i in range(50)]
    assert made == [change(np.random.default_rng([0, i])) for i in range(50)]
    assert len(set(made)) > 5
