"""Integers below 8 bits, packed into bytes as PULP-NN unpacks them.

The first of the integers that share a byte lies in its lowest bits; signed ones
are in two's complement. So do `pulp_nn_i4_to_i8` and its kind take them out:
bits 0-3 first, then 4-7 (pulp-platform/pulp-nn-mixed,
generators/templates/pulp_nn_utils_h.t). Neighbours in memory are channels:
activations are stored row, column, channel; weights output channel, row,
column, input channel. Weights of a depthwise layer are stored channel, row,
column, but below 8 bits channels share bytes: group of 8 / bits channels, row,
column, channel (generators/templates/pulp_nn_dw_x_y_z.t).
"""

import numpy as np

BITS = (2, 4, 8)  # that kernels read
WIDTHS = range(2, 9)  # that can be packed


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
  """uint8 [ceil(N bits / 8)]: codes of any shape, N in all, in their order.

  Zeros fill up the last byte.

  Raises:
    ValueError: codes that do not fit `bits`, or impossible bits.
  """
  if bits not in WIDTHS:
    raise ValueError(f"bits is {bits}, expected one of {tuple(WIDTHS)}")
  codes = np.asarray(codes, np.int64).ravel()
  low, high = -(2 ** (bits - 1)), 2**bits - 1
  if codes.size and not (low <= codes.min() and codes.max() <= high):
    raise ValueError(
      f"codes from {codes.min()} to {codes.max()} do not fit {bits} bits"
    )
  if bits not in BITS:
    planes = (codes[:, None] >> np.arange(bits)) & 1
    return np.packbits(planes.astype(np.uint8).ravel(), bitorder="little")
  per_byte = 8 // bits
  groups = np.pad(codes, (0, -codes.size % per_byte)).reshape(-1, per_byte)
  shifts = bits * np.arange(per_byte)
  return np.sum((groups & (2**bits - 1)) << shifts, axis=-1).astype(np.uint8)


def unpack(
  packed: np.ndarray, bits: int, count: int, signed: bool
) -> np.ndarray:
  """int8 (uint8 if not signed) [count]: the codes that `pack` packed."""
  if bits not in WIDTHS:
    raise ValueError(f"bits is {bits}, expected one of {tuple(WIDTHS)}")
  if bits in BITS:
    shifts = bits * np.arange(8 // bits)
    fields = (packed[:, None].astype(np.int64) >> shifts) & (2**bits - 1)
    codes = fields.ravel()[:count]
  else:
    planes = np.unpackbits(packed, count=bits * count, bitorder="little")
    codes = planes.reshape(count, bits).astype(np.int64) @ (
      1 << np.arange(bits)
    )
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
  group = 8 // bits
  shares = op == "depthwise" and group > 1 and shape[-1] % group == 0
  return group if shares else 0
