"""A network as DORY and its kernels compute it, from the layers of its files.

In int64, so that what would overflow on the target is found and not repeated.
docs/facts/quantization.md 3.7; kernels: pulp-platform/pulp-nn-mixed,
generators/ templates (pulp_nn_add_*, pulp_nn_avgpool_new, pulp_nn_utils_h).
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np


class TensorKind(NamedTuple):
  """The type of a tensor: bits, and whether they are signed."""

  bits: int
  signed: bool

  def clip(self, x: np.ndarray) -> np.ndarray:
    low = -(2 ** (self.bits - 1)) if self.signed else 0
    return np.clip(x, low, low + 2**self.bits - 1)


def replay(
  layers: list[Any], name: str, image: np.ndarray, kind: TensorKind, width: int
) -> Iterator[tuple[Any, np.ndarray]]:
  """(layer, its output [H, W, C]) one after the other.

  Args:
    layers: layers from `fbq.deploy.dory_check.read_layers`.
    name: name of the graph's input.
    image: codes [H, W, C].
    kind: type of the image's codes.
    width: bits of requantization, "BNRelu_bits".

  Raises:
    ValueError: a product or sum overflows, or sub-byte channels do not fill
      their bytes.
  """
  # Types travel with tensors: a kernel is told the bits, not the values.
  tensors, kinds = {name: image}, {name: kind}
  if not np.array_equal(kind.clip(image), image):
    raise ValueError(f"the image does not fit {kind}")

  # Packed channels that do not fill their bytes would be read across pixels.
  for layer in layers:
    inputs = [tensors[each] for each in layer.inputs]
    given = [kinds[each] for each in layer.inputs]
    where = f"node {layer.node.name!r}"
    for x, each in zip(inputs, given, strict=True):
      if each.bits < 8 and x.shape[-1] % (8 // each.bits):
        raise ValueError(
          f"{where} reads {x.shape[-1]} channels of {each.bits} bits, which do "
          "not fill their bytes"
        )
    x, made = _run(layer, inputs, given, width, where)
    tensors[layer.output], kinds[layer.output] = x, made
    yield layer, x


def _run(layer, inputs, kinds, width, where):
  op, attributes = layer.node.op_type, layer.attributes
  if op == "Add":
    terms = [
      kind.clip(_shifted(x, *_constants(attributes, f"in{i}"), 32, where))
      for i, (x, kind) in enumerate(zip(inputs, kinds, strict=True), start=1)
    ]
    bits = int(math.log2(attributes["out_n_levels"]))
    either = any(kind.signed for kind in kinds)
    made = TensorKind(bits, bool(attributes.get("out_signed", either)))
    constants = _constants(attributes, "out")
    total = terms[0] + terms[1]
    return made.clip(_shifted(total, *constants, 32, where)), made
  if op in ("AveragePool", "GlobalAveragePool", "MaxPool"):
    return _pool(layer, inputs[0], kinds[0], width, where)
  acc = (
    _convolve(layer, inputs[0]) if op == "Conv" else _multiply(layer, inputs[0])
  )
  acc = acc + sum(
    np.rint(x).astype(np.int64)
    for name, x in layer.constants.items()
    if "bias" in name
  )
  _check_width(acc, 32, where)
  if layer.requant is None:
    return acc, TensorKind(32, True)
  return _requantize(layer, acc, 1, width, where)


def _convolve(layer, x):
  weight = _weight(layer)
  top, left, bottom, right = layer.attributes.get("pads", [0] * 4)
  rows, columns = layer.attributes.get("strides", [1, 1])
  x = np.pad(x, ((top, bottom), (left, right), (0, 0)))
  windows = np.lib.stride_tricks.sliding_window_view(
    x, weight.shape[2:], (0, 1)
  )[::rows, ::columns]
  if layer.attributes.get("group", 1) > 1:
    return np.einsum("hwcij,cij->hwc", windows, weight[:, 0])
  return np.einsum("hwcij,ocij->hwo", windows, weight)


def _multiply(layer, x):
  """A linear layer of pixels flattened channel by channel."""
  flat, weight = x.transpose(2, 0, 1).ravel(), _weight(layer)
  if len(weight) == len(flat):  # so DORY reads square weights as well
    weight = weight.T
  return (weight @ flat)[None, None]


def _pool(layer, x, kind, width, where):
  top, left, bottom, right = layer.attributes.get("pads", [0] * 4)
  rows, columns = layer.attributes.get("strides", [1, 1])
  window = layer.attributes.get("kernel_shape", x.shape[:2])
  x = np.pad(x, ((top, bottom), (left, right), (0, 0)))
  windows = np.lib.stride_tricks.sliding_window_view(x, window, (0, 1))[
    ::rows, ::columns
  ]
  if layer.node.op_type == "MaxPool":
    return windows.max((-2, -1)), kind
  pixels = math.prod(window)
  total = windows.sum((-2, -1))
  if layer.requant is None:
    return np.trunc(total / pixels).astype(np.int64), kind
  return _requantize(layer, total, pixels, width, where)


def _requantize(layer, acc, pixels, width, where):
  """The kernel of a mean divides the multiplier by the pixels."""
  mul, add, div = (
    np.rint(next(iter(layer.requant[key].values()))).astype(np.int64).ravel()
    for key in ("Mul", "Add", "Div")
  )
  if (mul % pixels).any():
    raise ValueError(
      f"{where}: multiplier {mul[0]} is no multiple of the {pixels} pixels "
      "that the kernel divides it by"
    )
  shift = int(div[0]).bit_length() - 1
  clip = layer.requant["Clip"]
  kind = TensorKind(clip["out_bits"], clip["min"] < 0)
  y = _shifted(acc, mul // pixels, add, shift, width, where)
  _check_width(y, 32, where)  # what the kernel clips
  return kind.clip(y), kind


def _shifted(x, mul, add, shift, width, where):
  _check_width(x.astype(np.float64) * mul, width, where)
  _check_width(x.astype(np.float64) * mul + add, width, where)
  return (x * mul + add) >> shift


def _check_width(x, width, where):
  if np.abs(x).max() >= 2.0 ** (width - 1):
    raise ValueError(f"{where} overflows {width} bits")


def _constants(attributes, place) -> tuple[int, int, int]:
  mul, add, shift = (
    attributes[f"{place}_{k}"] for k in ("mul", "add", "shift")
  )
  return mul, add, shift


def _weight(layer):
  (weight,) = (x for n, x in layer.constants.items() if "bias" not in n)
  return np.rint(weight).astype(np.int64)
