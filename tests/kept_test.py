"""What takes long is measured once, and is then what the file says."""

import json

import numpy as np
import pytest

from fbq.lab.kept import kept, kept_arrays


def test_it_is_measured_once_and_the_same_from_then_on(tmp_path):
  path, calls = tmp_path / "seeds" / "0.json", []

  def measure():
    calls.append(1)
    return {8: (0.1, float("inf")), "none": None}

  first = kept(path, measure)
  assert first == {"8": [0.1, float("inf")], "none": None}  # as JSON has it
  assert kept(path, measure) == first and calls == [1]
  assert json.loads(path.read_text()) == first


def test_a_measurement_that_fails_leaves_no_file(tmp_path):
  with pytest.raises(TypeError):
    kept(tmp_path / "0.json", lambda: {"a": object()})
  with pytest.raises(ZeroDivisionError):
    kept(tmp_path / "0.json", lambda: 1 / 0)
  assert not list(tmp_path.iterdir())
  assert kept(tmp_path / "0.json", lambda: 3) == 3


def test_arrays_are_made_once(tmp_path):
  path, calls = tmp_path / "some" / "x.npz", []

  def make():
    calls.append(1)
    return {"a": np.arange(3, dtype=np.int8), "b": np.float32(0.1)}

  for _ in range(2):
    found = kept_arrays(path, make)
    assert found["a"].dtype == np.int8 and found["b"] == np.float32(0.1)
  assert calls == [1] and [p.name for p in path.parent.iterdir()] == ["x.npz"]
