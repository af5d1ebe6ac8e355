"""Sweep files, manifests, ids: what is run is what was asked for."""

import itertools
import json
import os
import subprocess
import sys

import launch_runs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch import manifest, resolve
from launch.expand import combine
from launch.manifest import Point, SweepError

CONFIG = launch_runs.CONFIG
# ml_collections loads configurations the old way.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")


@pytest.fixture(autouse=True)
def no_forks(monkeypatch):
  """This process may have threads of jax; the command line is tested too."""
  monkeypatch.setattr(resolve, "in_child", lambda function: function())


def points(sweep):
  return resolve.points(CONFIG, f"{CONFIG}:{json.dumps(sweep)}")


def made(count):
  """Points without a sweep file."""
  return [Point(f"{i:012x}", "c.py", {"seed": i}) for i in range(count)]


def test_a_grid_is_every_combination():
  grid = {"a": [1, 2], "b.c": ["x", "y", "z"]}
  expected = [{"a": a, "b.c": b} for a in (1, 2) for b in "xyz"]
  assert combine({"grid": grid}) == expected


def test_parts_multiply():
  sweep = {
    "grid": {"seed": (0, 1, 2)},
    "list": [{"a": 1, "b": 2}, {"a": 3}],
    "random": {"count": 2, "seed": 0, "draw": {"r": ("uniform", 0.0, 1.0)}},
  }
  found = combine(sweep)
  drawn = sorted({point["r"] for point in found})
  expected = [
    {"seed": s} | dict(ab) | {"r": r}
    for s, ab, r in itertools.product(
      range(3), ({"a": 1, "b": 2}, {"a": 3}), drawn
    )
  ]
  key = lambda point: sorted(point.items())
  assert len(drawn) == 2 and sorted(found, key=key) == sorted(expected, key=key)


DRAW = {
  "u": ("uniform", -1.0, 2.0),
  "l": ("log_uniform", 1e-4, 1e-1),
  "i": ("integers", 3, 5),
  "c": ("choice", "a", "b"),
}


def sample(count, seed=0, draw=DRAW):
  return combine({"random": {"count": count, "seed": seed, "draw": draw}})


def test_samples_are_of_their_distributions():
  found = sample(4000)
  mean = {n: sum(p[n] for p in found) / 4000 for n in ("u", "i")}
  assert abs(mean["u"] - 0.5) < 0.06 and abs(mean["i"] - 4) < 0.06
  assert all(-1 <= p["u"] < 2 and 1e-4 <= p["l"] <= 1e-1 for p in found)
  small = sum(p["l"] < 1e-3 for p in found)  # one decade of three
  large = sum(p["l"] >= 1e-2 for p in found)
  assert 1230 < small < 1440 and 1230 < large < 1440
  assert {p["i"] for p in found} == {3, 4, 5}
  assert 1800 < sum(p["c"] == "a" for p in found) < 2200


def test_samples_are_the_same_everywhere_and_for_ever():
  """Written down on 2026-11-21; a new Python must give them too."""
  (point,) = sample(1, seed=7)
  assert (point["i"], point["c"]) == (4, "a")
  assert point["u"] == 1.1321810329585773
  assert point["l"] == pytest.approx(0.0004908638626997912, rel=1e-12)


def test_more_samples_keep_the_others_and_so_do_more_names():
  assert sample(20)[:8] == sample(8)
  fewer = {name: DRAW[name] for name in ("c", "l")}
  assert [{n: p[n] for n in fewer} for p in sample(8)] == sample(8, draw=fewer)
  assert sample(8, seed=1) != sample(8)


@pytest.mark.parametrize(
  "sweep, message",
  [
    ({}, "grid"),
    ([], "grid"),
    ({"gird": {}}, "gird"),
    ({"grid": {"a": 1}}, r"grid\['a'\]"),
    ({"grid": {"a": "abc"}}, r"grid\['a'\]"),
    ({"grid": {"a": []}}, r"grid\['a'\]"),
    ({"list": {"a": 1}}, "list"),
    ({"random": {"count": 3, "draw": {}}}, "seed"),
    ({"random": {"count": -1, "seed": 0, "draw": {}}}, "whole"),
    ({"grid": {"a": [1]}, "list": [{"a": 2}]}, "both set"),
    ({"grid": {"a": [{}], "a.b": [2]}}, "both set"),
  ],
)
def test_wrong_sweeps_are_refused_by_name(sweep, message):
  with pytest.raises(SweepError, match=message):
    combine(sweep)


@pytest.mark.parametrize(
  "distribution",
  [("normal", 0, 1), ("uniform", 2, 1), ("log_uniform", 0, 1), ("choice",), ()],
)
def test_wrong_distributions_are_refused_by_name(distribution):
  with pytest.raises(SweepError, match=r"distribution of 'net\.a'"):
    sample(1, draw={"net.a": distribution})


JSON = st.recursive(
  st.integers() | st.floats(allow_nan=False) | st.text() | st.booleans(),
  lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
  ),
)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=5), st.randoms())
def test_ids_depend_on_values_alone(config, random):
  def shuffled(value):
    if not isinstance(value, dict):
      return value
    keys = list(value)
    random.shuffle(keys)
    return {key: shuffled(value[key]) for key in keys}

  assert manifest.point_id(config) == manifest.point_id(shuffled(config))
  assert manifest.point_id(config) != manifest.point_id({**config, "x": []})


def test_an_id_names_the_resolved_configuration():
  """However it was written, and in whatever order."""
  one, two, three, default, written = points(
    {
      "list": [
        {"seed": 1, "steps": 4},
        {"steps": 4, "seed": 1},
        {"steps": 5, "seed": 1},
        {},
        {"seed": 0, "rates": [0.1], "mood": "good"},
      ]
    }
  )
  assert one.id == two.id != three.id
  assert default.id == written.id  # the file's own values
  assert len({p.id for p in (one, three, default)}) == 3
  assert all(len(p.id) == 12 for p in (one, three))


def test_overrides_reach_main_as_they_were_meant():
  """What main.py's parser makes of the arguments of a point."""
  from absl import flags
  from ml_collections import config_flags

  chosen = {"rates": [0.5, 1e-7], "mood": "a b's", "net.a": 3, "step_s": 2.0}
  argv = ["main", *Point("", CONFIG, chosen).arguments]
  values = flags.FlagValues()
  config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
  values(argv)
  config = values.config
  assert config.rates == (0.5, 1e-7) and config.mood == "a b's"
  assert config.net.a == 3 and config.step_s == 2.0 and config.steps == 3


@pytest.mark.parametrize(
  "overrides, message",
  [
    ({"sede": 1}, "sede"),
    ({"net.b": 1}, "b"),
    ({"seed": 1.5}, "1.5"),
    ({"seed": "many"}, "many"),
  ],
)
def test_what_main_would_refuse_is_refused_before_any_run(overrides, message):
  with pytest.raises(SweepError, match=f"main.py would refuse.*{message}"):
    points({"list": [{"seed": 3}, overrides]})


@pytest.mark.parametrize(
  "config, sweep, message",
  [
    ("no.py", CONFIG, "no file no.py"),
    (CONFIG, "no.py:x", "no file no.py"),
    (CONFIG, "setup.cfg", "not a Python file"),
    (CONFIG, "main.py", "get_sweep"),
    (CONFIG, CONFIG + ':{"list": []}', "no points"),
  ],
)
def test_missing_files_are_named(config, sweep, message):
  with pytest.raises(SweepError, match=message):
    resolve.points(config, sweep)


@pytest.mark.parametrize(
  "path",
  sorted((launch_runs.ROOT / "configs/sweeps").glob("*.py")),
  ids=lambda path: path.stem,
)
def test_every_sweep_file_fits_the_config_of_its_name(path, monkeypatch):
  monkeypatch.chdir(launch_runs.ROOT)
  found = resolve.points(f"configs/{path.name}", str(path))
  assert len({point.id for point in found}) == len(found) > 1


def test_a_config_may_load_anything_but_the_controller_loads_no_jax(tmp_path):
  """Not even when the configuration imports it; nor numpy."""
  config = tmp_path / "heavy.py"
  config.write_text(
    "import sys, types\n"
    "sys.modules['jax'] = types.ModuleType('jax')\n"  # as good, and faster
    "from ml_collections import ConfigDict\n"
    "def get_config(): return ConfigDict(dict(seed=0))\n"
    "def get_sweep(): return dict(grid=dict(seed=(1, 2)))\n"
  )
  script = f"""
import sys
from launch import sweep
sweep.main(["--config={config}", "--sweep={config}", "--executor=slurm",
            "--dry_run", "--workdir={tmp_path}/w"])
sweep.main(["status", "--workdir={tmp_path}/w"])
import launch.local, launch.slots, launch.slurm, launch.status, launch.worker
heavy = {{"jax", "numpy", "rich", "ml_collections", "matplotlib", "absl"}}
print(*heavy.intersection(sys.modules), file=sys.stderr)
"""
  done = subprocess.run(
    [sys.executable, "-c", script], capture_output=True, text=True
  )
  assert "2 points" in done.stdout and "2 missing" in done.stdout
  assert done.stderr.strip() == ""


def test_a_manifest_comes_back_as_it_was(tmp_path):
  path = tmp_path / "points.jsonl"
  given = [
    Point("a", "c.py:x", {"s": "ü\n", "t": [1, [2.5]], "b": True}),
    Point("b", "c.py", {}, in_sweep=False),
  ]
  manifest.write(path, given)
  assert manifest.load(path) == given
  assert [manifest.load_line(path, i) for i in (0, 1)] == given
  before = path.stat().st_mtime_ns
  manifest.write(path, given)
  assert path.stat().st_mtime_ns == before
  assert os.listdir(tmp_path) == ["points.jsonl"]
  with pytest.raises(SweepError, match="no line 3"):
    manifest.load_line(path, 2)


@settings(max_examples=30, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found_and_named(tmp_path_factory, place, bit):
  path = tmp_path_factory.mktemp("bits") / "points.jsonl"
  manifest.write(path, made(5))
  data = bytearray(path.read_bytes())
  i = int(place * len(data))
  line = data[:i].count(b"\n") + 1
  data[i] ^= 1 << bit
  path.write_bytes(data)
  found, problems = manifest.read(path)
  assert problems and f"line {line}" in problems[0]
  with pytest.raises(SweepError, match=f"line {line}"):
    manifest.load(path)
  assert set(map(repr, found)) <= set(map(repr, made(5)))
  for i in range(5):
    try:
      assert manifest.load_line(path, i) == made(5)[i]
    except SweepError:  # of others only if the lines moved
      assert i == line - 1 or data.count(b"\n") != 5
    else:
      assert i != line - 1


@pytest.mark.parametrize("change", ["a line lost", "a line end more"])
def test_lines_that_moved_are_not_run_in_place_of_others(tmp_path, change):
  path = tmp_path / "points.jsonl"
  manifest.write(path, made(4))
  lines = path.read_bytes().split(b"\n")
  if change == "a line lost":
    data = lines[0] + b"\n" + lines[1] + b"".join(b"\n" + x for x in lines[3:])
  else:
    data = b"\n".join([lines[0], lines[1][:9], lines[1][9:], *lines[2:]])
  path.write_bytes(data)
  assert manifest.load_line(path, 0) == made(4)[0]
  for i in (1, 2, 3):
    if change == "a line lost" and i == 1:
      assert manifest.load_line(path, i) == made(4)[1]  # line 3 is gone
    else:
      with pytest.raises(SweepError):
        manifest.load_line(path, i)
  assert "in the wrong place" in "".join(manifest.read(path)[1])


def test_a_line_cut_off_and_a_line_twice_are_named(tmp_path):
  path = tmp_path / "points.jsonl"
  manifest.write(path, made(4))
  lines = path.read_text().splitlines()
  path.write_text("\n".join([*lines, lines[1], lines[2][:30]]))
  found, problems = manifest.read(path)
  assert found == made(4) and len(problems) == 2
  assert "line 5" in problems[0] and "line 2 in the wrong" in problems[0]
  assert "line 6" in problems[1]


def test_a_damaged_line_stops_the_launch_with_0_runs_and_status_tells(tmp_path):
  sweep = {"grid": {"seed": [0, 1, 2]}}
  launch_runs.run(tmp_path, sweep, "--executor=slurm", "--dry_run")
  path = tmp_path / "points.jsonl"
  whole = path.read_text()
  path.write_text(whole.replace('"seed": 1', '"seed": 7'))
  for more in ((), ("--executor=slurm", "--dry_run")):
    status, said = launch_runs.run(tmp_path, sweep, *more)
    assert status == 1 and "points.jsonl, line 2: is damaged" in said
    assert "Nothing was run" in said and "Traceback" not in said
  assert not (tmp_path / "points").exists()
  told = launch_runs.start(
    ["-m", "launch.sweep", "status", f"--workdir={tmp_path}"]
  )
  status, said = launch_runs.output(told)
  assert status == 1 and "2 missing, 1 damaged lines" in said
  assert "line 2: is damaged" in said
  path.unlink()  # as the message says
  launch_runs.run(tmp_path, sweep, "--executor=slurm", "--dry_run")
  assert path.read_text() == whole


def test_a_changed_sweep_keeps_lines_and_ids_and_marks_what_is_gone():
  old = made(4)
  new = [*made(6)[5:], *made(3)[1:]]  # 5, 1, 2
  merged = manifest.merge(old, new)
  assert [p.id[-1] for p in merged.points] == list("01235")
  assert [p.in_sweep for p in merged.points] == [False, True, True, False, True]
  assert [p.id[-1] for p in merged.added] == ["5"]
  assert [p.id[-1] for p in merged.removed] == ["0", "3"]
  back = manifest.merge(merged.points, old)
  assert [p.in_sweep for p in back.points] == [True] * 4 + [False]
  assert back.added == []
  assert manifest.merge([], old + old).points == old


def test_a_changed_sweep_runs_what_is_new_and_deletes_nothing(tmp_path):
  def seeds(*chosen):
    return {"grid": {"seed": chosen, "steps": [1]}}

  status, _ = launch_runs.run(tmp_path, seeds(0, 1))
  assert status == 0
  status, said = launch_runs.run(tmp_path, seeds(1, 2))
  assert status == 0 and "1 of them new" in said
  assert "1 are no longer in the sweep" in said and "2/2 done" in said
  assert launch_runs.check_history(tmp_path, 3, steps=1) == 3
  assert len(list((tmp_path / "points").iterdir())) == 3
