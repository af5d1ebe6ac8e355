"""Manifests: they come back as they were, and damage is found and named."""

import os

import launch_runs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch import manifest, sweep
from launch.manifest import Point

# ml_collections loads configurations the old way.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")


def made(count):
  """Points without a sweep file."""
  return [Point(f"{i:012x}", "c.py", {"seed": i}) for i in range(count)]


def test_a_manifest_comes_back_as_it_was(tmp_path):
  points = [
    Point("a", "c.py:x", {"s": "ü\n", "t": [1, [2.5]], "b": True, "d": None}),
    Point("b", "c.py", {}),
  ]
  assert manifest.read(tmp_path / "new") == ([], [])
  manifest.write(tmp_path / "new", points)
  assert manifest.read(tmp_path / "new") == (points, [])
  assert os.listdir(tmp_path / "new") == ["points.jsonl"]


def test_a_digest_depends_on_values_alone():
  one = {"a": [1, {"b": 2.5, "c": "ü"}], "d": {"e": None, "f": True}}
  same = {"d": {"f": True, "e": None}, "a": [1, {"c": "ü", "b": 2.5}]}
  assert manifest.digest(one) == manifest.digest(same)
  others = [one | {"a": [1]}, one | {"x": []}, {**one, "d": {"e": 0}}]
  assert len({manifest.digest(value) for value in [one, *others]}) == 4


@settings(max_examples=30, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found_and_named(tmp_path_factory, place, bit):
  directory = tmp_path_factory.mktemp("bits")
  manifest.write(directory, made(5))
  path = directory / "points.jsonl"
  data = bytearray(path.read_bytes())
  i = int(place * len(data))
  line = data[:i].count(b"\n") + 1
  data[i] ^= 1 << bit
  path.write_bytes(data)
  found, problems = manifest.read(directory)
  assert problems and f"line {line} is damaged" in problems[0]
  assert all(point in made(5) for point in found) and len(found) >= 3


@pytest.mark.parametrize("text", ["{", "[]", "7", "{}", '{"check": 1}', "\0"])
def test_a_line_that_is_none_is_named(tmp_path, text):
  path = tmp_path / "points.jsonl"
  manifest.write(tmp_path, made(4))
  path.write_text(f"{path.read_text()}{text}")
  found, (problem,) = manifest.read(tmp_path)
  assert found == made(4) and problem == f"{path}, line 5 is damaged"


def test_a_changed_sweep_keeps_ids_tells_what_is_gone_and_deletes_nothing(
  tmp_path, capsys
):
  def expanded(*seeds):
    given = launch_runs.arguments(tmp_path, {"grid": {"seed": seeds}})
    assert sweep.main(["expand", *given]) == 0
    points, _ = manifest.read(tmp_path)
    return [p.id for p in points], capsys.readouterr().out

  old, said = expanded(0, 1)
  assert said.startswith(f"{tmp_path}: 2 points, 2 of them new; 0 repeat")
  run = tmp_path / "points" / old[0] / "result.json"
  run.parent.mkdir(parents=True)
  run.touch()
  new, said = expanded(1, 2, 2)
  assert "2 points, 1 of them new; 1 repeat another; 1 are no longer" in said
  assert new[0] == old[1] and run.exists()
  assert expanded(0, 1)[0] == old


def test_what_is_missing_is_told_in_a_line(tmp_path, capsys):
  assert sweep.main([f"--workdir={tmp_path}"]) == 1
  assert "no points; give --config, --sweep" in capsys.readouterr().err
  assert sweep.main([f"--workdir={tmp_path}", "--config=x.py"]) == 1
  assert capsys.readouterr().err == "error: --config and --sweep go together\n"
