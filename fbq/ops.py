"""Convolutions, each in the form that runs fastest where it runs.

On a CPU, XLA's grouped convolution is 5-46 times slower than nine shifted
products for a depthwise 3x3, its backward pass included (3.5-15 times than 49
of them for a 7x7), and a convolution whose output is smaller than its kernel is
200 times slower than shifted products. On a GPU the library's convolutions win,
but for depthwise ones, which have kernels of their own (`fbq.depthwise`).
`benchmarks/choices.py` measures both. Patches of 2x2 pixels that do not overlap
take 0.7 of a convolution's time as a matrix product.

Off the CPU no matrix product reads a strided slice: XLA's GPU compiler fuses
the two and then aborts the process (jax 0.11.2, "Check failed:
subdim_size_accumulator == dim_size").
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from fbq import backend

try:
  from fbq import depthwise as kernels
except ImportError:  # jax 0.11 says that later ones lack what it is written in
  kernels = None

Array = jax.Array
# Pixels of zeros on all four sides, or at (top, bottom, left, right).
Padding = int | tuple[int, int, int, int]

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def edges(padding: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
  """((top, bottom), (left, right)) pixels of zeros."""
  if isinstance(padding, int):
    padding = (padding,) * 4
  top, bottom, left, right = padding
  return (top, bottom), (left, right)


def conv(x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
  """Convolution of [B, H, W, I] with [h, w, I, O], zeros around."""
  height, width, inputs, outputs = kernel.shape
  rows, columns = edges(padding)
  on_cpu = backend.is_cpu()
  is_product = height == width == 1 and not any((*rows, *columns))
  if is_product and (on_cpu or stride == 1):
    return x[:, ::stride, ::stride, :] @ kernel.reshape(inputs, outputs)
  out_height = (x.shape[1] + sum(rows) - height) // stride + 1
  if on_cpu and (
    inputs <= 4 or out_height < height or height == width == stride
  ):
    return patches(x, (height, width), stride, padding) @ kernel.reshape(
      -1, outputs
    )
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    (rows, columns),
    dimension_numbers=_DIMENSIONS,
  )


def conv_transpose(x: Array, kernel: Array) -> Array:
  """[B, H h, W w, O]: of every pixel [B, H, W, I] a patch of [h, w, I, O].

  One matrix product, as patches do not overlap.
  """
  height, width, _, outputs = kernel.shape
  patches = jnp.einsum("byxi,rsio->byrxso", x, kernel)
  return patches.reshape(
    len(x), x.shape[1] * height, x.shape[2] * width, outputs
  )


def upsample(x: Array, factor: int, smooth: bool) -> Array:
  """[B, H f, W f, C] of [B, H, W, C]: copies, or bilinear if `smooth`.

  Bilinear with the centres of pixels at halves: PyTorch's align_corners=False.
  """
  batch, height, width, channels = x.shape
  if smooth:
    shape = (batch, height * factor, width * factor, channels)
    return jax.image.resize(x, shape, "bilinear")
  copies = jnp.broadcast_to(
    x[:, :, None, :, None], (batch, height, factor, width, factor, channels)
  )
  return copies.reshape(batch, height * factor, width * factor, channels)


def depthwise(x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
  """Convolution of each channel of [B, H, W, C] with its own [h, w, 1, C]."""
  # No GPU has a convolution of integers of 32 bits.
  if backend.is_cpu() or jnp.issubdtype(x.dtype, jnp.integer):
    return _shifted_depthwise(stride, padding, x, kernel)
  if kernels and backend.is_one_nvidia_gpu() and kernels.takes(x, kernel):
    (top, bottom), (left, right) = edges(padding)
    return kernels.convolve(
      stride, (top, bottom, left, right), False, x, kernel
    )
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    edges(padding),
    dimension_numbers=_DIMENSIONS,
    feature_group_count=x.shape[-1],
  )


def patches(
  x: Array, kernel: tuple[int, int], stride: int, padding: Padding
) -> Array:
  """The pixels under each tap: [B, H', W', h w C], taps in row-major order."""
  views = [view for _, _, view in _taps(_pad(x, padding), kernel, stride)]
  found = jnp.concatenate(views, axis=-1)
  if backend.is_cpu() or stride == 1:
    return found
  return lax.optimization_barrier(found)  # what reads it is a matrix product


def _pad(x: Array, padding: Padding) -> Array:
  """`x` with zeros around height and width."""
  rows, columns = ((*pair, 0) for pair in edges(padding))
  zero = jnp.zeros((), x.dtype)
  return lax.pad(x, zero, [(0, 0, 0), rows, columns, (0, 0, 0)])


def _taps(padded: Array, kernel: tuple[int, int], stride: int):
  """(row, column, strided view of `padded` under that tap) for every tap."""
  height = (padded.shape[1] - kernel[0]) // stride * stride + 1
  width = (padded.shape[2] - kernel[1]) // stride * stride + 1
  for i in range(kernel[0]):
    for j in range(kernel[1]):
      yield i, j, padded[:, i : i + height : stride, j : j + width : stride, :]


def _compiled_alone(function):
  """`function(stride, padding, *arrays)` compiled as a unit, on a CPU.

  Otherwise XLA fuses what makes its operands into the shifted products: a batch
  norm and a quantizer are then computed once for every tap, and a 3x3 kernel's
  quantizer once for every pixel: the search step of MobileNetV1 then takes 1.8
  times as long (`benchmarks/choices.py`).
  """
  compiled = jax.jit(function, static_argnums=(0, 1))

  @functools.wraps(function)
  def call(*args):
    with set_xla_metadata(inlineable="false"):
      return compiled(*args)

  return call


@_compiled_alone
def _correlate(stride, padding, x, kernel):
  """Depthwise convolution as shifted products."""
  taps = _taps(_pad(x, padding), kernel.shape[:2], stride)
  return functools.reduce(
    jnp.add, (view * kernel[i, j, 0] for i, j, view in taps)
  )


@_compiled_alone
def _kernel_gradient(stride, padding, x, kernel, g):
  """The gradient of `_correlate` in `kernel`: each tap's view times `g`.

  One pass over all taps by a variadic reduction takes 0.7 ms for 64x32x32x8
  where tap by tap takes 2.1 ms (`benchmarks/choices.py`, two cores).
  """
  views = [v for _, _, v in _taps(_pad(x, padding), kernel.shape[:2], stride)]
  sums = lax.reduce(
    [view * g for view in views],
    [jnp.zeros((), g.dtype)] * len(views),
    lambda a, b: [x + y for x, y in zip(a, b, strict=True)],
    (0, 1, 2),
  )
  return jnp.stack(sums).reshape(kernel.shape)


@_compiled_alone
def _input_gradient(stride, padding, x, kernel, g):
  """The gradient of `_correlate` in `x`, a transposed convolution.

  `g` is spread by the stride, then correlated with the flipped kernel.
  """
  height, width = kernel.shape[:2]
  (top, _), (left, _) = edges(padding)
  spread = lax.pad(
    g,
    jnp.zeros((), g.dtype),
    [
      (0, 0, 0),
      _transposed_padding(x.shape[1], g.shape[1], height, stride, top),
      _transposed_padding(x.shape[2], g.shape[2], width, stride, left),
      (0, 0, 0),
    ],
  )
  taps = _taps(spread, (height, width), 1)
  return functools.reduce(
    jnp.add, (v * kernel[height - 1 - i, width - 1 - j, 0] for i, j, v in taps)
  )


def _transposed_padding(size, out_size, kernel, stride, before):
  """(low, high, interior) padding for a correlation of `size` outputs."""
  low = kernel - 1 - before
  spread = (out_size - 1) * stride + 1
  return low, size + kernel - 1 - low - spread, stride - 1


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _shifted_depthwise(stride, padding, x, kernel):
  return _correlate(stride, padding, x, kernel)


def _shifted_depthwise_forward(stride, padding, x, kernel):
  return _correlate(stride, padding, x, kernel), (x, kernel)


def _shifted_depthwise_backward(stride, padding, residuals, g):
  return (
    _input_gradient(stride, padding, *residuals, g),
    _kernel_gradient(stride, padding, *residuals, g),
  )


_shifted_depthwise.defvjp(
  _shifted_depthwise_forward, _shifted_depthwise_backward
)
