"""The simulator against its numpy referee: networks, and random layers.

    python tests/pulp_comparison.py [--layers 10000] [--seed 0]

Every entry of every network of the zoo at all 27 precisions on all targets, and
random layers at random precisions on random targets, must be equal.
"""

import argparse
import dataclasses
import re
from typing import NamedTuple

import numpy as np
from pulp_referee import timeline as referee

from hwsim.pulp import TARGETS, Target, simulate
from hwsim.pulp.geometry import OPS
from hwsim.workload import Layer

BITS = (2, 4, 8)


class Entry(NamedTuple):
  """What is timed: one layer at one precision on one target."""

  layer: Layer
  bits: tuple[int, int, int]
  target: Target
  input_in_l3: bool = False


def cycles(simulate, entry):
  """Six numbers of `LayerCycles`, or which memory has no tiling."""
  layer, bits, target, input_in_l3 = entry
  try:
    return tuple(simulate(layer, *bits, target, input_in_l3))
  except ValueError as error:
    return re.search("fits no (tile|L3 tiling)", str(error)).group()


def differences(entries):
  """(entry, ours, referee's) of all that are not equal."""
  pairs = [
    (entry, cycles(simulate, entry), cycles(referee.simulate, entry))
    for entry in entries
  ]
  return [row for row in pairs if row[1] != row[2]]


def random_layer(random):
  """Any operator, from one pixel to maps that are cut between L3 and L2."""

  def size(high):
    return int(np.exp(random.uniform(0, np.log(high))))

  op = str(random.choice(OPS))
  large = random.random() < 0.3
  channels = size(700 if large else 80)
  outputs = channels
  if op in ("conv", "linear"):
    outputs = size(700 if large else 80)
  height, width = (size(120 if large else 40) for _ in range(2))
  kernel = [int(random.choice((1, 1, 2, 3, 3, 5, 7)))] * 2
  if random.random() < 0.2:
    kernel[1] = int(random.choice((1, 3, 4)))
  stride = int(random.choice((1, 1, 2, 3)))
  pads = [k // 2 for k in kernel for _ in range(2)]
  if random.random() < 0.4:
    pads = [int(random.integers(0, pad + 1)) for pad in pads]
  if op in ("linear", "add"):
    kernel, stride, pads = [1, 1], 1, [0] * 4
  if op == "linear":
    height = width = 1
  height = max(height, kernel[0] - pads[0] - pads[1])
  width = max(width, kernel[1] - pads[2] - pads[3])
  return Layer(
    "random", op, channels, outputs, height, width, *kernel, stride, tuple(pads)
  )


def random_target(random):
  """One of the targets with other memories, buffers and transfers."""
  target = TARGETS[random.integers(len(TARGETS))]
  if random.random() < 0.3:
    return target
  if random.random() < 0.2:
    target = dataclasses.replace(target, conv_library="pulp-nn")
  return dataclasses.replace(
    target,
    l1_bytes=int(random.choice((40_000, 64_000, 96_000, 128_000, 512_000))),
    code_reserved_bytes=int(random.integers(0, 500_000)),
    double_buffering=int(random.choice((1, 2, 2))),
    constant_bits=int(random.choice((32, 64))),
    dma_bytes_per_cycle=int(random.choice((4, 8, 16))),
    dma_line_cycles=int(random.integers(0, 4)),
    dma_command_cycles=float(random.integers(0, 80)) / 2,
    dma_store_line_cycles=int(random.integers(0, 3)),
    dma_queue_commands=int(random.integers(1, 40)),
    channel_tile_cycles=int(random.integers(0, 100)),
    timing=str(random.choice(("iss", "core", "gvsoc"))),
    tile_cycles=int(random.integers(0, 900)),
    l3_bytes_per_cycle=float(random.choice((0.25, 0.5, 0.65, 3.0))),
  )


def random_entries(count, seed):
  random = np.random.default_rng(seed)
  bits = [*random.choice(BITS, (2, count)), random.choice((*BITS, 32), count)]
  return [
    Entry(
      random_layer(random),
      tuple(int(width) for width in widths),
      random_target(random),
      bool(random.random() < 0.1),
    )
    for widths in np.transpose(bits)
  ]


def network_entries(workload, targets=TARGETS):
  layers = {
    (layer.geometry, site is not None)
    for layer, site in zip(workload.layers, workload.output_sites, strict=True)
    if layer.op in OPS
  }
  return [
    Entry(layer, (a, w, o), target)
    for target in targets
    for layer, quantized in sorted(layers, key=str)
    for a in BITS
    for w in (BITS if layer.has_weights else (8,))
    for o in (BITS if quantized else (32,))
  ]


def report(what, entries):
  wrong = differences(entries)
  print(f"{what}: {len(entries)} entries, {len(wrong)} differ", flush=True)
  for row in wrong[:5]:
    print("  ", *row)
  return len(wrong)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--layers", type=int, default=10_000)
  parser.add_argument("--seed", type=int, default=0)
  arguments = parser.parse_args()
  wrong = report("random", random_entries(arguments.layers, arguments.seed))
  from fbq import nets

  for name in sorted(nets.BUILDERS):
    wrong += report(name, network_entries(nets.build(name).workload))
  raise SystemExit(bool(wrong))


if __name__ == "__main__":
  main()
