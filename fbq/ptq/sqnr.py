"""How much of the weights a quantizer keeps, in decibels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fbq.nets.graph import Net
from fbq.quantizers import range_rules


class LayerSqnr(NamedTuple):
  """The weights of one layer under one quantizer.

  Attributes:
    layer: name of the node.
    bits: bits of a code.
    form: form of the grid, one of `affine.FORMS`.
    per_channel: whether each output channel has a range, else the layer has
      one.
    decibels: see `decibels`.
  """

  layer: str
  bits: int
  form: str
  per_channel: bool
  decibels: float


def decibels(x: np.ndarray, y: np.ndarray) -> float:
  """10 log10(sum x^2 / sum (x - y)^2) of `x` and what a quantizer made of it.

  The signal to quantization noise ratio of the whitepaper's appendix A;
  infinite where nothing was lost.
  """
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  noise = np.sum(np.square(x - y))
  if noise == 0.0:
    return float("inf")
  return float(10.0 * np.log10(np.sum(np.square(x)) / noise))


def report(
  net: Net,
  params: Mapping[str, Any],
  bits: Sequence[int] = (4, 8),
  forms: Sequence[str] = ("affine", "symmetric", "restricted"),
  rule: Callable[..., range_rules.Range] = range_rules.min_max,
) -> list[LayerSqnr]:
  """A row for each layer with weights, bits, form and granularity.

  Args:
    net: network whose weights are quantized.
    params: parameters of the model of `net`.
    bits: bit-widths to quantize to.
    forms: forms of grids, of `affine.FORMS`; "unsigned" would lose every
      negative weight.
    rule: range of each column of [N, ...].

  Raises:
    ValueError: weights are not finite.
  """
  rows = []
  for node in net.nodes:
    if not node.has_weights:
      continue

    # The range depends on the granularity alone, the noise on all three.
    kernel = np.asarray(params[f"{node.name}_kernel"], np.float32)
    for per_channel in (False, True):
      range_ = rule(range_rules.columns(kernel, per_channel))
      for b in bits:
        for form in forms:
          y = range_rules.quantized(kernel, range_, b, form)
          ratio = decibels(kernel, y)
          rows.append(LayerSqnr(node.name, b, form, per_channel, ratio))
  return rows
