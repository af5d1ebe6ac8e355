"""Integers below 8 bits, packed into bytes as PULP-NN unpacks them.

The first of the integers that share a byte lies in its lowest bits; signed ones
are in two's complement. So do `pulp_nn_i4_to_i8` and its kind take them out:
bits 0-3 first, then 4-7 (pulp-platform/pulp-nn-mixed,
generators/templates/pulp_nn_utils_h.t). Neighbours in memory are channels:
activations are stored row, column, channel; weights output channel, row,
column, input channel. Weights of a depthwise layer are stored channel, row,
column, but at 2 and 4 bits channels share bytes: group of 8 / bits channels,
row, column, channel (generators/templates/pulp_nn_dw_x_y_z.t).

Widths that do not divide a byte, as NE16's weights have, go on across bytes in
the same order. No kernel reads them so; the C of an export does.
"""

import numpy as np

from hwsim.latency_table import PULP_LADDER, Ladder

BITS = (2, 3, 4, 5, 6, 7, 8)
LADDER = Ladder(PULP_LADDER.activations, BITS)  # what integers are made of


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
  """uint8 [ceil(N bits / 8)]: codes of any shape, N in all, in their order.

  Zeros fill up the last byte.

  Raises:
    ValueError: codes that do not fit `bits`, or impossible bits.
  """
  if bits not in BITS:
    raise ValueError(f"bits is {bits}, expected one of {BITS}")
  codes = np.asarray(codes, np.int64).ravel()
  low, high = -(2 ** (bits - 1)), 2**bits - 1
  if codes.size and not (low <= codes.min() and codes.max() <= high):
    raise ValueError(
      f"codes from {codes.min()} to {codes.max()} do not fit {bits} bits"
    )
  digits = (codes[:, None] >> np.arange(bits)) & 1  # the lowest first
  return np.packbits(digits.astype(np.uint8), bitorder="little")


def unpack(
  packed: np.ndarray, bits: int, count: int, signed: bool
) -> np.ndarray:
  """int8 (uint8 if not signed) [count]: the codes that `pack` packed."""
  if bits not in BITS:
    raise ValueError(f"bits is {bits}, expected one of {BITS}")
  digits = np.unpackbits(packed, count=count * bits, bitorder="little")
  digits = digits.reshape(count, bits).astype(np.int64)
  codes = (digits << np.arange(bits)).sum(axis=1)
  if not signed:
    return codes.astype(np.uint8)
  return (codes - ((codes >> (bits - 1)) << bits)).astype(np.int8)


def to_memory(op: str, weight: np.ndarray, bits: int) -> np.ndarray:
  """[N]: codes of a layer in the order of memory.

  Args:
    op: "conv", "depthwise" or "linear".
    weight: [h, w, I, O], [h, w, 1, C] or [I, O].
    bits: bits of the weights.
  """
  rows = np.moveaxis(weight, -1, 0).reshape(weight.shape[-1], -1)
  if group := _group(op, weight.shape, bits):
    rows = rows.reshape(-1, group, rows.shape[1]).transpose(0, 2, 1)
  return rows.ravel()


def from_memory(
  op: str, codes: np.ndarray, bits: int, shape: tuple[int, ...]
) -> np.ndarray:
  """The weight of a shape that `to_memory` put in order."""
  outputs = shape[-1]
  if group := _group(op, shape, bits):
    codes = codes.reshape(outputs // group, -1, group).transpose(0, 2, 1)
  return np.moveaxis(codes.reshape(outputs, *shape[:-1]), 0, -1)


def _group(op, shape, bits):
  """Channels that share bytes; 0 if none do, as kernels take whole groups."""
  group = 8 // bits if 8 % bits == 0 else 0
  shares = op == "depthwise" and group > 1 and shape[-1] % group == 0
  return group if shares else 0
