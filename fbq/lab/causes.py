"""Why a layer is faster at a higher precision, in words and cycles."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from hwsim import pulp, targets
from hwsim.pulp import Target, tiles
from hwsim.pulp.coefficients import coefficients
from hwsim.pulp.tiling import Tile
from hwsim.workload import Layer


class Timed(Protocol):
  """A layer at some precision, with its cycles.

  Attributes:
    in_bits, weight_bits, out_bits: its bits; None for weights it does not have.
    cycles: in all.
    parts: cycles by cause: "compute" of cores at work, "waiting" of cores for
      the slowest, "dma" and "l3" of transfers not hidden, "overhead" of
      software; they add up to `cycles`.
  """

  @property
  def in_bits(self) -> int: ...
  @property
  def weight_bits(self) -> int | None: ...
  @property
  def out_bits(self) -> int: ...
  @property
  def cycles(self) -> int: ...
  @property
  def parts(self) -> Mapping[str, int]: ...


class Simulated(NamedTuple):
  """A layer as the simulator sees it; see `Timed`."""

  in_bits: int
  weight_bits: int | None
  out_bits: int
  cycles: int
  parts: Mapping[str, int]


def simulated(
  layer: Layer, bits: tuple[int, int | None, int], target: targets.Target
) -> Simulated:
  """A layer at (input, weight, output) bits on any target."""
  in_bits, weight_bits, out_bits = bits
  found = targets.simulate(layer, in_bits, weight_bits or 8, out_bits, target)
  parts = {
    "compute": found.compute - found.waiting,
    **{n: getattr(found, n) for n in ("waiting", "dma", "overhead", "l3")},
  }
  parts = {name: int(cycles) for name, cycles in parts.items()}
  return Simulated(*bits, sum(parts.values()), parts)


def why(
  layer: Layer, before: Timed, after: Timed, target: targets.Target
) -> str:
  """Why a raise was made that changed the cycles of a layer, in words."""
  change = after.cycles - before.cycles
  if change >= 0:
    return (
      f"costs this layer {change:,} cycles; what reads or writes the same "
      "tensors saves more"
    )
  if isinstance(target, pulp.Target):
    return explain(layer, before, after, target)
  saved = {name: n - after.parts[name] for name, n in before.parts.items()}
  said = [
    f"{_PARTS[name]} ({-saved[name]:+,})"
    for name in sorted(saved, key=lambda name: -saved[name])
    if saved[name] >= 0.1 * -change
  ]
  return "; ".join(said)


_PARTS = {
  "compute": "less work",
  "waiting": "less waiting for the slowest",
  "dma": "fewer transfers that are not hidden",
  "overhead": "less software",
  "l3": "less waiting for L3",
}


def explain(layer: Layer, before: Timed, after: Timed, target: Target) -> str:
  """The causes that save most first, each with its change of cycles.

  Causes that save less than a tenth of the whole are left out.
  """
  saved = {name: n - after.parts[name] for name, n in before.parts.items()}
  least = 0.1 * (before.cycles - after.cycles)
  pair = [_tile(layer, row, target) for row in (before, after)]
  words = {
    "compute": lambda: _work(layer, before, after, pair, target),
    "waiting": lambda: _imbalance(layer, before, pair[0], target),
    "dma": lambda: "transfers hidden better behind kernels",
    "overhead": lambda: "fewer tiles",
    "l3": lambda: "less waiting for L3",
  }
  causes = sorted(
    (name for name in saved if saved[name] >= least), key=lambda n: -saved[n]
  )
  said = [f"{words[name]()} ({-saved[name]:+,})" for name in causes]
  if pair[0] != pair[1]:
    said.append(f"tiles {_named(pair[0])} before, {_named(pair[1])} after")
  return "; ".join(said)


def _tile(layer, row, target) -> Tile | None:
  """The L1 tile of a layer; None if it is cut between L3 and L2."""
  bits = row.in_bits, row.weight_bits or 8, row.out_bits
  part, tile = tiles(layer, *bits, target)
  whole = layer.in_height, layer.out_height
  if part.input_in_l3 or part[1:3] != whole:
    return None
  return tile if part.out_channels >= layer.out_channels else None


def _named(tile) -> str:
  if tile is None:
    return "cut between L3 and L2"
  return f"{tile.out_channels}x{tile.out_height}x{tile.out_width}"


def _work(layer, before, after, pair, target):
  """What makes kernels do more instructions at the lower precision."""
  in_bits, weight_bits = before.in_bits, before.weight_bits or 8
  inputs = (in_bits, weight_bits) != (after.in_bits, after.weight_bits or 8)
  if not inputs and before.out_bits < min(after.out_bits, 8):
    return f"packing: outputs of {before.out_bits} bits are put together"
  sub_byte = min(in_bits, weight_bits) < 8
  if layer.op == "depthwise" and sub_byte:
    return "unpacking: depthwise kernels compute at 8 bits"
  if layer.op == "conv":
    if target.conv_library == "XpulpV2" and sub_byte:
      return "unpacking: no arithmetic below 8 bits"
    if weight_bits < in_bits and target.conv_library == "XpulpNN":
      return "unpacking: weights narrower than inputs, in the inner loop"
    patch = layer.in_channels * layer.kernel_height * layer.kernel_width
    steps = [_inputs_per_step(row, target) for row in (before, after)]
    if patch % steps[0] and not patch % steps[1]:
      return (
        f"leftovers: {patch} inputs of a patch are no multiple of the "
        f"{steps[0]} of an inner iteration"
      )
    if _has_odd(pair[0]) and not _has_odd(pair[1]):
      return "tiling: odd last pixels run channel by channel"
  return "tiling: shapes that suit the kernel better"


def _inputs_per_step(row, target) -> int:
  key = f"a{row.in_bits}w{row.weight_bits}o8"
  return int(coefficients("conv", f"{target.conv_library}|{key}")["k_per_iter"])


def _has_odd(tile) -> bool:
  """Whether a core's row has an odd number of pixels (`kernels._split`)."""
  if tile is None:
    return False
  halved = tile.out_height % 8 and tile.out_width > 1
  return tile.out_width % (4 if halved else 2) != 0


def _imbalance(layer, before, tile, target):
  """Which units of work do not divide by the cores."""
  if layer.op == "depthwise":
    bits = before.in_bits, before.weight_bits, before.out_bits
    group = max(1, 8 // min(bits))
    channels = layer.out_channels if tile is None else tile.out_channels
    groups, what = -(-channels // group), "layer" if tile is None else "tile"
    if groups % target.cores:
      return (
        f"core imbalance: {groups} groups of {group} channels in a {what} for "
        f"{target.cores} cores"
      )
    return f"core imbalance: channels go to cores in groups of {group}"
  if layer.op == "linear":
    return "core imbalance: neurons"
  return "core imbalance: rows and column halves of a tile"
