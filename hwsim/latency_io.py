"""Latency tables as files: CSV and JSON, keyed by layer geometry.

Both hold the same rows: one per geometry and precision, cycles in clock cycles
of the target, sizes in elements, bits in bits. `weight_bits` is "-" for a layer
without weights, `out_bits` is 32 for outputs that are not quantized. A file may
hold more layers than a network has, so one can serve many networks. To profile
a board, save a simulated table, replace `latency_cycles` with measurements and
`provenance` with "measured", and load it, or `merge` a part of it.
"""

import csv
import dataclasses
import json
import math
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from hwsim.latency_table import BITS, LatencyTable, OutputBits
from hwsim.workload import Layer, Workload

_SIZES = tuple(
  field.name
  for field in dataclasses.fields(Layer)
  if field.name not in ("name", "op", "padding")
)
_PADDING = ("pad_top", "pad_bottom", "pad_left", "pad_right")
_BITS = ("in_bits", "weight_bits", "out_bits")
_VALUES = ("latency_cycles", "provenance", "target")
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
  path = pathlib.Path(path)
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


def load(
  path: str | os.PathLike,
  workload: Workload,
  output_bits: OutputBits = "site",
) -> LatencyTable:
  """The table of a workload from a file that has all its layers.

  Args:
    path: a .csv or .json file.
    workload: names the layers.
    output_bits: "site" if quantized outputs were timed at 2, 4 and 8 bits; or
      the one width they were timed at (8 in the published setting), which then
      stands for all.

  Raises:
    ValueError: a row is wrong or double (names the line), or a layer or a
      precision of the workload is missing.
  """
  rows = _read(pathlib.Path(path))
  target = next(iter(rows.values())).target if rows else ""
  quantized = tuple(site is not None for site in workload.output_sites)
  cycles, provenance = [], []
  for layer, q in zip(workload.layers, quantized, strict=True):
    problem = f"{path}: layer {layer.name!r} is missing"
    values, kinds = _layer_cycles(rows, layer, q, output_bits, problem)
    cycles.append(values)
    provenance.append("/".join(sorted(kinds)))
  return LatencyTable(
    target, workload.layers, quantized, np.stack(cycles), tuple(provenance)
  )


def merge(
  table: LatencyTable,
  path: str | os.PathLike,
  output_bits: OutputBits = "site",
) -> LatencyTable:
  """The table with the layers a file measured in place of the simulated ones.

  A layer is replaced as a whole: a file that has some of its precisions but not
  all is an error, because measured and simulated cycles of one layer would be
  compared with each other. So is a row whose layer the table does not have.
  With `output_bits` 2, 4 or 8 the file needs only, and replaces only, the
  cycles at that width of quantized outputs.
  """
  path = pathlib.Path(path)
  rows = _read(path)
  cycles, provenance = table.cycles.copy(), list(table.provenance)
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
  for i, (layer, q) in enumerate(
    zip(table.layers, table.quantized, strict=True)
  ):
    if layer.geometry in measured:
      problem = f"{path}: layer {layer.name!r} is measured only in part"
      values, kinds = _layer_cycles(rows, layer, q, output_bits, problem)
      width = slice(None)
      if q and output_bits != "site":
        width = BITS.index(output_bits)
        kinds.add(provenance[i])  # of the other widths
      cycles[i][..., width] = values[..., width]
      provenance[i] = "/".join(sorted(kinds))
  return dataclasses.replace(table, cycles=cycles, provenance=tuple(provenance))


def _kind(path):
  kind = path.suffix.lstrip(".").lower()
  if kind not in ("csv", "json"):
    raise ValueError(f"{path}: expected a name that ends in .csv or .json")
  return kind


def _precisions(layer, quantized):
  """(key bits, place in [A, W, O]) of every distinct entry of a layer."""
  every = slice(None)
  for a, in_bits in enumerate(BITS):
    for w, weight_bits in enumerate(BITS if layer.has_weights else ("-",)):
      for o, out_bits in enumerate(BITS if quantized else (32,)):
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
    for bits, place in _precisions(layer, q):
      cycles = int(table.cycles[first][place].flat[0])
      row = (names, layer.op, *sizes, *layer.padding, *bits, cycles)
      row += table.provenance[first], table.target
      yield dict(zip(COLUMNS, row, strict=True))


def _layer_cycles(
  rows, layer, quantized, output_bits, problem
) -> tuple[np.ndarray, set[str]]:
  """int64[A, W, O] and the provenances; ValueError if a precision has none."""
  if output_bits not in (*BITS, "site"):
    raise ValueError(
      f"output_bits is {output_bits!r}, expected one of {BITS} or 'site'"
    )
  cycles = np.empty((len(BITS),) * 3, np.int64)
  kinds = set()
  for bits, place in _precisions(layer, quantized):
    if quantized and output_bits != "site":
      bits, place = (*bits[:2], output_bits), place[:2]
    row = rows.get(_Key(layer.geometry, *bits))
    if row is None:
      raise ValueError(
        f"{problem}: no row at input/weight/output bits {bits} for "
        f"{layer.geometry}"
      )
    cycles[place] = row.cycles
    kinds.add(row.provenance)
  return cycles, kinds


def _read(path) -> dict[_Key, _Row]:
  """Rows by key, every value checked."""
  if _kind(path) == "csv":
    with path.open(newline="", encoding="utf-8") as file:
      reader = csv.DictReader(file)
      numbered = [(reader.line_num, row) for row in reader]
  else:
    try:
      records = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
      raise ValueError(f"{path}: no JSON: {error}") from error
    if not isinstance(records, list):
      raise ValueError(f"{path}: expected a list of rows")
    numbered = list(enumerate(records, start=2))  # one per line, as saved
  rows = {}
  for line, record in numbered:
    where = f"{path}, line {line}"
    if not isinstance(record, dict):
      raise ValueError(f"{where}: expected a row, got {record!r}")
    key, row = _parse(record, where)
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


def _parse(record, where) -> tuple[_Key, _Row]:
  absent = [name for name in COLUMNS if record.get(name) in (None, "")]
  if absent or set(record) - set(COLUMNS):
    raise ValueError(
      f"{where}: no value for {absent}, unknown columns "
      f"{sorted(map(str, set(record) - set(COLUMNS)))}; "
      f"expected {COLUMNS}"
    )

  def whole(name):
    value = record[name]
    try:
      number = int(value) if str(value).isdigit() else float(value)
    except ValueError:
      number = math.nan
    if not 0 <= number < 2**63 or number != int(number):  # nan is neither
      raise ValueError(
        f"{where}: {name} is {value!r}, expected a whole number, not negative"
      )
    return int(number)

  sizes: dict[str, Any] = {name: whole(name) for name in _SIZES}
  top, bottom, left, right = (whole(name) for name in _PADDING)
  try:
    layer = Layer("", record["op"], padding=(top, bottom, left, right), **sizes)
  except ValueError as error:
    raise ValueError(f"{where}: wrong geometry: {error}") from error
  weight_bits = "-" if record["weight_bits"] == "-" else whole("weight_bits")
  key = _Key(layer, whole("in_bits"), weight_bits, whole("out_bits"))
  for name, bits, allowed in (
    ("in_bits", key.in_bits, BITS),
    ("out_bits", key.out_bits, (*BITS, 32)),
    ("weight_bits", weight_bits, BITS if layer.has_weights else ("-",)),
  ):
    if bits not in allowed:
      raise ValueError(
        f"{where}: {name} is {bits!r}, expected one of {allowed} for {layer.op}"
      )
  return key, _Row(
    where, whole("latency_cycles"), record["provenance"], record["target"]
  )
