"""Coefficients of the PULP-NN kernels as arrays, with the stalls that count.

Their values and provenance: `kernels.json`.
"""

import functools
import json
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hwsim.pulp.geometry import Number

# What the cycles of a kernel hold: instructions by the rules of ISS; the core's
# stalls and prologues too; the stalls of the instruction cache too.
TIMINGS = ("iss", "core", "gvsoc")
_BITS = (2, 4, 8)
# One row of coefficients a precision; see `kernels.json` for what they are.
CONV_COLUMNS = (
  *("k_per_iter", "base", "px_int", "seg_int", "seg_border_copy"),
  *("seg_border_zero", "copy_word", "zero_word", "pair", "block4x2"),
  *("inner_iter", "leftK_block_flag", "leftK_elem_block", "chleft"),
  *("chleft_iter", "chleft_leftK", "odd_ch", "odd_ch_iter", "odd_ch_leftK"),
  *("odd", "pointwise_patches"),
)
DEPTHWISE_COLUMNS = (
  *("channels_per_group", "base", "group", "col", "row", "padrow", "out"),
)
LINEAR_COLUMNS = ("base", "neuron", "per16ci")
POOL_COLUMNS = (
  *("base", "pixel", "avg_row", "avg_byte", "avg_tap_byte"),
  *("avg_tap_channel", "avg_channel", "max_copy_byte"),
)


class Kernels(NamedTuple):
  """Coefficients of a kernel library, in cycles of one core; float64.

  Attributes:
    conv: [A, W, O, C], `C` columns of `CONV_COLUMNS`.
    zero_lanes: [A, W], bits of a value in the patch buffer of a convolution.
    depthwise: [A, W, O, C], columns of `DEPTHWISE_COLUMNS`.
    linear: [A, W, C], columns of `LINEAR_COLUMNS`.
    requant: of one output of a linear layer that is not 32 bits wide.
    add: [N, O, 2], cycles per element and per call by the `N` operands below 8
      bits; the same for all outputs, as only those of 8 bits were run.
    pool: [C], columns of `POOL_COLUMNS`.
    max_compare_word: [A], cycles to compare a word of inputs.
  """

  conv: Number
  zero_lanes: Number
  depthwise: Number
  linear: Number
  requant: Number
  add: Number
  pool: Number
  max_compare_word: Number


@functools.cache
def load(conv_library: str, other_library: str, timing: str) -> Kernels:
  """The coefficients of two kernel sets as arrays; read-only.

  Args:
    conv_library, other_library: as in `Target`.
    timing: one of `TIMINGS`.

  Raises:
    ValueError: a library that `kernels.json` does not have.
  """
  keys = [f"a{a}w{w}" for a in _BITS for w in _BITS]
  deep = [f"{key}o{o}" for key in keys for o in _BITS]

  def rows(kind, columns, library, keys):
    found = [coefficients(kind, f"{library}|{key}", timing) for key in keys]
    return np.array([[row[name] for name in columns] for row in found])

  shape = (len(_BITS),) * 3
  conv = rows("conv", CONV_COLUMNS, conv_library, deep)
  depthwise = rows("depthwise", DEPTHWISE_COLUMNS, other_library, deep)
  linear = rows("linear", LINEAR_COLUMNS, other_library, keys)

  # The patch buffer has bytes in XpulpV2, and values of the wider of the two
  # precisions in the others: that sets how many words of zeros are written.
  wider = np.maximum.outer(_BITS, _BITS)
  has_bytes = conv_library in ("XpulpV2", "pulp-nn")
  lanes = np.full_like(wider, 8) if has_bytes else wider

  add, pool = _tables()["add"], _tables()["pool"]
  of_operands = np.array([add["element"], add["base"]]).T
  kernels = Kernels(
    conv.reshape(*shape, -1),
    lanes,
    depthwise.reshape(*shape, -1),
    linear.reshape(*shape[:2], -1),
    np.array(_tables()["linear"]["requant"]),
    np.repeat(of_operands[:, None], len(_BITS), axis=1),
    np.array([pool[name] for name in POOL_COLUMNS]),
    np.array([pool["max_compare_word"][str(a)] for a in _BITS]),
  )
  return Kernels(*(np.asarray(part, np.float64) for part in kernels))


@functools.cache
def _tables() -> dict:
  path = pathlib.Path(__file__).with_name("kernels.json")
  return json.loads(path.read_text(encoding="utf-8"))


@functools.cache
def coefficients(
  kind: str, key: str, timing: str = "iss"
) -> Mapping[str, float]:
  """Named coefficients of one kernel, with the stalls that a timing counts.

  Args:
    kind: "conv", "depthwise" or "linear".
    key: library and bits, as "XpulpV2|a8w4o8"; of linear ones without output.
    timing: one of `TIMINGS`.
  """
  costs = _instructions(kind, key)
  if timing == "iss":
    return costs
  found = _stalls(kind, key, costs)
  counted = {
    name: cycles
    for name, cycles in found.items()
    if timing == "gvsoc" or name.endswith("_core")
  }
  of = {
    "conv": dict(
      call="base", pair="pair", block="block4x2", iter="inner_iter",
      left="leftK_elem_block", odd_iter="odd_ch_iter",
    ),
    "depthwise": dict(call="base", column="col", out="out"),
    "linear": dict(call="base", per16ci="per16ci"),
  }[kind]  # fmt: skip
  costs = dict(costs)
  for name, cycles in counted.items():
    column = of[name.rpartition("_")[0]]
    costs[column] = round(costs[column] + cycles, 2)
  return costs


def _stalls(kind, key, costs) -> dict[str, float]:
  """Named stalls of one kernel, by how its inner loop fits the cache."""
  section = _tables()["stalls"]
  if kind == "depthwise":
    rows = section[kind]["by_channels_per_group"]
    row = rows[str(int(costs["channels_per_group"]))]
  elif kind == "linear":
    unpacks = 4 * costs["per16ci"] > section[kind]["unpacking_bytes"]
    row = section[kind]["table"]["unpacks" if unpacks else "fits"]
  else:
    loop_bytes = 4 * costs["inner_iter"]  # an instruction a cycle, 4 bytes each
    fit = "fits"
    if loop_bytes > section["unpacking_bytes"]:
      fit = "unpacks"
    if loop_bytes > section["icache_bytes"]:
      fit = "exceeds"
    library = key.split("|")[0].removesuffix("-mixed")
    library = "XpulpV2" if library == "pulp-nn" else library
    row = section[kind]["table"][f"{library}|{fit}"]
  return dict(zip(section[kind]["columns"], row, strict=True))


def _instructions(kind: str, key: str) -> dict[str, float]:
  """Coefficients by instructions; the rules of the JSON fill its gaps."""
  section = _tables()[kind]
  if kind == "conv" and key == "pulp-nn|a8w8o8":
    return section["pulp-nn"]["row"]
  key = key.replace("pulp-nn|", "XpulpV2|") if kind == "conv" else key
  if key not in section["table"]:
    raise ValueError(
      f"no {kind} kernel {key!r}; kernels.json has "
      f"{sorted({k.split('|')[0] for k in section['table']})}"
    )
  costs = dict(zip(section["columns"], section["table"][key], strict=True))
  if kind == "conv":
    costs |= {"odd": 0.0, "pointwise_patches": 1.0}
    if "w8" in key:
      leftover = section["leftover_w8"]
    elif "a2w4" in key and not costs["leftK_elem_block"]:
      leftover = _instructions(kind, key.replace("a2w4", "a4w4"))
    else:
      return costs
    for name in (
      "leftK_block_flag",
      "leftK_elem_block",
      "odd_ch_leftK",
      "chleft_leftK",
    ):
      costs[name] = leftover.get(name, costs[name])
  return costs
