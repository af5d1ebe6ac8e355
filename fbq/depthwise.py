"""Depthwise convolutions on a GPU, and their gradients: three kernels.

Those of the library take 1 to 5 times as long as moving their tensors does if
the fastest of its algorithms were found by trying, which takes a program
minutes to compile, and 12 to 74 times if not. These take 1.1 to 2.0 forward and
2.3 to 3.1 backward (one H200, jax 0.11.2; `benchmarks/accelerator.py`).

A row of a map is one run of W C numbers, whatever the channels are. Maps are
made in blocks of a row, so neighbouring threads read neighbouring numbers and a
tap is an offset; the taps' weights stay in registers over several rows. Sums
are in float32, in one order, so that a run repeats bit for bit.

Each of the three is linear in both of its operands. That is its rule for
forward derivatives, so gradients can be pushed forward, as Hessians need.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

Array = jax.Array
Sides = tuple[int, int, int, int]
WARPS = 4  # of 32 threads, in each program
ROWS = 16  # of a map that one program goes through
MOST_TAPS = 25


def takes(x: Array, kernel: Array) -> bool:
  """Whether these kernels are made for such operands."""
  batch, height, _, _ = x.shape
  return (
    jnp.issubdtype(x.dtype, jnp.floating)
    and kernel.shape[0] * kernel.shape[1] <= MOST_TAPS
    and x.size < 2**31  # offsets are int32
    and batch * height < 2**16 * ROWS  # of a grid's second axis, under vmap
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def convolve(
  stride: int, sides: Sides, interpret: bool, x: Array, kernel: Array
) -> Array:
  """Convolution of each channel of [B, H, W, C] with its own [h, w, 1, C].

  Args:
    stride: of rows and columns.
    sides: zeros at the top, bottom, left and right.
    interpret: runs on any backend, slowly.
    x, kernel: float, what `takes` takes.
  """
  return _map(stride, sides, interpret, x, kernel)


def _forward(stride, sides, interpret, x, kernel):
  return _map(stride, sides, interpret, x, kernel), (x, kernel)


def _backward(stride, sides, interpret, residuals, g):
  x, kernel = residuals
  how = stride, sides, interpret
  return (
    _input_gradient(*how, x.shape, g, kernel),
    _kernel_gradient(*how, kernel.shape, x, g),
  )


convolve.defvjp(_forward, _backward)


def _bilinear(static: int):
  """A function of `static` settings and two arrays, linear in each."""

  def made(function):
    own = jax.custom_jvp(function, nondiff_argnums=tuple(range(static)))

    @own.defjvp
    def pushed(*given):
      *settings, (a, b), (da, db) = given
      return own(*settings, a, b), own(*settings, da, b) + own(*settings, a, db)

    return own

  return made


@_bilinear(3)
def _map(stride, sides, interpret, x, kernel):
  """What `convolve` gives."""
  batch, height, width, channels = x.shape
  rows, columns = kernel.shape[:2]
  top, bottom, left, right = sides
  shape = (
    *(batch, (height + top + bottom - rows) // stride + 1),
    *((width + left + right - columns) // stride + 1, channels),
  )

  def row_of(out_row, tap):
    row = out_row * stride + tap - top
    return row, (row >= 0) & (row < height)

  def column_of(out_column, tap):
    column = out_column * stride + tap - left
    return column, (column >= 0) & (column < width)

  return _map_of(shape, x, kernel, row_of, column_of, interpret)


@_bilinear(4)
def _input_gradient(stride, sides, interpret, shape, g, kernel):
  """Of what is read, of this shape."""
  top, _, left, _ = sides
  _, out_height, out_width, _ = g.shape

  def source(place, size):
    """The output that begins at a place of the input, if there is one."""
    if stride == 1:
      return place, (place >= 0) & (place < size)
    output = jax.lax.div(place, stride)
    exists = (place >= 0) & (output < size) & (output * stride == place)
    return output, exists

  return _map_of(
    shape,
    g,
    kernel,
    lambda row, tap: source(row + top - tap, out_height),
    lambda column, tap: source(column + left - tap, out_width),
    interpret,
  )


def _map_of(
  shape: tuple[int, ...],
  x: Array,
  kernel: Array,
  row_of: Callable,
  column_of: Callable,
  interpret: bool,
) -> Array:
  """A map of `shape`: sums over taps of the kernel times what they see of `x`.

  `row_of(row, tap)` is (row of `x` under a tap of that row, whether there is
  one); so is `column_of`.
  """
  batch, height, width, channels = shape
  _, x_height, x_width, _ = x.shape
  rows, columns = kernel.shape[:2]
  block = 1024 if rows * columns <= 9 else 256
  chunks = pl.cdiv(height, ROWS)

  def body(x_ref, kernel_ref, y_ref):
    position = pl.program_id(1) * block + jnp.arange(block)
    column = jax.lax.div(position, channels)
    inside = column < width
    channel = position - column * channels
    weights = [
      triton.load(kernel_ref.at[tap * channels + channel]).astype(jnp.float32)
      for tap in range(rows * columns)
    ]
    # Offsets within a row of x, written as steps from the position, so that the
    # compiler sees which are neighbours.
    offsets = []
    for j in range(columns):
      at, seen = column_of(column, j)
      offsets.append((position + (at - column) * channels, inside & seen))
    image = jax.lax.div(pl.program_id(0), chunks)
    first = (pl.program_id(0) - image * chunks) * ROWS

    def make_row(row, nothing):
      total = jnp.zeros(block, jnp.float32)
      for i in range(rows):
        x_row, exists = row_of(row, i)
        start = (image * x_height + x_row) * (x_width * channels)
        for j, (offset, seen) in enumerate(offsets):
          view = _read(x_ref, start, offset, seen & exists)
          total += weights[i * columns + j] * view
      start = (image * height + row) * (width * channels)
      triton.store(
        y_ref.at[start + position], total.astype(x.dtype), mask=inside
      )
      return nothing

    jax.lax.fori_loop(first, jnp.minimum(first + ROWS, height), make_row, 0)

  made = pl.pallas_call(
    body,
    out_shape=jax.ShapeDtypeStruct(
      (batch * height * width * channels,), x.dtype
    ),
    grid=(batch * chunks, pl.cdiv(width * channels, block)),
    interpret=interpret,
    compiler_params=triton.CompilerParams(num_warps=WARPS),
  )(x.reshape(-1), kernel.reshape(-1))
  return made.reshape(shape)


@_bilinear(4)
def _kernel_gradient(stride, sides, interpret, shape, x, g):
  """[h, w, 1, C]: sums over some columns of `ROWS` rows, then of all."""
  top, _, left, _ = sides
  batch, height, width, channels = x.shape
  _, out_height, out_width, _ = g.shape
  rows, columns = shape[:2]
  taps = rows * columns
  # A block of columns and channels, both powers of two
  most = 1024 if taps <= 9 else 256
  wide = min(64, channels & -channels)
  tall = min(most // wide, pl.next_power_of_2(out_width))
  groups, blocks = channels // wide, pl.cdiv(out_width, tall)
  parts = pl.cdiv(batch * out_height, ROWS)

  def body(x_ref, g_ref, sums_ref):
    across = jax.lax.div(pl.program_id(1), groups)
    channel = (pl.program_id(1) - across * groups) * wide + jnp.arange(wide)
    column = across * tall + jnp.arange(tall)
    of_g = column[:, None] * channels + channel[None, :]
    in_g = jnp.broadcast_to((column < out_width)[:, None], (tall, wide))
    views = []
    for j in range(columns):
      at = column * stride + j - left
      seen = (column < out_width) & (at >= 0) & (at < width)
      views.append(
        (
          at[:, None] * channels + channel[None, :],
          jnp.broadcast_to(seen[:, None], (tall, wide)),
        )
      )
    first = pl.program_id(0) * ROWS

    def add_row(index, sums):
      image = jax.lax.div(index, out_height)
      slope = _read(g_ref, index * (out_width * channels), of_g, in_g)
      new = []
      for i in range(rows):
        row = (index - image * out_height) * stride + i - top
        exists = (row >= 0) & (row < height)
        start = (image * height + row) * (width * channels)
        for j, (offset, seen) in enumerate(views):
          view = _read(x_ref, start, offset, seen & exists)
          new.append(sums[i * columns + j] + slope * view)
      return tuple(new)

    zeros = (jnp.zeros((tall, wide), jnp.float32),) * taps
    last = jnp.minimum(first + ROWS, batch * out_height)
    sums = jax.lax.fori_loop(first, last, add_row, zeros)
    part = pl.program_id(0) * blocks + across
    for tap, total in enumerate(sums):
      place = (part * taps + tap) * channels + channel
      triton.store(sums_ref.at[place], total.sum(0))

  sums = pl.pallas_call(
    body,
    out_shape=jax.ShapeDtypeStruct(
      (parts * blocks * taps * channels,), jnp.float32
    ),
    grid=(parts, blocks * groups),
    interpret=interpret,
    compiler_params=triton.CompilerParams(num_warps=WARPS),
  )(x.reshape(-1), g.reshape(-1))
  return sums.reshape(parts * blocks, *shape).sum(0).astype(x.dtype)


def _read(ref, start, offset, seen):
  """float32 of a block; zeros where it is not `seen`."""
  found = triton.load(ref.at[start + offset], mask=seen, other=0)
  return found.astype(jnp.float32)
