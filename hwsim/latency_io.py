"""Latency tables as files: CSV and JSON, keyed by layer geometry.

Both hold the same rows: one per geometry and precision, cycles in clock cycles
of the target, sizes in elements, bits in bits. `weight_bits` is "-" for a layer
without weights, `out_bits` is 32 for outputs that are not quantized. A file may
hold more layers than a network has, so one can serve many networks. To profile
a board, save a simulated table, replace `latency_cycles` with measurements and
`provenance` with "measured", and `merge` what there is of it; or, with a name
of its own as `target` and all layers measured, `load` it as a whole: the board
then need not be like any that is simulated (`blank` has the rows of a network).
`hwsim.reading` says how files of spreadsheets are read.
"""

import csv
import dataclasses
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from hwsim import reading
from hwsim.latency_table import (
  PULP_LADDER,
  Ladder,
  LatencyTable,
  OutputBits,
  shape_of,
)
from hwsim.workload import Layer, Workload

_SIZES = tuple(
  field.name
  for field in dataclasses.fields(Layer)
  if field.name not in ("name", "op", "padding")
)
_PADDING = ("pad_top", "pad_bottom", "pad_left", "pad_right")
_BITS = ("in_bits", "weight_bits", "out_bits")
_VALUES = ("latency_cycles", "provenance", "target")
_LONGEST = 100  # letters of an operator, a provenance or a target
COLUMNS = ("layers", "op", *_SIZES, *_PADDING, *_BITS, *_VALUES)


class _Row(NamedTuple):
  where: str  # file and line, for messages
  cycles: int
  provenance: str
  target: str


class _Key(NamedTuple):
  geometry: Layer
  in_bits: int
  weight_bits: int | str
  out_bits: int


def save(table: LatencyTable, path: str | os.PathLike) -> None:
  """Writes a table to a .csv or .json file, replacing it in one step."""
  path = reading.user_path(path)
  rows = list(_rows(table))
  part = path.with_name(path.name + ".part")
  if _kind(path) == "csv":
    with part.open("w", newline="", encoding="utf-8") as file:
      writer = csv.DictWriter(file, COLUMNS)
      writer.writeheader()
      writer.writerows(rows)
  else:
    text = ",\n".join(json.dumps(row) for row in rows)
    part.write_text(f"[\n{text}\n]\n", encoding="utf-8")
  part.replace(path)


def blank(
  workload: Workload, target: str, ladder: Ladder = PULP_LADDER
) -> LatencyTable:
  """A table of zeros, to `save` and fill in with what a board measures.

  Args:
    workload: names the layers.
    target: name of the board.
    ladder: precisions of the board.
  """
  layers = workload.layers
  return LatencyTable(
    target,
    layers,
    tuple(site is not None for site in workload.output_sites),
    np.zeros((len(layers), *shape_of(ladder)), np.int64),
    ("measured",) * len(layers),
    ladder,
  )


def load(
  path: str | os.PathLike,
  workload: Workload,
  output_bits: OutputBits = "site",
  ladder: Ladder = PULP_LADDER,
) -> LatencyTable:
  """The table of a workload from a file that has all its layers.

  The target is the one that the file names, simulated or not.

  Args:
    path: a .csv or .json file.
    workload: names the layers.
    output_bits: "site" if quantized outputs were timed at 2, 4 and 8 bits; or
      the one width they were timed at (8 in the published setting), which then
      stands for all.
    ladder: precisions of the board.

  Raises:
    ValueError: the file cannot be read, a row is wrong or double (names the
      line), or a layer or a precision of the workload is missing.
  """
  path = reading.user_path(path)
  rows = _read(path, ladder)
  target = next(iter(rows.values())).target
  quantized = tuple(site is not None for site in workload.output_sites)

  # Every precision of every layer, or none: nothing is there to fill gaps
  cycles = np.empty((len(workload.layers), *shape_of(ladder)), np.int64)
  provenance = []
  for i, (layer, q) in enumerate(zip(workload.layers, quantized, strict=True)):
    kinds = set()
    for bits, place, row in _entries(rows, layer, q, output_bits, ladder):
      if row is None:
        raise ValueError(
          f"{path}: layer {layer.name!r} is missing: no row at input/weight/"
          f"output bits {bits} for {layer.geometry}"
        )
      # One width of outputs stands for all.
      one = q and output_bits != "site"
      cycles[i][place[:2] if one else place] = row.cycles
      kinds.add(row.provenance)
    provenance.append("/".join(sorted(kinds)))

  return LatencyTable(
    target, workload.layers, quantized, cycles, tuple(provenance), ladder
  )


def merge(
  table: LatencyTable,
  path: str | os.PathLike,
  output_bits: OutputBits = "site",
) -> LatencyTable:
  """The table with what a file measured in place of what was simulated.

  A file may have a layer at some of its precisions only; the others stay as
  they were simulated, and the layer's provenance then names both.

  Args:
    table: simulated table of the file's target.
    path: a .csv or .json file.
    output_bits: with 2, 4 or 8 the file needs only, and replaces only, the
      cycles at that width of quantized outputs.

  Raises:
    ValueError: the file cannot be read, a row is wrong or double or of a layer
      that the table does not have (names the line), or a layer of the file has
      no row at the width of outputs.
  """
  path = reading.user_path(path)
  rows = _read(path, table.ladder)
  known = {layer.geometry for layer in table.layers}
  for key, row in rows.items():
    if row.target != table.target:
      raise ValueError(
        f"{row.where}: target {row.target!r}, the table is of {table.target!r}"
      )
    if key.geometry not in known:
      raise ValueError(
        f"{row.where}: wrong geometry: no layer of the table is {key.geometry}"
      )

  measured = {key.geometry for key in rows}
  cycles, provenance = table.cycles.copy(), list(table.provenance)
  for i, (layer, q) in enumerate(
    zip(table.layers, table.quantized, strict=True)
  ):
    if layer.geometry not in measured:
      continue
    entries = list(_entries(rows, layer, q, output_bits, table.ladder))
    found = [(place, row) for _, place, row in entries if row is not None]
    if not found:
      raise ValueError(
        f"{path}: layer {layer.name!r} has no row at {output_bits} output bits"
      )

    # One width of outputs, or some of the precisions, leave others simulated.
    is_whole = len(found) == len(entries) and (not q or output_bits == "site")
    kinds = set() if is_whole else {provenance[i]}
    for place, row in found:
      cycles[i][place] = row.cycles
      kinds.add(row.provenance)
    provenance[i] = "/".join(sorted(kinds))
  return dataclasses.replace(table, cycles=cycles, provenance=tuple(provenance))


def ladder_of(path: str | os.PathLike) -> Ladder:
  """The precisions of a file that is a whole target.

  Those of PULP clusters, or where it has others, all that it has: 8 and 32 of a
  runtime with integers and floats.

  Args:
    path: a .csv or .json file.

  Raises:
    ValueError: the file cannot be read, or bits are no whole numbers.
  """
  path = reading.user_path(path)
  found = {"in_bits": set(), "weight_bits": set()}
  for line, record in _records(path):
    for name, bits in found.items():
      given = record.get(name) if isinstance(record, dict) else None
      if given in (None, "", "-"):  # what lacks is told when rows are read
        continue
      try:
        bits.add(reading.whole(given, 1))
      except ValueError as error:
        raise ValueError(f"{path}, line {line}: {name} is {error}") from error
  activations, weights = (tuple(sorted(bits)) for bits in found.values())
  if set(activations) | set(weights) <= {*PULP_LADDER.activations}:
    return PULP_LADDER
  return Ladder(activations, weights or activations)


def _kind(path):
  kind = path.suffix.lstrip(".").lower()
  if kind not in ("csv", "json"):
    raise ValueError(f"{path}: expected a name that ends in .csv or .json")
  return kind


def _precisions(layer, quantized, ladder):
  """(key bits, place in [A, W, O]) of every distinct entry of a layer."""
  every = slice(None)
  weights = ladder.weights if layer.has_weights else ("-",)
  for a, in_bits in enumerate(ladder.activations):
    for w, weight_bits in enumerate(weights):
      for o, out_bits in enumerate(ladder.activations if quantized else (32,)):
        place = (
          a,
          w if layer.has_weights else every,
          o if quantized else every,
        )
        yield (in_bits, weight_bits, out_bits), place


def _rows(table):
  """One mapping per distinct geometry and precision, in layer order."""
  done = {}
  for i, (layer, q) in enumerate(
    zip(table.layers, table.quantized, strict=True)
  ):
    done.setdefault((layer.geometry, q), []).append(i)
  for (layer, q), members in done.items():
    first = members[0]
    names = " ".join(table.layers[i].name for i in members)
    sizes = [getattr(layer, name) for name in _SIZES]
    for bits, place in _precisions(layer, q, table.ladder):
      cycles = int(table.cycles[first][place].flat[0])
      row = (names, layer.op, *sizes, *layer.padding, *bits, cycles)
      row += table.provenance[first], table.target
      yield dict(zip(COLUMNS, row, strict=True))


def _entries(
  rows, layer, quantized, output_bits, ladder
) -> Iterator[tuple[tuple, tuple, _Row | None]]:
  """(key bits, place in [A, W, O], row of it) of what a file may have."""
  rungs = ladder.activations
  if output_bits not in (*rungs, "site"):
    raise ValueError(
      f"output_bits is {output_bits!r}, expected one of {rungs} or 'site'"
    )
  for bits, place in _precisions(layer, quantized, ladder):
    if not quantized or output_bits in ("site", bits[2]):
      yield bits, place, rows.get(_Key(layer.geometry, *bits))


def _read(path, ladder=PULP_LADDER) -> dict[_Key, _Row]:
  """Rows by key, one or more, every value checked."""
  rows = {}
  for line, record in _records(path):
    where = f"{path}, line {line}"
    if not isinstance(record, dict):
      raise ValueError(f"{where}: expected a row, got {reading.shown(record)}")
    key, row = _parse(record, where, ladder)
    if key in rows:
      raise ValueError(
        f"{row.where}: same layer and precision as {rows[key].where}"
      )
    if rows and row.target != (first := next(iter(rows.values()))).target:
      raise ValueError(
        f"{row.where}: target {row.target!r}, but "
        f"{first.where} has {first.target!r}"
      )
    rows[key] = row
  return rows


def _records(path) -> list[tuple[int, Any]]:
  """(line, what stands there) of every row of a file, one or more."""
  if _kind(path) == "csv":
    return list(reading.csv_of(path, COLUMNS))
  records = reading.json_of(path)
  if not isinstance(records, list) or not records:
    raise ValueError(f"{path}: expected a list of rows, one or more")
  return list(enumerate(records, start=2))  # one per line, as saved


def _parse(record, where, ladder) -> tuple[_Key, _Row]:
  absent = [name for name in COLUMNS if record.get(name) in (None, "")]
  unknown = [name for name in record if name not in COLUMNS]
  if absent or unknown:
    raise ValueError(
      f"{where}: no value for {absent}, unknown columns "
      f"{reading.shown(unknown)}; "
      f"expected {COLUMNS}"
    )

  def whole(name, least=0):
    try:
      return reading.whole(record[name], least)
    except ValueError as error:
      raise ValueError(f"{where}: {name} is {error}") from error

  def text(name):
    value = record[name]
    if not isinstance(value, str) or len(value) > _LONGEST:
      raise ValueError(
        f"{where}: {name} is {reading.shown(value)}, expected a short text"
      )
    return value

  # The key: what the layer is, and at which precisions.
  sizes: dict[str, Any] = {name: whole(name) for name in _SIZES}
  top, bottom, left, right = (whole(name) for name in _PADDING)
  padding = (top, bottom, left, right)
  try:
    layer = Layer("", text("op"), padding=padding, **sizes)
  except ValueError as error:
    raise ValueError(f"{where}: wrong geometry: {error}") from error
  weight_bits = "-" if record["weight_bits"] == "-" else whole("weight_bits")
  key = _Key(layer, whole("in_bits"), weight_bits, whole("out_bits"))
  weights = ladder.weights if layer.has_weights else ("-",)
  for name, bits, allowed in (
    ("in_bits", key.in_bits, ladder.activations),
    ("out_bits", key.out_bits, (*ladder.activations, 32)),
    ("weight_bits", weight_bits, weights),
  ):
    if bits not in allowed:
      raise ValueError(
        f"{where}: {name} is {bits!r}, expected one of {allowed} for {layer.op}"
      )

  # No layer takes no time.
  cycles = whole("latency_cycles", 1)
  return key, _Row(where, cycles, text("provenance"), text("target"))
