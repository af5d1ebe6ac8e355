"""The data movement of assignments: a lookup in a table for each layer."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from hwsim.bfp.formats import BlockFormat
from hwsim.bfp.table import MovementTable, input_bits
from hwsim.workload import Workload


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
    prices = np.array(input_bits(workload, i, table.activations), np.float64)
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
