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
  assert problems and f"line {line}: " in problems[0]
  assert all(point in made(5) for point in found) and len(found) >= 3


def test_a_line_cut_off_and_a_line_twice_are_named(tmp_path):
  path = tmp_path / "points.jsonl"
  manifest.write(tmp_path, made(4))
  lines = path.read_text().splitlines()
  path.write_text("\n".join([*lines, lines[1], lines[2][:30]]))
  found, problems = manifest.read(tmp_path)
  assert found == made(4) and len(problems) == 2
  assert "line 5: repeats point 000000000001" in problems[0]
  assert "line 6" in problems[1]


def test_a_changed_sweep_keeps_ids_tells_what_is_gone_and_deletes_nothing(
  tmp_path, capsys
):
  def expanded(*seeds):
    given = launch_runs.arguments(tmp_path, {"grid": {"seed": seeds}})
    assert sweep.main(["expand", *given]) == 0
    points, _ = manifest.read(tmp_path)
    return [p.id for p in points], capsys.readouterr().out

  old, said = expanded(0, 1)
  assert said == f"{tmp_path}: 2 points\n"
  run = tmp_path / "points" / old[0] / "result.json"
  run.parent.mkdir(parents=True)
  run.touch()
  new, said = expanded(1, 2, 2)
  assert "2 points, 1 of them new; 1 repeat the configuration" in said
  assert "1 are no longer in the sweep" in said
  assert new[0] == old[1] and run.exists()
  assert expanded(0, 1)[0] == old


def test_what_is_missing_is_told_in_a_line(tmp_path, capsys):
  assert sweep.main([f"--workdir={tmp_path}"]) == 1
  assert "no points; give --config, --sweep" in capsys.readouterr().err
  assert sweep.main([f"--workdir={tmp_path}", "--config=x.py"]) == 1
  assert capsys.readouterr().err == "error: --config and --sweep go together\n"
