"""The data movement of every layer at every format, and of whole networks.

Movements add up over layers, so each layer is minimised once per combination of
formats into a `MovementTable`; a network is then a lookup and a sum.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
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
  """

  memory_bits: int
  layers: tuple[Layer, ...]
  activations: tuple[BlockFormat, ...]
  weights: tuple[BlockFormat, ...]
  units: np.ndarray
  per_bit: int

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


def _input_bits(workload, i, activations):
  """Bits of all inputs of a layer together, by format."""
  shapes = workload.input_shapes(i)
  return [
    sum(math.prod(shape) * f.activation_bits(shape) for shape in shapes)
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
  reads = [batch * bits for bits in _input_bits(workload, i, activations)]
  writes = [outputs * bits for bits in _output_prices(workload, i, activations)]
  unit = math.lcm(*(bits.denominator for bits in (*reads, *writes)))
  in_units = np.array([int(bits * unit) for bits in reads], np.int64)
  out_units = np.array([int(bits * unit) for bits in writes], np.int64)
  return in_units[:, None, None] + out_units, unit


def encode(
  table: MovementTable,
  workload: Workload,
  formats: np.ndarray,
  sites: Sequence[str] | None = None,
) -> np.ndarray:
  """Which entry of the table each layer of each candidate takes: int32[P, L].

  A layer with several inputs takes the widest of their formats, but that the
  second operand of a product of two activations has an axis of its own.

  Args:
    table: movement table of the layers of `workload`.
    workload: `L` layers.
    formats: int[P, S], formats of `P` candidates: positions in
      `table.activations` or, for weights, in `table.weights`.
    sites: names of the `S` columns; default `workload.sites`.

  Raises:
    ValueError: a site is missing or twice, a position is out of range, or the
      table is of other layers.
  """
  _check_layers(table, workload)
  sites = workload.sites if sites is None else tuple(sites)
  formats = np.asarray(formats)
  if formats.ndim != 2 or formats.shape[1] != len(sites):
    raise ValueError(
      f"formats has shape {formats.shape}, expected [P, {len(sites)}] for as "
      "many sites"
    )

  # Columns may be in any order and more than the sites, never fewer.
  column = dict(zip(sites, formats.T, strict=True))
  missing = [site for site in workload.sites if site not in column]
  if missing or len(column) < len(sites):
    raise ValueError(
      f"workload {workload.name!r}: "
      + (f"no formats for sites {missing}" if missing else "a site is twice")
    )

  codes = np.empty((len(formats), len(workload.layers)), np.int32)
  for i, layer in enumerate(workload.layers):
    reads = workload.input_sites[i]
    inputs = [
      _positions(column[site], site, table.activations)
      for site in (reads[:1] if layer.op == "matmul" else reads)
    ]

    # The table has one axis for all inputs of a layer: the widest format
    # counts, that is the one in which they take most bits.
    prices = np.array(_input_bits(workload, i, table.activations), np.float64)
    widest = inputs[0]
    for other in inputs[1:]:
      widest = np.where(prices[other] > prices[widest], other, widest)
    weight, output = 0, 0
    if layer.multiplies:
      _, site = workload.operands(i)
      weight = _positions(column[site], site, table.weights)
    if (site := workload.output_sites[i]) is not None:
      output = _positions(column[site], site, table.activations)
    codes[:, i] = np.ravel_multi_index(
      np.broadcast_arrays(widest, weight, output), table.units.shape[1:]
    )
  return codes


def score(table: MovementTable, codes: np.ndarray) -> np.ndarray:
  """Total movement of `P` candidates, exactly: int64[P], in table units.

  Args:
    table: movement table of `L` layers.
    codes: int32[P, L] of `encode`.
  """
  if codes.ndim != 2 or codes.shape[1] != len(table.layers):
    raise ValueError(
      f"codes has shape {codes.shape}, expected [P, {len(table.layers)}]"
    )
  flat = table.units.reshape(len(table.layers), -1)
  total = np.zeros(len(codes), np.int64)
  for layer, code in zip(flat, codes.T, strict=True):
    total += layer[code]
  return total


def layer_bits(
  table: MovementTable,
  workload: Workload,
  formats: Mapping[str, BlockFormat],
) -> tuple[Fraction, ...]:
  """Bits that every layer of a workload moves under one assignment.

  Args:
    table: movement table of the layers of `workload`.
    workload: names the sites.
    formats: one of the table's formats for every site.
  """
  weights = {workload.weight_site(layer) for layer in workload.layers}
  row = []
  for site in workload.sites:
    if site not in formats:
      raise ValueError(f"workload {workload.name!r}: no format for {site!r}")
    known = table.weights if site in weights else table.activations
    if formats[site] not in known:
      raise ValueError(
        f"site {site!r}: {formats[site]} is not among the {len(known)} formats "
        "of the table; make a table with it"
      )
    row.append(known.index(formats[site]))
  codes = encode(table, workload, np.array([row]))[0]
  flat = table.units.reshape(len(table.layers), -1)
  return tuple(table.bits(flat[i, code]) for i, code in enumerate(codes))


def _check_no_matmul(workload):
  for layer in workload.layers:
    if layer.op == "matmul":
      raise ValueError(
        f"layer {layer.name!r} multiplies two activations, so weights need the "
        "formats of activations: leave them out"
      )


def _check_layers(table, workload):
  if [layer.geometry for layer in table.layers] != [
    layer.geometry for layer in workload.layers
  ]:
    raise ValueError(
      f"the table has other layers than workload {workload.name!r}; make one "
      "for it with movement_table"
    )


def _positions(given, site, formats):
  if given.size and not 0 <= given.min() <= given.max() < len(formats):
    raise ValueError(
      f"site {site!r}: position {given.min()} to {given.max()}, expected 0 to "
      f"{len(formats) - 1}"
    )
  return given
