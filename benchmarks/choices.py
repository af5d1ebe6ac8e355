"""The choices that make training steps fast, each beside its alternative."""

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from benchmarks.timing import Program, interleave, new_table
from fbq import ops
from fbq.quantizers import bayesian_bits, uniform

BATCH = 64


def with_gradients(function, *arguments) -> Program:
  """Forward and backward of `function` in all its arguments."""
  out = jax.eval_shape(function, *arguments)
  g = jax.random.normal(jax.random.key(9), out.shape)

  def both(g, *arguments):
    y, vjp = jax.vjp(function, *arguments)
    return y, vjp(g)

  return Program(both, g, *arguments)


def plain_nested(x, range_, z4, z8):
  """The formula of `nested_quantize` left to automatic differentiation."""

  def quantize(bits):
    high = 2.0**bits - 1.0
    step = range_ / high
    scaled = jnp.clip(x / step, 0.0, high)
    rounded = scaled + jax.lax.stop_gradient(jnp.round(scaled) - scaled)
    return rounded * step

  q2, q4, q8 = map(quantize, bayesian_bits.LADDER)
  return q2 + z4 * (q4 - q2) + z4 * z8 * (q8 - q4)


def grouped(stride, x, kernel):
  """Depthwise convolution by the library."""
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    [(1, 1)] * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1],
  )


def quantizer_pair(shape):
  """(name, analytic, plain): the gated quantizer, gates drawn per image."""
  x = jax.random.normal(jax.random.key(0), shape)
  z = jax.random.uniform(jax.random.key(1), (2, shape[0], 1, 1, 1))
  arguments = (x, jnp.float32(1.3), z[0], z[1])

  def analytic(x, range_, z4, z8):
    return bayesian_bits.nested_quantize(x, range_, (z4, z8), False)

  return (
    f"gated quantizer {text(shape)}: analytic | autodiff",
    with_gradients(analytic, *arguments),
    with_gradients(plain_nested, *arguments),
  )


def depthwise_pair(shape, stride):
  x = jax.random.normal(jax.random.key(0), shape)
  kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, shape[-1]))

  def ours(x, kernel):
    return ops.depthwise(x, kernel, stride, 1)

  return (
    f"depthwise 3x3 {text(shape)} /{stride}: fbq.ops | lax grouped",
    with_gradients(ours, x, kernel),
    with_gradients(lambda x, k: grouped(stride, x, k), x, kernel),
  )


def sum_pair(shape):
  """Three sums of one expression, as the backward pass of a quantizer needs."""
  x = jax.random.normal(jax.random.key(0), shape)
  small = (shape[0], 1, 1, 1)

  def three(total):
    def sums(x):
      y = jnp.round(jnp.clip(x, 0.0, 1.0) * 15.0)
      return total(y * x), total(y - x), total(y * (y - x))

    return sums

  def plain(v):
    return jnp.sum(v, (1, 2, 3), keepdims=True)

  return (
    f"3 sums per image of {text(shape)}: sum_to | jnp.sum",
    Program(three(lambda v: uniform.sum_to(v, small)), x),
    Program(three(plain), x),
  )


def text(shape) -> str:
  return "x".join(map(str, shape))


def micro_table(rounds) -> Table:
  table = new_table("Choices: ours | the other")
  for column in ("ms", "other / ours", "CPU ns/element", "other / ours"):
    table.add_column(column, justify="right")
  pairs = [
    ((BATCH, 32, 32, 16), quantizer_pair((BATCH, 32, 32, 16))),
    ((BATCH, 4, 4, 128), quantizer_pair((BATCH, 4, 4, 128))),
    ((BATCH, 32, 32, 8), depthwise_pair((BATCH, 32, 32, 8), 1)),
    ((BATCH, 16, 16, 32), depthwise_pair((BATCH, 16, 16, 32), 2)),
    ((BATCH, 2, 2, 256), depthwise_pair((BATCH, 2, 2, 256), 1)),
    ((BATCH, 32, 32, 16), sum_pair((BATCH, 32, 32, 16))),
  ]
  interleave([p for _, (_, *both) in pairs for p in both], rounds)
  for shape, (name, ours, other) in pairs:
    (wall, cpu), (other_wall, other_cpu) = ours.milliseconds, other.milliseconds
    wall_ratio, cpu_ratio = other.over(ours)
    scale = 1e6 / np.prod(shape)
    table.add_row(
      name,
      f"{wall:.2f} | {other_wall:.2f}",
      f"{wall_ratio:.1f}",
      f"{scale * cpu:.1f} | {scale * other_cpu:.1f}",
      f"{cpu_ratio:.1f}",
    )
  return table
