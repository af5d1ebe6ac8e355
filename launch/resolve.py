"""From a configuration and a sweep file to points.

A sweep file has a function get_sweep that returns a dict of any of
  grid: {name: values}; every combination, the last name fastest.
  list: [{name: value}]; as they are.
  random: dict(count=..., seed=..., draw={name: distribution}) where a
    distribution is ("uniform", low, high), ("log_uniform", low, high),
    ("integers", low, high) with both ends, or ("choice", value, ...).
Of several parts every combination is a point. A larger count keeps the points
of the smaller one, and a new name leaves the draws of the others.

Overrides are parsed by ml_collections as main.py does it (1 ms for a point), so
that a wrong name or type is found before any run starts.
"""

import itertools
import math
import random
import runpy
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch.manifest import Point, SweepError, digest, text

MOST = 100_000  # points of a sweep

# Name of a distribution -> what a uniform number u of [0, 1) becomes.
DRAWS = {
  "choice": lambda u, *values: values[int(u * len(values))],
  "integers": lambda u, low, high: low + int(u * (high - low + 1)),
  "uniform": lambda u, low, high: low + u * (high - low),
  "log_uniform": lambda u, low, high: low * (high / low) ** u,
}


def points(config: str, sweep: str) -> list[Point]:
  """The points that a sweep file gives over a configuration, repeats included.

  Args:
    config: FILE or FILE:ARGUMENT, as main.py's --config.
    sweep: FILE or FILE:ARGUMENT, where the argument is one of get_sweep.

  Raises:
    SweepError: a file cannot be loaded, or main.py would refuse an override or
      read another value.
  """
  for flag, given in (("config", config), ("sweep", sweep)):
    if not Path(given.partition(":")[0]).is_file():
      raise SweepError(f"--{flag}={given}: there is no such file")
  path, *argument = sweep.split(":", 1)
  try:
    made = runpy.run_path(path)["get_sweep"](*argument)
  except Exception as error:  # somebody's code: anything may happen
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f", line {f.lineno}" for f in frames if f.filename == path]
    raise SweepError(
      f"--sweep={sweep}{''.join(lines[-1:])}: {_said(error)}; expected a "
      "Python file with a function get_sweep that returns a dict"
    ) from error
  overrides = combine(made)
  _require(overrides, f"--sweep={sweep}", made, "points")
  return [Point(_id(config, chosen), config, chosen) for chosen in overrides]


def _id(config: str, chosen: dict[str, Any]) -> str:
  """Digest of the values that main.py would run with."""
  from absl import flags
  from ml_collections import config_flags
  from ml_collections.config_flags import config_path

  values = flags.FlagValues()
  argv = ["sweep", *Point("", config, chosen).arguments]
  config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
  try:
    values(argv)
    read = {name: config_path.get_value(name, values.config) for name in chosen}
    identity = digest(values.config.to_dict())
  except Exception as error:  # a configuration is somebody's code, too
    given = " ".join(argv[1:])
    raise SweepError(f"main.py would refuse {given}: {_said(error)}") from error

  # What ml_collections cannot read in a tuple makes it one text, silently.
  for name, given in chosen.items():
    found = read[name]
    if hasattr(found, "to_dict"):
      found = found.to_dict()
    found = plain(found, name)
    good = found in (given, [given]) or text(found) == text(given)
    good = good or isinstance(given, str)  # which is read by type
    expected = "a value that it reads as it is: in lists no nan and no inf"
    _require(good, f"{name}, which main.py reads as {found!r}", given, expected)
  return identity


def combine(sweep: Mapping) -> list[dict[str, Any]]:
  """Overrides of every point, in plain Python.

  Raises:
    SweepError: a part is unknown or wrong, or a value has no plain form.
  """
  sweep = plain(sweep, "sweep")
  parts = {"grid": _grid, "list": _listed, "random": _random}
  good = isinstance(sweep, dict) and sweep and set(sweep) <= set(parts)
  _require(good, "sweep", sweep, f"a dict of some of {list(parts)}")
  made = [p for key in parts if key in sweep for p in parts[key](sweep[key])]
  count = math.prod(map(len, made))
  _require(count <= MOST, "sweep", f"{count} points", f"at most {MOST}")

  points = []
  for chosen in itertools.product(*made):
    names = sorted(name for part in chosen for name in part)
    for one, other in itertools.combinations(names, 2):
      if one == other or other.startswith(f"{one}."):
        raise SweepError(f"{one!r} and {other!r} are both set in one point")
    points.append({name: part[name] for part in chosen for name in part})
  return points


def plain(value: Any, name: str) -> Any:
  """`value` in JSON's types: numbers and arrays of numpy become Python's."""
  if hasattr(value, "tolist"):  # of numpy, JAX, pandas
    value = value.tolist()
  if isinstance(value, Mapping) and all(type(key) is str for key in value):
    return {key: plain(value[key], f"{name}[{key!r}]") for key in value}
  if isinstance(value, (list, tuple, range)):
    return [plain(item, f"{name}[{i}]") for i, item in enumerate(value)]
  kind = f"{type(value).__module__}.{type(value).__name__}"
  good = value is None or type(value) in (bool, int, float, str)
  good = good and "\0" not in str(value)  # ends the arguments of a process
  expected = "None, numbers, texts, lists, {text: value} or arrays of numpy"
  _require(good, f"{name}, of type {kind}", value, expected)
  return value


def _grid(grid):
  _require(isinstance(grid, dict), "grid", grid, "{name: values}")
  for name, values in grid.items():
    good = isinstance(values, list) and values
    _require(good, f"grid[{name!r}]", values, "a list of values")
  return [[{name: value} for value in grid[name]] for name in grid]


def _listed(points):
  good = isinstance(points, list) and all(isinstance(p, dict) for p in points)
  _require(good, "list", points, "[{name: value}, ...]")
  return [points]


def _random(given):
  keys = {"count": int, "seed": int, "draw": dict}
  good = isinstance(given, dict) and set(given) == set(keys)
  good = good and all(isinstance(given[key], keys[key]) for key in keys)
  good = good and 0 <= given["count"] <= MOST and given["seed"] >= 0
  expected = "dict(count=5, seed=0, draw={name: distribution}), whole numbers"
  _require(good, "random", given, expected)

  points: list[dict[str, Any]] = [{} for _ in range(given["count"])]
  for name, distribution in given["draw"].items():
    good = isinstance(distribution, list) and distribution
    kind, *values = distribution if good else [""]
    good = isinstance(kind, str) and kind in DRAWS and values
    if good and kind != "choice":
      good = [type(value) in (int, float) for value in values] == [True, True]
      good = good and -1e300 < values[0] <= values[1] < 1e300
      good = good and (kind != "log_uniform" or values[0] > 0)
    expected = f"(one of {list(DRAWS)}, low, high), or choice's values"
    _require(good, f"distribution of {name!r}", distribution, expected)
    # A stream per name, seeded by text: the same in every Python.
    stream = random.Random(f"{given['seed']}/{name}")
    for point in points:
      point[name] = DRAWS[kind](stream.random(), *values)
  return [points]


def _require(condition, name, given, expected):
  if not condition:
    raise SweepError(f"{name}: given {given!r}, expected {expected}")


def _said(error):
  return f"{type(error).__name__}: {' '.join(str(error).split())}"
