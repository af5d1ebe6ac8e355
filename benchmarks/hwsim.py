"""Speed of the hardware simulator: tables, scores, growth.

    python -m benchmarks.hwsim [--plot growth.png]

Prints one row per figure with the aim beside it. "Cold" is a new process with
its compiled code and caches empty, imports excluded; "warm" repeats it with the
tilings cached but the timelines computed again.
"""

import argparse
import dataclasses
import statistics
import time

import numpy as np

from hwsim.latency_table import encode, flat_costs, score
from hwsim.pulp import TARGETS, XPULPNN_V1, latency_table, layer_table
from hwsim.pulp.tiling import tile_l1
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


def tables(net):
  """Every precision of every layer on three targets, layer by layer."""
  layers = {layer.geometry: layer for layer in net.layers}.values()
  for target in TARGETS:
    for layer in layers:
      layer_table(layer, layer.op != "linear", target)


def rate(costs, codes, repeats=9):
  score(costs, codes)  # compile
  return len(codes) / seconds(lambda: score(costs, codes), repeats)


def growth(net, table, path):
  """How time grows with layers, candidates and the space of tiles."""
  import matplotlib

  matplotlib.use("Agg")
  import matplotlib.pyplot as plt

  random = np.random.default_rng(0)
  figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
  costs = flat_costs(table, net)
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
    points.append(64 * size**2)
    targets = iter(
      dataclasses.replace(XPULPNN_V1, l1_bytes=64_000 - i) for i in range(9)
    )  # a new budget each time, so that nothing is cached
    times.append(seconds(lambda: tile_l1(layer, 8, 8, 8, next(targets)), 9))  # noqa: B023
  title = f"one tiling: {points[-1] / times[-1]:.2g} tiles/s"
  curve(axes[2], points, times, "tile sizes of a pointwise layer", title)
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
  arguments = parser.parse_args()
  net = mobilenet_v1()
  distinct = len({layer.geometry for layer in net.layers})
  entries = 27 * len(net.layers) * len(TARGETS)
  report("MobileNetV1-0.75-224, 27 precisions x 3 targets", f"{entries}")
  report(
    f"  cold, {distinct} distinct layers",
    f"{seconds(lambda: tables(net)):.2f} s",
    "<= 10 s",
  )
  report(
    "  warm, tilings cached", f"{seconds(lambda: tables(net)):.2f} s", "<= 2 s"
  )
  table = latency_table(net, XPULPNN_V1)
  again = seconds(lambda: latency_table(net, XPULPNN_V1), 20)
  report("  again, layers cached, one target", f"{again * 1e3:.2f} ms")

  random = np.random.default_rng(0)
  bits = random.choice(
    np.array((2, 4, 8), np.uint8), (1 << 21, len(net.free_sites))
  )
  codes = encode(net, bits, net.free_sites)
  report(
    "scoring, published setting",
    f"{rate(flat_costs(table, net), codes):.3g} /s",
    ">= 1.5e8 /s",
  )
  many = encode(net, bits, net.free_sites, "site")
  report(
    "scoring, output bits of each site",
    f"{rate(flat_costs(table, net, 'site'), many):.3g} /s",
  )
  copy = codes.nbytes / seconds(codes.copy, 9)
  share = rate(flat_costs(table, net), codes) * len(net.layers) / copy
  report("  bytes read, as a share of copying them", f"{share:.0%}")
  encoding = seconds(lambda: encode(net, bits, net.free_sites), 3)
  report("encoding bits of sites into codes", f"{len(bits) / encoding:.3g} /s")
  if arguments.plot:
    growth(net, table, arguments.plot)


if __name__ == "__main__":
  main()
