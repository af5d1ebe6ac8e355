"""Speed of the exact data-movement search, and how far IPOPT is from it.

    python -m benchmarks.movement [--cases N]

Sweeps are of ResNet-18 at 224 pixels: every combination of the paper's 48
formats for input, weights and output. They are timed in turn with the numpy
code of `tests/hwsim_bfp_numpy.py`, and equal in every entry. CPU time is of one
process; compare that on a busy machine.

IPOPT (through CasADi: `pip install casadi`, skipped without it) gets the same
problem as one continuous program per loop order, as BitQ and MOpt pose it; its
tiles are rounded down and priced by the exact model. BitQ's own search solves
some 260 of these programs per layer and triple, for four memory levels.
"""

import argparse
import itertools
import math
import pathlib
import statistics
import sys
import time
from fractions import Fraction

import numpy as np

from fbq import nets
from hwsim.bfp import (
  FP32,
  Nest,
  best_tiling,
  bitq_grid,
  least_movement,
  movement_table,
  nest_of,
)
from hwsim.bfp.candidates import candidates
from hwsim.bfp.movement import LOOPS, ORDERS
from hwsim.bfp.table import layer_prices

sys.path.append(str(pathlib.Path(__file__).parents[1] / "tests"))
import hwsim_bfp_numpy as by_numpy  # noqa: E402

PRICES = ((16, 16, 16), (10.5, 14.25, 12.125), (8, 8, 8))


def timed(function, *arguments):
  """Result, wall seconds and CPU seconds of a call."""
  wall, cpu = time.perf_counter(), time.process_time()
  result = function(*arguments)
  return result, time.perf_counter() - wall, time.process_time() - cpu


def report(what, value, aim=""):
  print(f"{what:<58} {value:>22}  {aim}")


def seconds(wall, cpu):
  return f"{wall:.2f} s, CPU {cpu:.2f} s"


def problems(workload, grid):
  """Nest and prices in every format of each distinct layer with weights."""
  found = {}
  for i, layer in enumerate(workload.layers):
    if layer.has_weights:
      found.setdefault(nest_of(layer), layer_prices(workload, i, grid, grid))
  return found.items()


def exact():
  """Sweeps of all formats, in turn with numpy; returns CPU s per triple."""
  workload, grid = nets.resnet18().workload, bitq_grid(16)
  _, wall, cpu = timed(movement_table, workload, grid, 64 * 8192)
  report("ResNet-18, 48^3 formats, 64 KB, first call", seconds(wall, cpu))
  times = [
    timed(movement_table, workload, grid, 64 * 8192)[1:] for _ in range(5)
  ]
  wall, cpu = map(statistics.median, zip(*times, strict=True))
  report("  compiled, median of 5", seconds(wall, cpu), "<= 1 s on two cores")
  for network in (nets.mobilenet_v2(), nets.googlenet()):
    _, wall, cpu = timed(movement_table, network.workload, grid, 64 * 8192)
    report(f"  {network.name}, compiled", seconds(wall, cpu))
  for word, kilobytes in ((16, 64), (16, 16), (8, 64)):
    interleaved(workload, bitq_grid(word), kilobytes)
  triples, tiles = [], []
  for nest, prices in problems(workload, grid):
    triples.append(math.prod(len(set(axis)) for axis in prices))
    tiles.append(candidates(nest).counts.prod(1).sum())
  report("  distinct layers, candidates", f"{len(tiles)}, {sum(tiles)}")
  report(
    "  candidates x triples answered",
    f"{np.dot(tiles, triples) / cpu:.2g} /s",
    ">= 1e8 /s",
  )
  return cpu / sum(triples)


def interleaved(workload, grid, kilobytes):
  """Each layer by this code and by numpy, which must be equal."""
  spent = np.zeros(3)
  for nest, prices in problems(workload, grid):
    problem = nest, *prices, kilobytes * 8192
    found, _, here = timed(least_movement, *problem)
    _, _, table = timed(by_numpy.tiling_table, nest)
    expected, _, there = timed(by_numpy.least_movement, *problem)
    assert found[1] == expected[1] and (found[0] == expected[0]).all(), nest
    spent += here, there, table
  report(
    f"  {len(grid)}^3 formats, {kilobytes} KB: CPU, numpy, its tables",
    ", ".join(f"{s:.2f}" for s in spent) + " s",
    "equal in every entry",
  )


def relaxation(casadi, nest: Nest, order, prices, memory_bits):
  """One loop order as a continuous program: (solver, bounds)."""
  size = dict(zip(LOOPS, nest.sizes, strict=True))
  tile = {d: casadi.SX.sym(d) for d in "nkchwrs"}
  trips = {d: size[d] / tile[d] for d in tile}

  def window(out, tap):  # input rows of a tile, and of a loop that slides
    return nest.stride * (out - 1) + tap

  moved = []
  for loops in ("nchwrs", "kcrs", "nkhw"):
    fresh, slides, volume = True, None, 1
    for d in order.replace("g", ""):
      if fresh and loops == "nchwrs" and d in "hwrs":
        slides = d
      elif d in loops or not fresh:
        volume *= trips[d]
      fresh = fresh and d not in loops
    for d in loops:
      if loops != "nchwrs" or d not in "hwrs":
        volume *= tile[d]
    if loops == "nchwrs":
      whole = {d: size[d] if d == slides else tile[d] for d in "hwrs"}
      volume *= window(whole["h"], whole["r"]) * window(whole["w"], whole["s"])
    moved.append(volume)
  held = (
    tile["n"] * tile["c"] * window(tile["h"], tile["r"])
    * window(tile["w"], tile["s"]),
    tile["k"] * tile["c"] * tile["r"] * tile["s"],
    tile["n"] * tile["k"] * tile["h"] * tile["w"],
  )  # fmt: skip
  cost = sum(p * v for p, v in zip(prices, moved, strict=True))
  cost += prices[2] * moved[2]  # outputs are read and written
  used = sum(p * f for p, f in zip(prices, held, strict=True))
  problem = {
    "x": casadi.vertcat(*tile.values()),
    "f": cost / 1e6,  # of the order of 10
    "g": used / memory_bits,
  }
  quiet = {"print_time": False, "ipopt": {"print_level": 0, "sb": "yes"}}
  solver = casadi.nlpsol("solver", "ipopt", problem, quiet)
  return solver, [size[d] for d in tile]


def by_ipopt(casadi, nest, prices, memory_bits):
  """Least exact bits of the floored tiles of eight programs, solver seconds.

  IPOPT ends at 55.9999 where a bound is 56: what is that close counts as whole,
  if it fits.
  """
  best, spent = np.inf, 0.0
  for order in ORDERS:
    solver, sizes = relaxation(casadi, nest, order, prices, memory_bits)
    start = time.process_time()
    found = solver(x0=[1] * 7, lbx=[1] * 7, ubx=sizes, ubg=1)
    spent += time.process_time() - start
    for slack in (1e-4, 0):
      floored = np.floor(np.array(found["x"]).ravel() * (1 + slack))
      sized = np.clip(floored.astype(np.int64), 1, sizes)
      tile = np.concatenate(([1], sized))
      if by_numpy.footprints(nest, tile) @ prices <= memory_bits:
        moved = by_numpy.volumes(nest, tile, order) * (1, 1, 2)
        best = min(best, float(moved @ prices))
  return best, spent


def against_ipopt(per_triple, cases):
  try:
    import casadi
  except ImportError:
    print("IPOPT: skipped, casadi is not installed (pip install casadi)")
    return
  nests = dict(problems(nets.resnet18().workload, [FP32]))
  every = list(itertools.product((32, 64, 128), PRICES, nests))
  ratios, times, direct = {32: [], 64: [], 128: []}, [], []
  step = max(1, len(every) // cases)
  for kb, prices, nest in every[::step]:
    exact_prices = [Fraction(p) for p in prices]
    bits, spent = by_ipopt(casadi, nest, prices, kb * 8192)
    best, _, cpu = timed(best_tiling, nest, exact_prices, kb * 8192)
    ratios[kb].append(bits / float(best.bits))
    times.append(spent)
    direct.append(cpu)
    assert ratios[kb][-1] > 1 - 1e-9, (kb, prices, nest)
  print(f"IPOPT on {len(times)} problems (one layer, triple, memory size):")
  report("  solving eight orders, median CPU", f"{np.median(times):.3f} s")
  report("  exact, this problem alone", f"{np.median(direct):.3f} s")
  report("  exact, as part of a sweep", f"{1e6 * per_triple:.2f} us")
  report("  IPOPT / exact in a sweep", f"{np.median(times) / per_triple:.3g}")
  for kb, values in ratios.items():
    excess = 100 * (np.array(values) - 1)
    report(
      f"  more data than the optimum at {kb} KB",
      f"mean {excess.mean():.1f} %",
      f"worst {excess.max():.0f} %, "
      f"{(excess > 1).sum()} of {len(excess)} over 1 %",
    )


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    "--cases", type=int, default=99, help="problems that IPOPT solves"
  )
  arguments = parser.parse_args()
  against_ipopt(exact(), arguments.cases)


if __name__ == "__main__":
  main()
