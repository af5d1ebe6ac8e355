"""What takes long is measured once, and is then what the file says."""

import json

import pytest

from fbq.lab.kept import kept


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
