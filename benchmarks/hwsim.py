"""Speed of the hardware simulator: tables, scores, growth.

    python -m benchmarks.hwsim [--plot growth.png] [--targets 1000]

Prints one row per figure with the aim beside it. "Cold" is a new process with
its compiled code and caches empty, imports excluded; "warm" repeats it with the
code compiled and every entry computed again.
"""

import argparse
import dataclasses
import pathlib
import statistics
import sys
import time

import numpy as np

from hwsim.latency_table import encode, flat_costs
from hwsim.pulp import TARGETS, XPULPNN_V1, latency_table, many, table
from hwsim.scoring import score
from hwsim.workload import Layer, Workload


def mobilenet_v1(width=0.75, resolution=224, classes=1000):
  """MobileNetV1's weighted layers as a chain."""
  plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
  plan += [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
  same = (1, 1, 1, 1)
  channels, size = int(32 * width), resolution
  layers = [Layer("conv1", "conv", 3, channels, size, size, 3, 3, 2, same)]
  size = layers[-1].out_height
  for i, (features, stride) in enumerate(plan, start=1):
    depthwise = Layer(
      f"dw{i}", "depthwise", channels, channels, size, size, 3, 3, stride, same
    )
    size, features = depthwise.out_height, int(features * width)
    layers += [
      depthwise,
      Layer(f"pw{i}", "conv", channels, features, size, size),
    ]
    channels = features
  layers.append(Layer("fc", "linear", channels, classes))
  made = [f"{layer.name}.out" for layer in layers]
  return Workload(
    f"mobilenet_v1_{width}_{resolution}",
    tuple(layers),
    tuple((i - 1,) for i in range(len(layers))),
    tuple((site,) for site in ("image.out", *made[:-1])),
    (*made[:-1], None),
    (("image.out", 8),),
  )


def seconds(function, repeats=1):
  """Median time of a call, in seconds."""
  times = []
  for _ in range(repeats):
    start = time.perf_counter()
    function()
    times.append(time.perf_counter() - start)
  return statistics.median(times)


def report(what, value, aim=""):
  print(f"{what:<58} {value:>14}  {aim}")


def tables(net, targets=TARGETS):
  """Every precision of every layer on targets, computed again."""
  table._timed.cache_clear()
  for target in targets:
    latency_table(net, target)


def many_targets(count):
  """Targets that differ in memories, transfers and software."""
  random = np.random.default_rng(0)
  return [
    dataclasses.replace(
      TARGETS[i % len(TARGETS)],
      name=f"target {i}",
      l1_bytes=int(random.integers(48_000, 256_000)),
      code_reserved_bytes=int(random.integers(60_000, 180_000)),
      dma_bytes_per_cycle=int(random.choice((4, 8, 16))),
      tile_cycles=int(random.integers(100, 800)),
    )
    for i in range(count)
  ]


def against_the_referee(net):
  """Seconds of a dictionary by the numpy referee and by this, interleaved."""
  sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))
  from pulp_comparison import network_entries
  from pulp_referee import tiling, tiling_l3, timeline

  entries = network_entries(net)

  def referee():
    tiling._tile.cache_clear()
    tiling_l3._tile.cache_clear()
    for entry in entries:
      timeline.simulate(entry.layer, *entry.bits, entry.target)

  pairs = [(seconds(referee), seconds(lambda: tables(net))) for _ in range(5)]
  return len(entries), *np.median(pairs, axis=0)


def rate(costs, codes, repeats=9):
  score(costs, codes)  # compile
  return len(codes) / seconds(lambda: score(costs, codes), repeats)


def growth(net, latencies, path):
  """How time grows with layers, candidates and the space of tiles."""
  import matplotlib

  matplotlib.use("Agg")
  import matplotlib.pyplot as plt

  random = np.random.default_rng(0)
  figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
  costs = flat_costs(latencies, net)
  counts = [10**k for k in range(3, 8)]
  times = []
  for count in counts:
    codes = random.integers(0, 9, (count, len(costs)), dtype=np.uint8)
    times.append(count / rate(costs, codes, 5))
  title = f"scoring 28 layers: {counts[-1] / times[-1]:.2g} candidates/s"
  curve(axes[0], counts, times, "candidates", title)
  depths = [7, 14, 28, 56, 112]
  times = []
  for depth in depths:
    codes = random.integers(0, 9, (10**6, depth), dtype=np.uint8)
    tall = np.resize(costs, (depth, 9))
    times.append(1e6 / rate(tall, codes, 5))
  title = f"scoring 1e6 candidates: {1e9 * times[-1] / 1e6 / depths[-1]:.2f} "
  curve(axes[1], depths, times, "layers", title + "ns per layer")
  sizes = [14, 28, 56, 112, 224, 448]
  points, times = [], []
  for size in sizes:
    layer = Layer("pw", "conv", 64, 64, size, size)
    points.append(64 * size)
    work = Workload("pw", (layer,), ((-1,),), (("x",),), ("y",))
    times.append(seconds(lambda: tables(work, TARGETS[:1]), 9))  # noqa: B023
  title = f"one layer, 27 precisions: {27 / times[-1]:.2g} entries/s"
  curve(axes[2], points, times, "tiles of a pointwise layer", title)
  figure.savefig(path)


def curve(axes, counts, times, xlabel, title):
  """Times, each with its value, and what proportional growth would be."""
  axes.loglog(counts, times, "o-", zorder=3)
  line = [times[-1] * count / counts[-1] for count in counts]
  axes.loglog(counts, line, "--", color="gray", label="proportional")
  for count, value in zip(counts, times, strict=True):
    unit = "ms" if value >= 1e-3 else "us"
    axes.annotate(
      f"{value * (1e3 if unit == 'ms' else 1e6):.3g} {unit}",
      (count, value),
      xytext=(-4, 5),
      textcoords="offset points",
      ha="right",
      fontsize=8,
    )
  axes.set(xlabel=xlabel, ylabel="seconds")
  axes.set_title(title, fontsize=9.5, loc="left")
  axes.margins(x=0.2, y=0.12)
  axes.spines[["top", "right"]].set_visible(False)
  axes.tick_params(which="minor", labelleft=False, labelbottom=False)
  axes.legend(fontsize=8, frameon=False, loc="lower right")


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--plot", help="write growth curves to this picture")
  parser.add_argument("--targets", type=int, default=100)
  arguments = parser.parse_args()
  net = mobilenet_v1()
  distinct = len({layer.geometry for layer in net.layers})
  entries = 27 * len(net.layers) * len(TARGETS)
  report("MobileNetV1-0.75-224, 27 precisions x 3 targets", f"{entries}")
  report(
    f"  cold, {distinct} distinct layers, with compilation",
    f"{seconds(lambda: tables(net)):.2f} s",
    "<= 3 s",
  )
  report("  warm", f"{seconds(lambda: tables(net), 5):.2f} s", "<= 0.3 s")
  count, before, now = against_the_referee(net)
  report(f"  {count} entries: numpy referee", f"{before:.2f} s")
  report("  the same, compiled, in turn", f"{now:.2f} s")
  if arguments.targets:
    constants = many.stack(many_targets(arguments.targets))
    few = many.stack(many_targets(1))
    both = [
      seconds(lambda c=c: many.latency_tables(net, c)) for c in (few, constants)
    ]
    report("Many targets at once: compiling both programs", f"{both[0]:.1f} s")
    report(
      f"{arguments.targets} targets x 20 layers x 27 precisions",
      f"{both[1]:.1f} s",
      "<= 60 s for 1000",
    )
  latencies = latency_table(net, XPULPNN_V1)
  again = seconds(lambda: latency_table(net, XPULPNN_V1), 20)
  report("  again, layers cached, one target", f"{again * 1e3:.2f} ms")

  random = np.random.default_rng(0)
  bits = random.choice(
    np.array((2, 4, 8), np.uint8), (1 << 21, len(net.free_sites))
  )
  codes = encode(net, bits, net.free_sites)
  report(
    "scoring, published setting",
    f"{rate(flat_costs(latencies, net), codes):.3g} /s",
    ">= 1.5e8 /s",
  )
  of_sites = encode(net, bits, net.free_sites, "site")
  report(
    "scoring, output bits of each site",
    f"{rate(flat_costs(latencies, net, 'site'), of_sites):.3g} /s",
  )
  copy = codes.nbytes / seconds(codes.copy, 9)
  share = rate(flat_costs(latencies, net), codes) * len(net.layers) / copy
  report("  bytes read, as a share of copying them", f"{share:.0%}")
  encoding = seconds(lambda: encode(net, bits, net.free_sites), 3)
  report("encoding bits of sites into codes", f"{len(bits) / encoding:.3g} /s")
  if arguments.plot:
    growth(net, latencies, arguments.plot)


if __name__ == "__main__":
  main()
