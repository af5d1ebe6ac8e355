"""The data movement of every layer at every format, and of whole networks.

Movements add up over layers, so each layer is minimised once per combination of
formats into a `MovementTable`; a network is then a lookup and a sum.
"""

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import numpy as np

from hwsim.bfp.formats import FP32, BlockFormat
from hwsim.bfp.movement import nest_of
from hwsim.bfp.sweep import least_movement
from hwsim.bfp.tiling import OUT_MOVES
from hwsim.workload import Layer, Workload

Others = Literal["nothing", "once"]


@dataclasses.dataclass(frozen=True, eq=False)
class MovementTable:
  """Least data movement of `L` layers by format, exactly.

  Axes `I` and `O` are the formats of inputs and output, in the order of
  `activations`; `W` those of weights, or of the second operand of a product of
  two activations. Other layers without weights are constant along `W`; one
  whose output has no precision site is constant along `O`, its output priced at
  32 bits.

  Attributes:
    memory_bits: capacity for one tile of each tensor.
    layers: the `L` layers.
    activations: formats of inputs and outputs.
    weights: formats of weights.
    units: int64[L, I, W, O], in units of 1 / `per_bit` bits; read-only.
    per_bit: units in a bit.
    follows_bits: whether no layer ever costs less as the bits of a tensor rise;
      so it is of movement, not of cycles.
  """

  memory_bits: int
  layers: tuple[Layer, ...]
  activations: tuple[BlockFormat, ...]
  weights: tuple[BlockFormat, ...]
  units: np.ndarray
  per_bit: int
  follows_bits: bool = True

  def __post_init__(self):
    a, w = len(self.activations), len(self.weights)
    shape = (len(self.layers), a, w, a)
    if self.units.dtype != np.int64 or self.units.shape != shape:
      raise ValueError(
        f"movement table: units is {self.units.dtype}{self.units.shape}, "
        f"expected int64{shape}"
      )
    for name, formats in (
      ("activation", self.activations),
      ("weight", self.weights),
    ):
      if len(set(formats)) != len(formats) or not formats:
        raise ValueError(
          f"movement table: {len(formats)} {name} formats of which "
          f"{len(set(formats))} differ, expected at least one and each once"
        )
    units = self.units.view()
    units.setflags(write=False)
    object.__setattr__(self, "units", units)

  def bits(self, units: int) -> Fraction:
    """Units of the table as bits."""
    return Fraction(int(units), self.per_bit)


def movement_table(
  workload: Workload,
  activations: Sequence[BlockFormat],
  memory_bits: int,
  weights: Sequence[BlockFormat] | None = None,
  *,
  batch: int = 1,
  out_moves: int = OUT_MOVES,
  others: Others = "nothing",
) -> MovementTable:
  """Least data movement of every layer of a network at all formats.

  Every layer starts and ends in the far memory. Bits that the workload fixes
  are those of integer hardware and are not looked at: all sites take the
  formats given.

  Args:
    workload: `L` layers; equal geometries are searched once.
    activations: formats that inputs and outputs may have.
    memory_bits: capacity for one tile of each tensor (eq. 7).
    weights: formats that weights may have; those of activations if left out.
    batch: images that are processed together.
    out_moves: times a moved output of a convolution or linear layer counts:
      2 as in eq. 5, which reads and writes it.
    others: what layers that multiply nothing move: "nothing", as in the paper,
      which counts convolutions only; or every input and the output "once", but
      for concatenations whose inputs are written in place.

  Raises:
    ValueError: not even tiles of one element fit; names the layer. Or the
      weights of a network that multiplies activations have formats of their
      own.
    OverflowError: the sum over layers could pass 2^63 units.
  """
  # Said before the search, which takes seconds.
  if others not in ("nothing", "once"):
    raise ValueError(f"others is {others!r}, expected 'nothing' or 'once'")
  activations = tuple(activations)
  weights = activations if weights is None else tuple(weights)
  if weights != activations:
    _check_no_matmul(workload)

  # Networks repeat their layers: each geometry is searched once for each way in
  # which its tensors are priced.
  found: dict[tuple, tuple[np.ndarray, int]] = {}
  costs = []
  for i, layer in enumerate(workload.layers):
    if not layer.multiplies:
      kept = "nothing" if i in workload.in_place else others
      costs.append(_unweighted(workload, i, activations, batch, kept))
      continue
    nest = nest_of(layer, batch)
    prices = layer_prices(workload, i, activations, weights)
    key = nest, *map(tuple, prices)
    if key not in found:
      try:
        moved, unit = least_movement(nest, *prices, memory_bits, out_moves)
      except ValueError as error:
        raise ValueError(f"layer {layer.name!r}: {error}") from error
      found[key] = _reduced(moved, unit)
    costs.append(found[key])

  # Every layer has a unit of its own. In one common unit sums over layers are
  # exact.
  per_bit = math.lcm(*(unit for _, unit in costs))
  most = sum(int(cost.max()) * (per_bit // unit) for cost, unit in costs)
  if most >= 2**63:
    raise OverflowError(
      f"the network can move {most} units of 1/{per_bit} bits, which 64 bits "
      "do not hold: give fewer images at a time"
    )
  units = np.empty(
    (len(costs), len(activations), len(weights), len(activations)), np.int64
  )
  for row, (cost, unit) in zip(units, costs, strict=True):
    row[...] = cost * (per_bit // unit)
  return MovementTable(
    memory_bits, workload.layers, activations, weights, units, per_bit
  )


def layer_prices(
  workload: Workload,
  index: int,
  activations: Sequence[BlockFormat],
  weights: Sequence[BlockFormat],
) -> tuple[list[Fraction], list[Fraction], list[Fraction]]:
  """Bits per element of both operands and the output of a layer, by format."""
  layer, shapes = workload.layers[index], workload.input_shapes(index)
  return (
    [f.activation_bits(shapes[0]) for f in activations],
    [
      f.weight_bits(layer)
      if layer.has_weights
      else f.activation_bits(shapes[1])
      for f in weights
    ],
    _output_prices(workload, index, activations),
  )


def _output_prices(workload, i, activations):
  """The same of an output alone, which has 32 bits where it has no site."""
  is_final = workload.output_sites[i] is None
  return [
    (FP32 if is_final else f).activation_bits(workload.output_shape(i))
    for f in activations
  ]


def input_bits(
  workload: Workload, i: int, activations: Sequence[BlockFormat]
) -> list[Fraction]:
  """Bits of all inputs of a layer together, by format."""
  shapes = workload.input_shapes(i)
  return [
    sum(
      (math.prod(shape) * f.activation_bits(shape) for shape in shapes),
      Fraction(0),
    )
    for f in activations
  ]


def _reduced(moved, unit):
  """Movement in the largest unit in which it is whole numbers.

  Prices may have large denominators and what they make small ones, as a pass
  over a tensor moves all of it.
  """
  common = math.gcd(unit, *np.unique(moved).tolist())
  return moved // common, unit // common


def _unweighted(workload, i, activations, batch, others):
  """Movement [I, 1, O] of an operator without weights, and its unit."""
  count = len(activations)
  if others == "nothing":
    return np.zeros((count, 1, count), np.int64), 1
  outputs = batch * workload.layers[i].out_count
  reads = [batch * bits for bits in input_bits(workload, i, activations)]
  writes = [outputs * bits for bits in _output_prices(workload, i, activations)]
  unit = math.lcm(*(bits.denominator for bits in (*reads, *writes)))
  in_units = np.array([int(bits * unit) for bits in reads], np.int64)
  out_units = np.array([int(bits * unit) for bits in writes], np.int64)
  return in_units[:, None, None] + out_units, unit


def _check_no_matmul(workload):
  for layer in workload.layers:
    if layer.op == "matmul":
      raise ValueError(
        f"layer {layer.name!r} multiplies two activations, so weights need the "
        "formats of activations: leave them out"
      )
