"""Every tensor in block floating point, at formats that are data: BitQ's QAT.

Blocks run along channels and never reach into another image. Those of weights
span the kernel: BS Kw Ky weights of BS input channels, as in eq. 6 of BitQ
(arXiv 2409.17093); a depthwise kernel has one input channel, so its blocks span
its channels instead.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import chex
import jax

from fbq.nets.graph import Node
from fbq.quantizers import bfp
from fbq.schemes.scheme import Call

Array = jax.Array


class Data(NamedTuple):
  """What `BlockFloat` takes.

  Attributes:
    formats: int32 [S, 3], the format of every site in the order of the
      workload: bits X of an element, exponent bits SE, block size.
    tops: int32 [S], largest exponent of every activation, see `bfp.quantize`; 0
      for weights, whose largest is taken from the weights.
  """

  formats: Array
  tops: Array


@dataclasses.dataclass(frozen=True)
class BlockFloat:
  """Quantizes every tensor to a block format.

  Data: `Data`; a run has it as "formats" and "tops". X = 25 with 8 exponent
  bits and blocks of one element is FP32 itself; kernels larger than a pixel,
  which are one block then, keep what is above 2^-24 of their largest element.

  Attributes:
    sizes: the block sizes that formats may have, all compiled; one size alone
      is compiled as such, in a sixth of the time.
    rounding: see `fbq.quantizers.roundings`, "stochastic" excepted.
    window: blocks of activations span so many pixels in both directions, as
      FlexBlock's do; 0 for all pixels of an image, as HBFP's do.
    spans_kernel: blocks of weights have all elements of `block_size` kernels;
      else those of one place in so many kernels, as a dot product reads them.
  """

  sizes: tuple[int, ...] = bfp.BLOCK_SIZES
  rounding: str = "nearest"
  window: int = 1
  spans_kernel: bool = True

  def noise(self, key: Array, batch: int) -> None:
    del key, batch

  def data(self, run: Mapping[str, Array], step: Array) -> Data:
    del step
    return Data(run["formats"], run["tops"])

  def rounded(self, x, row, axis, over, top):
    """`x` in the format of a row [3]; for the rest see `bfp.quantize`."""
    format_ = bfp.Format(*row)
    return bfp.quantize(
      x, format_, axis, over, top, self.rounding, sizes=self.sizes
    )

  def quantizer(self, call: Call) -> "_BlockFloatQuantizer":
    place = check_data(call)
    return _BlockFloatQuantizer(self, call, place)


class _BlockFloatQuantizer(NamedTuple):
  scheme: BlockFloat
  call: Call
  place: Mapping[str, int]

  def weight(self, kernel, node: Node):
    axis, over = weight_axes(node, kernel.ndim, self.scheme.spans_kernel)
    return self._quantize(kernel, f"{node.name}.weight", axis, over, None)

  def activation(self, x, site):
    if not self.call.net.is_signed[site]:
      x = jax.nn.relu(x)
    over = window_axes(self.scheme.window, x.ndim)
    top = self.call.data.tops[self.place[site]]
    return self._quantize(x, site, -1, over, top)

  # Steps are powers of two: bfloat16 holds elements of up to 9 bits anyhow.
  def weight_unit(self, kernel, node):
    del kernel, node
    return 1.0

  def activation_unit(self, site):
    del site
    return 1.0

  def _quantize(self, x, site, axis, over, top):
    bits, exponent_bits, size = self.call.data.formats[self.place[site]]
    sizes = self.scheme.sizes
    format_ = bfp.Format(bits, exponent_bits, size)
    if len(sizes) == 1:
      format_ = bfp.Format(bits, exponent_bits, sizes[0])
    return bfp.quantize(
      x, format_, axis, over, top, self.scheme.rounding, sizes=sizes
    )


def check_data(call: Call) -> dict[str, int]:
  """{site: its row} of a call with `Data` of every site; else ValueError."""
  if call.data is None:
    raise ValueError(
      "a model in block floating point was given no formats: pass "
      "`block_float.Data` of every site of the workload"
    )
  # One row too few would be taken for the last one's, without a word.
  sites = call.net.workload.sites
  chex.assert_shape(
    [call.data.formats, call.data.tops],
    [(len(sites), 3), (len(sites),)],
    custom_message="formats and tops, one for every site of the workload",
  )
  return {site: i for i, site in enumerate(sites)}


def weight_axes(
  node: Node, ndim: int, spans_kernel: bool = True
) -> tuple[int, dict[int, int]]:
  """(axis, over) of `bfp.quantize` for the kernel of a node."""
  over = dict.fromkeys(range(ndim - 2), 0) if spans_kernel else {}
  is_one_to_one = node.op in ("depthwise", "channel_conv")
  return ndim - 1 if is_one_to_one else ndim - 2, over


def window_axes(window: int, ndim: int) -> dict[int, int]:
  """`over` of `bfp.quantize` for activations [B, H, W, C] or [B, C]."""
  return {} if ndim != 4 or window == 1 else {1: window, 2: window}
