"""Every tensor in a microscaling format: MX elements as data, or NVFP4.

Blocks run along what a product sums over, channels of activations and input
channels of weights, and one tap of a kernel never shares a scale with another,
as in microxcaling. A depthwise kernel has one input channel, so its blocks run
along its channels instead.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbq import block_formats
from fbq.nets.graph import Net, Node
from fbq.quantizers import microscaling, nvfp4
from fbq.schemes.block_float import Data, check_data, weight_axes
from fbq.schemes.scheme import Call
from hwsim.bfp.formats import FP32, BlockFormat

Array = jax.Array
FLOAT_ROW = (25, 8, 1)  # of FP32, as in `block_formats.to_array`


def row_of(format_: microscaling.Format) -> tuple[int, int, int]:
  """What `Microscaling` takes of a site of this format; see its docstring."""
  coding = microscaling.CODINGS[format_.element]
  return coding.bits, coding.exponent_bits, format_.block_size


def rows_of(net: Net, formats: Mapping[str, BlockFormat]) -> np.ndarray:
  """int32 [S, 3], what `Microscaling` takes of an assignment.

  Raises:
    ValueError: a site has no format, or neither FP32 nor an element of OCP MX
      with scales that are powers of two.
  """
  block_formats.check_formats(net, formats)
  rows = []
  for site in net.workload.sites:
    f = formats[site]
    if f == FP32:
      rows.append(FLOAT_ROW)
      continue
    if f.element not in microscaling.CODINGS or f.scale:
      raise ValueError(
        f"{net.name}: {site!r} has format {tuple(f)}, expected FP32 or an "
        f"element of {', '.join(microscaling.CODINGS)} and E8M0 scales"
      )
    coding = microscaling.CODINGS[f.element]
    rows.append((coding.bits, coding.exponent_bits, f.block_size))
  return np.array(rows, np.int32)


@dataclasses.dataclass(frozen=True)
class Microscaling:
  """Quantizes every tensor to a microscaling format.

  Data: `block_float.Data`, whose rows are here bits of an element, bits of its
  own exponent (0 of INT8), and the block size, which is compiled: rows of
  another element than the five of OCP MX give NaN. A run has it as "formats"
  and "tops".

  With E4M3 scales this is NVFP4, all of it E2M1. The float32 of an activation
  is then t for the power of two above the largest magnitude in calibration,
  that of a kernel follows from the kernel.

  Attributes:
    sizes: the one block size.
    scale: "E8M0" or "E4M3", see `microscaling.Format`.
    has_floats: whether `FLOAT_ROW` leaves a tensor as it is, so that single
      tensors can be tried; else it gives NaN.
  """

  sizes: tuple[int] = (32,)
  scale: str = "E8M0"
  has_floats: bool = False

  @property
  def spans_kernel(self) -> bool:
    """See `BlockFloat`: taps of a kernel never share a scale."""
    return False

  @property
  def window(self) -> int:
    """See `BlockFloat`: nor do pixels."""
    return 1

  def noise(self, key: Array, batch: int) -> None:
    del key, batch

  def data(self, run: Mapping[str, Array], step: Array) -> Data:
    del step
    return Data(run["formats"], run["tops"])

  def rounded(self, x, row, axis, over=None, top=None):
    """`x` in the format of a row [3], with E8M0 scales along `axis`."""
    del over, top  # no tap and no pixel shares a scale, and no tensor does
    bits, exponent_bits, _ = row
    element = _element(bits, exponent_bits)
    y = microscaling.quantize(x, element, self.sizes[0], axis)
    return jnp.where(bits == FLOAT_ROW[0], x, y) if self.has_floats else y

  def quantizer(self, call: Call) -> "_MicroscalingQuantizer":
    place = check_data(call)
    return _MicroscalingQuantizer(self, call, place)


class _MicroscalingQuantizer(NamedTuple):
  scheme: Microscaling
  call: Call
  place: Mapping[str, int]

  def weight(self, kernel, node: Node):
    axis, _ = weight_axes(node, kernel.ndim, spans_kernel=False)
    return self._quantize(kernel, f"{node.name}.weight", axis, None)

  def activation(self, x, site):
    if not self.call.net.is_signed[site]:
      x = jax.nn.relu(x)
    t = self._tensor_scale(site) if self._is_nvfp4 else None
    return self._quantize(x, site, -1, t)

  # Of NVFP4 what is left is E2M1 times E4M3, which bfloat16 holds exactly; of
  # the others steps are powers of two.
  def weight_unit(self, kernel, node):
    del node
    return nvfp4.tensor_scale(kernel) if self._is_nvfp4 else 1.0

  def activation_unit(self, site):
    return self._tensor_scale(site) if self._is_nvfp4 else 1.0

  @property
  def _is_nvfp4(self) -> bool:
    return self.scheme.scale == "E4M3"

  def _tensor_scale(self, site):
    top = self.call.data.tops[self.place[site]]
    return nvfp4.scale_for(jnp.ldexp(jnp.float32(1), top + 1))

  def _quantize(self, x, site, axis, t):
    if self._is_nvfp4:
      return nvfp4.quantize(x, axis, tensor_scale=t)
    row = self.call.data.formats[self.place[site]]
    return self.scheme.rounded(x, row, axis)


def _element(bits, exponent_bits) -> microscaling.Element:
  """Numbers of the element of these bits, picked as data."""
  codings = np.array(
    [(c.bits, c.exponent_bits) for c in microscaling.CODINGS.values()]
  )
  found = (codings == jnp.stack([bits, exponent_bits])).all(1)
  element = jax.tree.map(
    lambda column: column[jnp.argmax(found)], microscaling.table()
  )
  largest = jnp.where(found.any(), element.largest, jnp.nan)
  return element._replace(largest=largest)
