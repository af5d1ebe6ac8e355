"""What a sweep file gives: grids, lists and random samples of overrides."""

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from launch.manifest import SweepError

PARTS = ("grid", "list", "random")
DRAWS = ("choice", "integers", "uniform", "log_uniform")


def combine(sweep: Mapping) -> list[dict[str, Any]]:
  """Overrides of every point that a sweep file gives.

  Args:
    sweep: what `get_sweep` of the file returns, any of
      grid: {name: values}; every combination, the last name fastest.
      list: [{name: value}]; as they are.
      random: dict(count=..., seed=..., draw={name: distribution}) where a
        distribution is ("uniform", low, high), ("log_uniform", low, high),
        ("integers", low, high) with both ends, or ("choice", value, ...).
      Of several parts every combination is a point. A larger count keeps the
      points of the smaller one, and a new name leaves the draws of the others.

  Raises:
    SweepError: no part, an unknown one, or one that is not as described.
  """
  _require(isinstance(sweep, Mapping) and sweep, "sweep", sweep, f"{PARTS}")
  unknown = [key for key in sweep if key not in PARTS]
  _require(not unknown, "keys of the sweep", unknown, f"some of {PARTS}")
  makers = {"grid": _grid, "list": _listed, "random": _random}
  parts = [makers[key](sweep[key]) for key in PARTS if key in sweep]
  points = []
  for chosen in itertools.product(*parts):
    names = [name for part in chosen for name in part]
    for one, other in itertools.combinations(sorted(names), 2):
      if one == other or other.startswith(f"{one}."):
        raise SweepError(f"{one!r} and {other!r} are both set in one point")
    points.append({name: part[name] for part in chosen for name in part})
  return points


def _grid(grid):
  _require(isinstance(grid, Mapping), "grid", grid, "{name: values}")
  for name, values in grid.items():
    _require(
      isinstance(values, Sequence) and not isinstance(values, str) and values,
      f"grid[{name!r}]",
      values,
      "a list of values",
    )
  chosen = itertools.product(*grid.values())
  return [dict(zip(grid, values, strict=True)) for values in chosen]


def _listed(points):
  good = isinstance(points, Sequence) and all(
    isinstance(point, Mapping) for point in points
  )
  _require(good, "list", points, "[{name: value}, ...]")
  return [dict(point) for point in points]


def _random(given):
  _require(
    isinstance(given, Mapping) and set(given) == {"count", "seed", "draw"},
    "random",
    given,
    "dict(count=..., seed=..., draw={name: distribution})",
  )
  count, seed = given["count"], given["seed"]
  whole = all(isinstance(n, int) and n >= 0 for n in (count, seed))
  _require(whole, "random: count and seed", (count, seed), "whole numbers")
  columns = {}
  for name, distribution in given["draw"].items():
    _check_distribution(name, distribution)
    # A stream per name, seeded by text: the same in every Python.
    stream = random.Random(f"{seed}/{name}")
    columns[name] = [_draw(stream, *distribution) for _ in range(count)]
  return [{name: columns[name][i] for name in columns} for i in range(count)]


def _check_distribution(name, distribution):
  kind, *values = distribution or ("",)
  good = kind in DRAWS and values
  if good and kind != "choice":
    good = len(values) == 2 and values[0] <= values[1]
    good = good and (kind != "log_uniform" or values[0] > 0)
  _require(
    good,
    f"random: the distribution of {name!r}",
    distribution,
    f"(one of {DRAWS}, low, high) with low <= high, or ('choice', value, ...)",
  )


def _draw(stream, kind, *values):
  if kind == "choice":
    return values[int(stream.random() * len(values))]
  if kind == "integers":
    low, high = values
    return low + int(stream.random() * (high - low + 1))
  if kind == "uniform":
    low, high = values
    return low + stream.random() * (high - low)
  low, high = map(math.log, values)
  return min(
    max(math.exp(low + stream.random() * (high - low)), values[0]), values[1]
  )


def _require(condition, name, given, expected):
  if not condition:
    raise SweepError(f"{name}: given {given!r}, expected {expected}")
