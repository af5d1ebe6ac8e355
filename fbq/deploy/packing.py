"""Integers below 8 bits, packed into bytes as PULP-NN unpacks them.

The first of the integers that share a byte lies in its lowest bits; signed ones
are in two's complement. So do `pulp_nn_i4_to_i8` and its kind take them out:
bits 0-3 first, then 4-7 (pulp-platform/pulp-nn-mixed,
generators/templates/pulp_nn_utils_h.t). Neighbours in memory are channels:
activations are stored row, column, channel; weights output channel, row,
column, input channel, or, of a depthwise layer, channel, row, column.
"""

import numpy as np

BITS = (2, 4, 8)


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
  """uint8 [.., ceil(N bits / 8)]: the last axis of `codes` [.., N] in bytes.

  Rows that do not fill their last byte are filled up with zeros.

  Raises:
    ValueError: codes that do not fit `bits`, or impossible bits.
  """
  if bits not in BITS:
    raise ValueError(f"bits is {bits}, expected one of {BITS}")
  codes = np.asarray(codes)
  low, high = -(2 ** (bits - 1)), 2**bits - 1
  if codes.size and not (low <= codes.min() and codes.max() <= high):
    raise ValueError(
      f"codes from {codes.min()} to {codes.max()} do not fit {bits} bits"
    )
  per_byte = 8 // bits
  rest = -codes.shape[-1] % per_byte
  padded = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, rest)])
  groups = padded.reshape(*codes.shape[:-1], -1, per_byte).astype(np.int64)
  shifts = bits * np.arange(per_byte)
  return np.sum((groups & (2**bits - 1)) << shifts, axis=-1).astype(np.uint8)


def unpack(
  packed: np.ndarray, bits: int, count: int, signed: bool
) -> np.ndarray:
  """int8 (uint8 if not signed) codes [.., count] of `pack`."""
  if bits not in BITS:
    raise ValueError(f"bits is {bits}, expected one of {BITS}")
  shifts = bits * np.arange(8 // bits)
  fields = (packed[..., None].astype(np.int64) >> shifts) & (2**bits - 1)
  codes = fields.reshape(*packed.shape[:-1], -1)[..., :count]
  if not signed:
    return codes.astype(np.uint8)
  return (codes - ((codes >> (bits - 1)) << bits)).astype(np.int8)


def weights_in_memory(op: str, weight: np.ndarray) -> np.ndarray:
  """Codes [O, ..] of a layer in the order of memory: one row per channel.

  Args:
    op: "conv", "depthwise" or "linear".
    weight: [h, w, I, O], [h, w, 1, C] or [I, O].
  """
  if op == "linear":
    return weight.T
  outputs = weight.shape[-1]
  return np.moveaxis(weight, -1, 0).reshape(outputs, -1)
