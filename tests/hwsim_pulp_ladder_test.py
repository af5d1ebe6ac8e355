"""Whole layers and networks against silicon and published figures.

The upper rungs of the validation ladder (docs/facts/pulp.md 7); nothing is
fitted. `python tests/hwsim_pulp_ladder_test.py` prints the tables of
`hwsim/pulp/README.md`.
"""

import dataclasses
import functools

import numpy as np
import pytest
from hwsim_networks import golden, mobilenet_v1

from hwsim.latency_table import BITS
from hwsim.pulp import (
  TARGETS,
  XPULP_V2,
  XPULPNN_V1,
  latency_table,
  simulate,
)
from hwsim.workload import Layer

B2, B4, B8 = range(len(BITS))
# GAP8 boards: other stacks and no overlap of DMA and kernels (facts 1.1). The
# L2 budget of the measured application is not known, so L3 is left out; layers
# whose weights alone exceed 500 kB were bound by it on the board.
GAP8 = dataclasses.replace(
  XPULP_V2,
  name="gap8",
  core0_stack_bytes=3_500,
  other_stack_bytes=3_400,
  double_buffering=1,
  l2_bytes=8_000_000,
)
FROM_L3 = ("pw12", "pw13", "fc")


def gap8_layers():
  """(name, measured cycles, simulated cycles) of MobileNetV1-1.0-128."""
  for row in golden("pulp_golden.json")["gap8_mnv1_10_128_8b"]["layers"]:
    size, k = row["H"], row["k"]
    op = "depthwise" if row["dw"] else "linear" if size == 1 else "conv"
    layer = Layer(
      row["name"], op, row["Ci"], row["Co"], size, size, k, k, row["s"],
      (k // 2,) * 4,
    )  # fmt: skip
    out_bits = 32 if op == "linear" else 8
    cycles = simulate(layer, 8, 8, out_bits, GAP8).total
    yield row["name"], row["silicon_cycles"], cycles


def free_bits(target):
  """Cycles of uniform 8-bit, uniform 4-bit, and 4-bit with Free Bits.

  Free Bits looks at each layer alone and takes the fastest precision among
  those not below the layer's own (quantlib bb_controllers.py:485-497). Outputs
  are timed at 8 bits and the image stays at 8, as published.
  """
  cycles = latency_table(mobilenet_v1(), target).for_output_bits(8)
  eight = cycles[:, B8, B8].sum()
  four = cycles[1:, B4, B4].sum() + cycles[0, B8, B4]
  free = cycles[1:, B4:, B4:].min(axis=(1, 2)).sum() + cycles[0, B8, B4:].min()
  return int(eight), int(four), int(free)


def l2_sweep(reserved):
  for kilobytes in reserved:
    yield (
      kilobytes,
      *free_bits(
        dataclasses.replace(XPULPNN_V1, code_reserved_bytes=kilobytes * 1000)
      ),
    )


@functools.cache
def published_setting():
  """Cycles int64[L, A, W] of MobileNetV1-0.75-224 on XPulpNNv1, and kinds."""
  net = mobilenet_v1()
  kinds = np.array(
    ["dw" if layer.op == "depthwise" else
     "pw" if (layer.op, layer.kernel_height) == ("conv", 1) else layer.op
     for layer in net.layers]
  )  # fmt: skip
  return latency_table(net, XPULPNN_V1).for_output_bits(8), kinds


def test_gap8_silicon():
  """Pointwise layers within 10 % in the median."""
  rows = list(gap8_layers())
  ratios = {name: ours / measured for name, measured, ours in rows}
  pointwise = [
    ratio
    for name, ratio in ratios.items()
    if name.startswith("pw") and name not in FROM_L3
  ]
  assert len(pointwise) == 11
  assert np.median(pointwise) == pytest.approx(1, abs=0.1)
  assert np.all(np.abs(np.log(pointwise)) < np.log(1.25))
  # The 8-bit library on the board has a special 3x3 kernel of stride 1, which
  # the mixed-precision library, the one modelled here, has not.
  depthwise = [r for name, r in ratios.items() if name.startswith("dw")]
  assert 0.9 < min(depthwise) and max(depthwise) < 1.55


def test_published_free_bits_reductions():
  """XPulpNNv1: 4-bit -32.3 %, 4-bit with Free Bits -37.1 % (slides)."""
  eight, four, free = free_bits(XPULPNN_V1)
  assert four / eight - 1 == pytest.approx(-0.323, abs=0.05)
  assert free / eight - 1 == pytest.approx(-0.371, abs=0.05)
  # What comes out today; a change of these is a change of the model.
  assert four / eight - 1 == pytest.approx(-0.324, abs=5e-4)
  assert free / eight - 1 == pytest.approx(-0.370, abs=5e-4)


def test_weights_below_activations_ruin_xpulpnn_v1():
  cycles, kinds = published_setting()
  pointwise = cycles[kinds == "pw"]
  assert np.all(pointwise[:, B8, B4] > 1.5 * pointwise[:, B8, B8])
  assert np.all(pointwise[:, B4, B2] > 1.5 * pointwise[:, B4, B4])


def test_depthwise_gains_less_than_pointwise():
  cycles, kinds = published_setting()
  gain = {
    kind: cycles[kinds == kind][:, B8, B8].sum()
    / cycles[kinds == kind][:, B4, B4].sum()
    for kind in ("dw", "pw")
  }
  assert 1 < gain["dw"] < gain["pw"]


def test_some_layers_are_faster_at_higher_precision():
  cycles, kinds = published_setting()
  faster = np.minimum(cycles[:, B4, B8], cycles[:, B8, B8]) < cycles[:, B4, B4]
  assert faster[kinds == "dw"].any()
  assert (cycles[:, B4, B4] < cycles[:, B2, B2]).any()


def test_a_smaller_l2_budget_slows_8_bits_most():
  rows = list(l2_sweep((120, 160, 190)))
  eight, four = ([row[i] for row in rows] for i in (1, 2))
  assert eight == sorted(eight)
  assert eight[-1] / eight[0] > four[-1] / four[0]


@pytest.mark.parametrize(
  "change",
  [
    dict(l3_bytes_per_cycle=1.0),
    dict(l3_bytes_per_cycle=0.25),
    dict(dma_command_cycles=5.0),
    dict(tile_cycles=800),
    dict(layer_start_cycles=2_000),
    dict(l3_setup_cycles=3_000),
  ],
  ids=lambda change: next(iter(change)),
)
def test_assumed_constants_move_the_result_little(change):
  """Doubling or halving an assumption: at most 3.5 points (facts, head)."""
  eight, four, free = free_bits(dataclasses.replace(XPULPNN_V1, **change))
  assert four / eight - 1 == pytest.approx(-0.324, abs=0.035)
  assert free / eight - 1 == pytest.approx(-0.370, abs=0.035)


def main():
  print("GAP8: layer, measured, simulated, ratio")
  rows = list(gap8_layers())
  for name, measured, ours in rows:
    print(f"| {name} | {measured} | {ours} | {ours / measured:.2f} |")
  print(sum(row[1] for row in rows), sum(row[2] for row in rows))
  print("Free Bits: target, 8-bit cycles, 4-bit, 4-bit with Free Bits")
  for target in TARGETS:
    eight, four, free = free_bits(target)
    print(
      f"| {target.name} | {eight} | {four / eight - 1:+.1%} | "
      f"{free / eight - 1:+.1%} |"
    )
  print("L2 budget (kB), the same on xpulpnn_v1")
  for kilobytes, eight, four, free in l2_sweep((100, 120, 140, 160, 180, 200)):
    print(
      f"| {512 - kilobytes} | {eight} | {four / eight - 1:+.1%} | "
      f"{free / eight - 1:+.1%} |"
    )
  print("Doubled or halved assumptions")
  for field in (
    "l3_bytes_per_cycle",
    "l3_setup_cycles",
    "dma_bytes_per_cycle",
    "dma_command_cycles",
    "tile_cycles",
    "layer_start_cycles",
    "barrier_cycles",
  ):
    cells = []
    for factor in (0.5, 2):
      value = type(getattr(XPULPNN_V1, field))(
        getattr(XPULPNN_V1, field) * factor
      )
      target = dataclasses.replace(XPULPNN_V1, **{field: value})
      eight, four, free = free_bits(target)
      cells.append(f"{four / eight - 1:+.1%} / {free / eight - 1:+.1%}")
    print(f"| `{field}` | {' | '.join(cells)} |")
  cycles, kinds = published_setting()
  print("Layers: kind, 4-bit, w4 a8, w8 a4 against 8-bit")
  for kind in dict.fromkeys(kinds):
    part = cycles[kinds == kind].sum(axis=0)
    cells = [
      f"{part[a, w] / part[B8, B8]:.2f}"
      for a, w in ((B4, B4), (B8, B4), (B4, B8), (B2, B2))
    ]
    print(f"| {kind} | {' | '.join(cells)} |")


if __name__ == "__main__":
  main()
