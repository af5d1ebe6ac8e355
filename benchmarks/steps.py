"""Speed of training steps, and of the choices made to speed them up.

    python -m benchmarks.steps [--quick]

Steps are forward, backward, Adam and batch statistics, on one net and batch.
Programs are timed in turn, one call each, round after round, so that what else
runs on the machine weighs on all alike. Rows give medians; a ratio is the
median of the ratios within a round. CPU time, over all threads of the process,
is what to compare on a busy machine; on a GPU it is the host's.

The step of Free Bits does not train the ranges, as the authors keep them fixed,
so their gradient is stopped; all others train them.
"""

import argparse
import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

from benchmarks.timing import Program, interleave, machine, new_table
from fbq import nets, ops
from fbq.model import Model
from fbq.quantizers import bayesian_bits, uniform
from fbq.schemes.bayesian_bits import BayesianBits
from fbq.schemes.fixed import Fixed
from fbq.schemes.fractional import Fractional
from fbq.schemes.free_bits import FreeBits
from fbq.schemes.groups import gate_groups
from fbq.schemes.mixture import Mixture

BATCH = 64
SEARCHED = ("params", "gates", "ranges")
# What is timed: scheme of the locked groups, and what it trains.
ROWS = {
  "float": (lambda groups: None, ("params",)),
  "fixed": (lambda groups: Fixed(), ("params", "ranges")),
  "Free Bits": (FreeBits, ("params", "gates")),
  "Bayesian Bits": (BayesianBits, SEARCHED),
  "Bayesian Bits, pruning": (
    functools.partial(BayesianBits, prunes=True),
    SEARCHED,
  ),
  "mixture": (Mixture, SEARCHED),
  "fractional bits": (Fractional, SEARCHED),
}
AIMS = {name: "<= 1.3" for name in ROWS} | {"float": "", "fixed": "<= 1.15"}
NETS = {
  "MobileNetV1 0.25": dict(
    builder="mobilenet_v1",
    width=0.25,
    resolution=32,
    classes=10,
    in_channels=1,
    stem_stride=1,
  ),
  "ResNet-8": dict(builder="resnet8", in_channels=1),
}


def step_program(net, scheme, kinds) -> Program:
  """A training step of `net` on random images, that trains some `kinds`."""
  model = Model(net, scheme)
  images = jax.random.uniform(jax.random.key(0), (BATCH, *net.input_shape))
  labels = jax.random.randint(jax.random.key(1), (BATCH,), 0, 10)
  inputs = {}
  if scheme is not None:
    run = {
      "bits": jnp.full(len(net.workload.sites), 4, jnp.int32),
      "temperature": jnp.float32([1.0, 0.1]),
      "temperature_steps": jnp.int32(100),
    }
    inputs["data"] = scheme.data(run, jnp.int32(0))
    inputs["noise"] = scheme.noise(jax.random.key(2), BATCH)
  variables = dict(model.init(jax.random.key(3), images, False, **inputs))
  optimizer = optax.adam(1e-3)
  trained = {kind: variables[kind] for kind in kinds}

  def step(variables, opt_state, images, labels, inputs):
    def loss_of(trained):
      logits, updates = model.apply(
        jax.lax.stop_gradient(variables) | trained,
        images,
        True,
        mutable=["batch_stats"],
        **inputs,
      )
      loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
      return loss.mean(), updates

    values = {kind: variables[kind] for kind in kinds}
    (loss, stats), gradients = jax.value_and_grad(loss_of, has_aux=True)(values)
    updates, opt_state = optimizer.update(gradients, opt_state, values)
    values = optax.apply_updates(values, updates)
    return variables | stats | values, opt_state, loss

  return Program(
    step, variables, optimizer.init(trained), images, labels, inputs
  )


@contextlib.contextmanager
def inlined():
  """Within, depthwise convolutions are compiled with what surrounds them."""
  names = ("_correlate", "_kernel_gradient", "_input_gradient")
  alone = {name: getattr(ops, name) for name in names}
  for name in names:
    setattr(ops, name, alone[name].__wrapped__)
  try:
    yield
  finally:
    for name in names:
      setattr(ops, name, alone[name])


def steps_table(rounds) -> Table:
  table = new_table("Training steps, batch 64, 32x32x1")
  columns = ("ms", "/ float", "aim", "CPU ms", "/ float", "traces", "compile s")
  for column in columns:
    table.add_column(column, justify="right")
  for name, settings in NETS.items():
    net = nets.build(**settings)
    groups = gate_groups(net, locked=True)
    programs = {
      row: step_program(net, scheme(groups), kinds)
      for row, (scheme, kinds) in ROWS.items()
    }
    if name.startswith("MobileNet") and jax.default_backend() == "cpu":
      with inlined():
        programs["Free Bits, depthwise inlined"] = step_program(
          net, FreeBits(groups), ("params", "gates")
        )
    interleave(programs.values(), rounds)
    for row, program in programs.items():
      wall, cpu = program.milliseconds
      wall_ratio, cpu_ratio = program.over(programs["float"])
      table.add_row(
        f"{name}: {row}",
        f"{wall:.1f}",
        f"{wall_ratio:.2f}",
        AIMS.get(row, ""),
        f"{cpu:.1f}",
        f"{cpu_ratio:.2f}",
        f"{program.traces}",
        f"{program.compile_seconds:.1f}",
      )
  return table


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


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--quick", action="store_true", help="few repetitions")
  arguments = parser.parse_args()
  rounds = 5 if arguments.quick else 30
  console = Console(width=120)
  console.print(machine())
  console.print(steps_table(rounds))
  console.print(micro_table(rounds * 2))
  console.print(machine())


if __name__ == "__main__":
  main()
