"""The depthwise kernels of a GPU, interpreted and lowered: none is needed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from stablehlo import lowered

from fbq import backend, depthwise, ops

# [B, H, W, C], kernel, stride, zeros at the top, bottom, left and right
CASES = {
  "plain": ((2, 9, 7, 6), 3, 1, (1, 1, 1, 1)),
  "strided": ((3, 8, 10, 24), 3, 2, (1, 1, 1, 1)),
  "as TensorFlow pads": ((1, 7, 9, 3), 3, 2, (0, 1, 0, 1)),
  "five": ((2, 8, 8, 40), 5, 2, (1, 2, 2, 1)),
  "no zeros, three": ((1, 10, 8, 4), 3, 3, (0, 0, 0, 0)),
  # More rows and columns than a program takes
  "several blocks": ((1, 19, 40, 64), 3, 1, (1, 1, 1, 1)),
}


def library(stride, sides, x, kernel):
  top, bottom, left, right = sides
  return lax.conv_general_dilated(
    *(x, kernel, (stride, stride), ((top, bottom), (left, right))),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1],
  )


def operands(shape, size, seed=0):
  random = np.random.default_rng(seed)
  kernel = random.normal(size=(size, size, 1, shape[-1]))
  return (
    jnp.asarray(random.normal(size=shape), jnp.float32),
    jnp.asarray(kernel, jnp.float32),
  )


@pytest.mark.parametrize("case", CASES)
def test_maps_and_gradients_are_those_of_the_library(case):
  shape, size, stride, sides = CASES[case]
  x, kernel = operands(shape, size)
  ours, our_pull = jax.vjp(
    functools.partial(depthwise.convolve, stride, sides, True), x, kernel
  )
  theirs, their_pull = jax.vjp(
    functools.partial(library, stride, sides), x, kernel
  )
  g = jnp.asarray(np.random.default_rng(1).normal(size=theirs.shape), x.dtype)
  pairs = zip((ours, *our_pull(g)), (theirs, *their_pull(g)), strict=True)
  for actual, expected in pairs:
    # Sums of up to 760 products in another order
    largest = float(jnp.abs(expected).max())
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6 * largest)


def test_halves_are_summed_in_float32_and_rounded_once():
  # Products of integers below 2^8, so every sum in float32 is exact.
  random = np.random.default_rng(0)
  x = random.integers(0, 256, (1, 6, 6, 8)).astype(np.float32)
  kernel = random.integers(-127, 128, (3, 3, 1, 8)).astype(np.float32)
  exact = library(1, (1,) * 4, jnp.asarray(x), jnp.asarray(kernel))
  halves = (jnp.asarray(each, jnp.bfloat16) for each in (x, kernel))
  found = depthwise.convolve(1, (1,) * 4, True, *halves)
  assert found.dtype == jnp.bfloat16
  np.testing.assert_array_equal(found, exact.astype(jnp.bfloat16))


def test_several_models_at_once_are_each_alone():
  x, kernel = operands((3 * 2, 8, 8, 4), 3)
  x = x.reshape(3, 2, 8, 8, 4)
  kernels = jnp.stack([kernel, 2 * kernel, -kernel])

  def gradients(x, kernel):
    return jax.grad(
      lambda *given: (depthwise.convolve(2, (1,) * 4, True, *given) ** 2).sum(),
      argnums=(0, 1),
    )(x, kernel)

  together = jax.vmap(gradients)(x, kernels)
  for i in range(3):
    alone = gradients(x[i], kernels[i])
    for ours, expected in zip(together, alone, strict=True):
      np.testing.assert_array_equal(ours[i], expected)


def test_gradients_are_pushed_forward_as_hessians_need():
  x, kernel = operands((1, 4, 4, 2), 3)

  def hessian_product(convolve):
    loss = lambda given: (convolve(*given) ** 3).sum()
    given = x, kernel
    return jax.jvp(jax.grad(loss), (given,), (given,))[1]

  ours = hessian_product(
    functools.partial(depthwise.convolve, 1, (1,) * 4, True)
  )
  theirs = hessian_product(functools.partial(library, 1, (1,) * 4))
  for actual, expected in zip(ours, theirs, strict=True):
    largest = float(jnp.abs(expected).max())
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6 * largest)


def test_a_hessian_lowers_for_a_gpu():
  x, kernel = operands((1, 4, 4, 2), 3)
  loss = lambda k, x: (ops.depthwise(x, k, 2, 1) ** 3).sum()
  product = jax.jit(
    lambda k, x: jax.jvp(lambda k: jax.grad(loss)(k, x), (k,), (k,))[1]
  )
  with backend.written_for("cuda"):
    assert "triton" in lowered(product, kernel, x).as_text()


@pytest.mark.parametrize(
  ("platform", "dtype", "size", "is_own"),
  [
    ("cuda", jnp.float32, 3, True),
    ("cuda", jnp.bfloat16, 5, True),
    ("cuda", jnp.int32, 3, False),
    ("cuda", jnp.float32, 7, False),
    ("tpu", jnp.float32, 3, False),
    ("cpu", jnp.float32, 3, False),
  ],
)
def test_a_program_for_one_gpu_has_them(platform, dtype, size, is_own):
  x = jax.ShapeDtypeStruct((2, 8, 8, 16), dtype)
  kernel = jax.ShapeDtypeStruct((size, size, 1, 16), dtype)
  with backend.written_for(platform):
    program = lowered(
      jax.jit(lambda x, k: ops.depthwise(x, k, 2, size // 2)),
      *(x, kernel),
      platform=platform,
    )
  assert ("triton" in program.as_text()) == is_own


def test_what_does_not_fit_their_offsets_is_left_to_the_library():
  kernel = jax.ShapeDtypeStruct((3, 3, 1, 8), jnp.float32)
  takes = functools.partial(depthwise.takes, kernel=kernel)
  maps = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
  assert takes(maps((256, 224, 224, 64)))
  assert not takes(maps((1024, 224, 224, 64)))  # 2^31.6 numbers
  assert not takes(maps((8192, 128, 1, 8)))  # 65,536 programs
