"""Sweep files and ids: what is run is what was asked for."""

import itertools
import json

import launch_runs
import pytest

from launch import resolve
from launch.manifest import Point, SweepError
from launch.resolve import combine

CONFIG = launch_runs.CONFIG
# ml_collections loads configurations the old way.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")


def points(sweep):
  return resolve.points(CONFIG, f"{CONFIG}:{json.dumps(sweep)}")


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
    ({"random": {"count": 10**30, "seed": 0, "draw": {}}}, "whole"),
    ({"grid": {n: [0] * 10 for n in "abcdef"}}, "1000000 points.*at most"),
    ({"grid": {"a": [1]}, "list": [{"a": 2}]}, "both set"),
    ({"grid": {"a": [{}], "a.b": [2]}}, "both set"),
  ],
)
def test_wrong_sweeps_are_refused_by_name(sweep, message):
  with pytest.raises(SweepError, match=message):
    combine(sweep)


@pytest.mark.parametrize(
  "distribution",
  [
    *[("normal", 0, 1), ("uniform", 2, 1), ("log_uniform", 0, 1), ("choice",)],
    *[(), ("uniform", "a", "b"), ("integers", 1), ("uniform", 0, None)],
    *[7, "choice", ([], 1), ("integers", 0, float("inf"))],
  ],
)
def test_wrong_distributions_are_refused_by_name(distribution):
  with pytest.raises(SweepError, match=r"distribution of 'net\.a'"):
    sample(1, draw={"net.a": distribution})


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
    ("no.py", CONFIG, "--config=no.py: there is no such file"),
    (CONFIG, "no.py:x", "--sweep=no.py:x: there is no such file"),
    (CONFIG, "setup.cfg", "SyntaxError.*expected a Python file"),
    (CONFIG, "main.py", "get_sweep"),
    (CONFIG, CONFIG + ':{"list": []}', "expected points"),
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


def ids(tmp_path, text):
  """Ids of the points of a sweep file that uses numpy, and their overrides."""
  path = tmp_path / "sweep.py"
  path.write_text(
    "import numpy as np\nnan = float('nan')\n"
    f"def get_sweep():\n  return dict({text})\n"
  )
  found = resolve.points(CONFIG, str(path))
  return [point.id for point in found], [point.overrides for point in found]


@pytest.mark.parametrize(
  "theirs, plain",
  [
    (
      "grid={'rates': [tuple(np.array([.1, .2]))]}",
      "grid={'rates': [(.1, .2)]}",
    ),
    ("grid={'rates': [tuple(np.array([8, 4]))]}", "grid={'rates': [(8, 4)]}"),
    ("grid={'rates': np.eye(2)}", "grid={'rates': [(1., 0.), (0., 1.)]}"),
    (
      "grid={'rates': [(np.bool_(1), np.str_('a'))]}",
      "grid={'rates': [(True, 'a')]}",
    ),
    ("grid={'step_s': np.logspace(-2, -1, 2)}", "grid={'step_s': [.01, .1]}"),
    ("grid={'seed': list(np.arange(2))}", "grid={'seed': range(2)}"),
    (
      "list=[{'seed': np.int64(3), 'mood': np.str_('bad')}]",
      "list=[{'seed': 3, 'mood': 'bad'}]",
    ),
    (
      "random=dict(count=np.int32(2), seed=np.uint8(1), "
      "draw={'seed': ('choice', *np.arange(9))})",
      "random=dict(count=2, seed=1, draw={'seed': ('choice', *range(9))})",
    ),
    ("list=[{'net': {'a': np.int64(3)}}]", "list=[{'net': {'a': 3}}]"),
  ],
)
def test_values_of_numpy_are_the_same_plain_values(tmp_path, theirs, plain):
  found = ids(tmp_path, theirs)
  assert found == ids(tmp_path, plain)
  json.dumps(found)  # nothing of numpy is left


@pytest.mark.parametrize(
  "value, message",
  [
    ("(nan, 1)", r"rates, which main.py reads as \['\(nan, 1\)'\]: given"),
    ("(np.inf,)", "rates, which main.py reads as .*no nan and no inf"),
    ("nan", "rates, which main.py reads as .*: given nan"),
    ("np.longdouble(1)", r"of type numpy\.(longdouble|float64)"),
    ("1j", "of type builtins.complex"),
    ("{1, 2}", "of type builtins.set"),
    ("{1: 2}", "of type builtins.dict"),
    ("(b'a', 2)", r"\['rates'\]\[0\]\[0\], of type builtins.bytes"),
    ("__import__('pathlib').Path('a')", "of type pathlib.PosixPath"),
    (r"'a\0'", "of type builtins.str: given 'a.x00'"),
    ("np.datetime64('2026-01-01')", "of type datetime.date"),
  ],
)
def test_what_main_would_read_as_something_else_is_refused(
  tmp_path, value, message
):
  with pytest.raises(SweepError, match=message) as caught:
    ids(tmp_path, f"grid={{'rates': [{value}]}}")
  assert "expected" in str(caught.value) and "\n" not in str(caught.value)


def test_a_nan_that_main_reads_as_nan_is_none_of_that(tmp_path):
  (identity,), _ = ids(tmp_path, "list=[{'step_s': nan}]")
  assert identity != ids(tmp_path, "list=[{}]")[0][0]


@pytest.mark.parametrize(
  "text, message",
  [
    ("def get_sweep():\n  return 1 / 0\n", "line 2: ZeroDivisionError"),
    ("import nothing_of_this_name\n", "line 1: ModuleNotFoundError"),
    ("def get_sweep(: pass\n", "SyntaxError"),
    ("def sweep(): pass\n", "KeyError: 'get_sweep'; expected a Python file"),
    ("def get_sweep(): return None\n", "sweep: given None, expected a dict"),
  ],
)
def test_a_mistake_in_a_sweep_file_takes_a_line(tmp_path, text, message):
  path = tmp_path / "sweep.py"
  path.write_text(text)
  with pytest.raises(SweepError, match=message) as caught:
    resolve.points(CONFIG, str(path))
  assert "\n" not in str(caught.value)
