"""Convolutions against loops in numpy, in every form and both gradients.

Inputs are small integers, so sums are exact in float32 whatever their order and
results must be equal to the last bit.
"""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import AS_SHIPPED

from fbq import backend, ops

# (height, width, kernel height, kernel width, stride, padding)
GEOMETRIES = [
  (1, 1, 1, 1, 1, 0),
  (1, 1, 3, 3, 1, 1),
  (1, 1, 3, 3, 2, 1),
  (1, 1, 5, 5, 2, 2),
  (1, 1, 1, 1, 2, 2),
  (2, 2, 3, 3, 1, 1),
  (2, 2, 3, 3, 2, 1),
  (2, 2, 3, 3, 1, 2),
  (2, 2, 1, 1, 2, 0),
  (4, 3, 1, 1, 1, 1),
  (3, 3, 3, 3, 1, 0),
  (5, 4, 3, 3, 2, 0),
  (5, 7, 3, 3, 2, 1),
  (8, 8, 3, 3, 2, 1),
  (7, 6, 5, 5, 1, 2),
  (6, 9, 5, 5, 2, 1),
  (5, 6, 3, 1, 1, 1),
  (6, 5, 1, 5, 2, 0),
  (7, 7, 2, 3, 2, 1),
  (8, 8, 4, 4, 4, 0),
  (7, 6, 2, 2, 2, 0),
  (6, 5, 2, 2, 2, 1),
  (8, 5, 7, 7, 1, 3),
  (2, 2, 7, 7, 1, 3),
]


def taps(height, width, kernel, stride, padding):
  """(output row, column, tap, input pixel) of every product, by definition."""
  rows = (height + 2 * padding - kernel[0]) // stride + 1
  columns = (width + 2 * padding - kernel[1]) // stride + 1
  for row, column, i, j in np.ndindex(rows, columns, *kernel):
    y, x = row * stride + i - padding, column * stride + j - padding
    if 0 <= y < height and 0 <= x < width:
      yield row, column, i, j, y, x


def oracle(x, kernel, g, stride, padding, depthwise):
  """(y, dx, dkernel) in float64, tap by tap."""
  y, dx, dkernel = np.zeros(g.shape), np.zeros(x.shape), np.zeros(kernel.shape)
  for row, column, i, j, r, c in taps(
    *x.shape[1:3], kernel.shape[:2], stride, padding
  ):
    pixel, grad = x[:, r, c].astype(float), g[:, row, column].astype(float)
    weight = kernel[i, j].astype(float)
    if depthwise:
      y[:, row, column] += pixel * weight[0]
      dx[:, r, c] += grad * weight[0]
      dkernel[i, j, 0] += (pixel * grad).sum(0)
    else:
      y[:, row, column] += pixel @ weight
      dx[:, r, c] += grad @ weight.T
      dkernel[i, j] += pixel.T @ grad
  return y, dx, dkernel


def case(geometry, depthwise, channels=3, outputs=4, batch=2, seed=0):
  height, width, *kernel, stride, padding = geometry
  random = np.random.default_rng(seed)
  draw = lambda *shape: random.integers(-4, 5, shape).astype(np.float32)  # noqa: E731
  outputs = channels if depthwise else outputs
  out = [
    (size + 2 * padding - k) // stride + 1
    for size, k in zip((height, width), kernel, strict=True)
  ]
  return (
    draw(batch, height, width, channels),
    draw(*kernel, 1 if depthwise else channels, outputs),
    draw(batch, *out, outputs),
  )


def eager(op, stride, padding, x, kernel, g):
  y, vjp = jax.vjp(lambda x, k: op(x, k, stride, padding), x, kernel)
  return y, *vjp(g)


outcome = jax.jit(eager, static_argnums=(0, 1, 2), compiler_options=AS_SHIPPED)
# Sums are exact, so that a compiler in a hurry has no other result.
quick = jax.jit(eager, static_argnums=(0, 1, 2))


def check(op, geometry, arrays, run=outcome):
  found = run(op, *geometry[4:], *arrays)
  expected = oracle(*arrays, *geometry[4:], op is ops.depthwise)
  for ours, theirs in zip(found, expected, strict=True):
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("op", [ops.conv, ops.depthwise])
def test_equals_loops(op, geometry):
  run = outcome if geometry in GEOMETRIES[::4] else quick
  check(op, geometry, case(geometry, op is ops.depthwise), run)


@pytest.mark.parametrize("channels", [1, 5, 8])
@pytest.mark.parametrize("geometry", [GEOMETRIES[5], GEOMETRIES[12]], ids=str)
@pytest.mark.parametrize("op", [ops.conv, ops.depthwise])
def test_channels_choose_no_other_result(op, geometry, channels):
  """Few input channels take another path than many."""
  check(op, geometry, case(geometry, op is ops.depthwise, channels), quick)


@pytest.mark.parametrize("geometry", GEOMETRIES[5:13:3], ids=str)
@pytest.mark.parametrize("op", [ops.conv, ops.depthwise])
def test_form_for_other_backends_equals_loops(op, geometry):
  with backend.written_for("tpu"):  # a GPU's depthwise: depthwise_test
    check(op, geometry, case(geometry, op is ops.depthwise))


@pytest.mark.parametrize("geometry", [GEOMETRIES[6], GEOMETRIES[12]], ids=str)
@pytest.mark.parametrize("op", [ops.conv, ops.depthwise])
def test_eager_equals_jit(op, geometry):
  arrays = case(geometry, op is ops.depthwise)
  check(op, geometry, arrays, eager)


@pytest.mark.parametrize("geometry", GEOMETRIES[11:19:2], ids=str)
@pytest.mark.parametrize("op", [ops.conv, ops.depthwise])
def test_equals_the_convolution_of_jax(op, geometry):
  """On real numbers; products and sums of 75 terms, rounded in any order."""
  random = np.random.default_rng(1)
  arrays = [
    (array + random.normal(size=array.shape)).astype(np.float32)
    for array in case(geometry, op is ops.depthwise)
  ]

  def reference(x, kernel, stride, padding):
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      (stride, stride),
      [(padding, padding)] * 2,
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      feature_group_count=3 if op is ops.depthwise else 1,
    )

  found = outcome(op, *geometry[4:], *arrays)
  expected = outcome(reference, *geometry[4:], *arrays)
  for ours, theirs in zip(found, expected, strict=True):
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * scale)


@hypothesis.given(
  height=st.integers(1, 6),
  width=st.integers(1, 6),
  kernel=st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 2, 3])),
  stride=st.integers(1, 3),
  padding=st.integers(0, 2),
  depthwise=st.booleans(),
  seed=st.integers(0, 99),
)
@hypothesis.settings(max_examples=12, deadline=None)
def test_any_geometry_equals_loops(
  height, width, kernel, stride, padding, depthwise, seed
):
  hypothesis.assume(kernel[0] <= height + 2 * padding)
  hypothesis.assume(kernel[1] <= width + 2 * padding)
  geometry = (height, width, *kernel, stride, padding)
  op = ops.depthwise if depthwise else ops.conv
  check(op, geometry, case(geometry, depthwise, seed=seed), quick)


def test_patches_are_pixels_under_taps_in_row_major_order():
  x = jnp.arange(2 * 3 * 2, dtype=jnp.float32).reshape(1, 2, 3, 2)
  found = ops.patches(x, (2, 2), 1, 0)
  assert found.shape == (1, 1, 2, 8)
  np.testing.assert_array_equal(found[0, 0, 0], [0, 1, 2, 3, 6, 7, 8, 9])
  np.testing.assert_array_equal(found[0, 0, 1], [2, 3, 4, 5, 8, 9, 10, 11])


def test_depthwise_is_compiled_apart_from_what_feeds_it():
  """So that nothing upstream is computed once for every tap."""
  x, kernel, _ = case(GEOMETRIES[12], True)
  text = (
    jax.jit(lambda x, k: ops.depthwise(jnp.tanh(x), k, 2, 1))
    .lower(x, kernel)
    .as_text()
  )
  assert 'inlineable = "false"' in text
