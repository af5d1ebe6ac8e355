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
import optax
from rich.console import Console
from rich.table import Table

from benchmarks.choices import micro_table
from benchmarks.timing import Program, interleave, machine, new_table
from fbq import nets, norms, ops
from fbq.model import Model
from fbq.quantizers import qat_rules
from fbq.schemes.bayesian_bits import BayesianBits
from fbq.schemes.block_float import BlockFloat
from fbq.schemes.fixed import Fixed
from fbq.schemes.fractional import Fractional
from fbq.schemes.free_bits import FreeBits
from fbq.schemes.groups import gate_groups
from fbq.schemes.mixture import Mixture

BATCH = 64
BYTES_MOVED = 20  # by a quantizer for each element, forward and backward
COPIED = 1 << 20  # elements read and written to measure the memory: a tensor
SEARCHED = ("params", "gates", "ranges")
# What is timed: scheme of the locked groups, and what it trains.
ROWS = {
  "float": (lambda groups: None, ("params",)),
  "fixed": (lambda groups: Fixed(), ("params", "ranges")),
  # Of "tqt" the optimizer alone differs from "fixed".
  "fixed, lsq": (lambda groups: Fixed(qat_rules.LSQ), ("params", "ranges")),
  "fixed, pact": (lambda groups: Fixed(qat_rules.PACT), ("params", "ranges")),
  "fixed, min_max": (lambda groups: Fixed(qat_rules.MIN_MAX), ("params",)),
  "fixed, norms folded": (lambda groups: Fixed(), ("params", "ranges")),
  "Free Bits": (FreeBits, ("params", "gates")),
  "Bayesian Bits": (BayesianBits, SEARCHED),
  "Bayesian Bits, pruning": (
    functools.partial(BayesianBits, prunes=True),
    SEARCHED,
  ),
  "mixture": (Mixture, SEARCHED),
  "fractional bits": (Fractional, SEARCHED),
  "block formats, 8 sizes": (lambda groups: BlockFloat(), ("params",)),
  "block formats, size 16": (lambda groups: BlockFloat((16,)), ("params",)),
}
# Search step / float step of published code, on CPUs (measured once, by hand).
PUBLISHED = {
  "fixed": "1.5-2.4",  # torchao, Brevitas
  "Free Bits": "4.9-6.2",
  "Bayesian Bits": "7-8",
  "Bayesian Bits, pruning": "7-8",
  "mixture": "4-4.8",  # PLiNIO
  "fractional bits": "1.26-1.30",  # HGQ2, the nearest relative
}
AIMS = {
  name: "<= 1.15" if name.startswith("fixed") else "<= 1.3" for name in ROWS
} | {"float": ""}
NORMS = {"fixed, norms folded": norms.CORRECT}
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


def step_program(net, scheme, kinds, norm=norms.ABSORB) -> Program:
  """A training step of `net` on random images, that trains some `kinds`."""
  model = Model(net, scheme, norm)
  images = jax.random.uniform(jax.random.key(0), (BATCH, *net.input_shape))
  labels = jax.random.randint(jax.random.key(1), (BATCH,), 0, 10)
  inputs = {}
  if scheme is not None:
    run = {
      "bits": jnp.full(len(net.workload.sites), 4, jnp.int32),
      "temperature": jnp.float32([1.0, 0.1]),
      "temperature_steps": jnp.int32(100),
      "formats": jnp.tile(jnp.int32([5, 3, 16]), (len(net.workload.sites), 1)),
      "tops": jnp.zeros(len(net.workload.sites), jnp.int32),
    }
    inputs["data"] = scheme.data(run, jnp.int32(0))
    inputs["noise"] = scheme.noise(jax.random.key(2), BATCH)
  if norm == norms.CORRECT:
    inputs["frozen"] = jnp.bool_(False)
  variables = dict(model.init(jax.random.key(3), images, False, **inputs))
  optimizer = optax.adam(1e-3)
  trained = {kind: variables[kind] for kind in kinds}

  def step(variables, opt_state, images, labels, inputs):
    def loss_of(trained):
      logits, updates = model.apply(
        jax.lax.stop_gradient(variables) | trained,
        images,
        True,
        mutable=["batch_stats", "averages"],
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
  columns = ("ms", "/ float", "aim", "elsewhere", "CPU ms", "/ float", "traces")
  for column in (*columns, "compile s"):
    table.add_column(column, justify="right")
  copy = Program(jnp.negative, jnp.ones(COPIED))
  for name, settings in NETS.items():
    net = nets.build(**settings)
    groups = gate_groups(net, locked=True)
    programs = {
      row: step_program(
        net, scheme(groups), kinds, NORMS.get(row, norms.ABSORB)
      )
      for row, (scheme, kinds) in ROWS.items()
    }
    if name.startswith("MobileNet") and jax.default_backend() == "cpu":
      with inlined():
        programs["Free Bits, depthwise inlined"] = step_program(
          net, FreeBits(groups), ("params", "gates")
        )
    interleave([*programs.values(), copy], rounds)
    for row, program in programs.items():
      wall, cpu = program.milliseconds
      wall_ratio, cpu_ratio = program.over(programs["float"])
      table.add_row(
        f"{name}: {row}",
        f"{wall:.1f}",
        f"{wall_ratio:.2f}",
        AIMS.get(row, ""),
        PUBLISHED.get(row, ""),
        f"{cpu:.1f}",
        f"{cpu_ratio:.2f}",
        f"{program.traces}",
        f"{program.compile_seconds:.1f}",
      )
    floor = 1.0 + floor_milliseconds(net, copy) / programs["float"].milliseconds
    table.add_row(
      f"{name}: floor, {BYTES_MOVED} B per element",
      "",
      f"{floor[0]:.2f}",
      *("", "", ""),
      f"{floor[1]:.2f}",
    )
    copy.seconds.clear()
  return table


def floor_milliseconds(net, copy):
  """[wall, CPU] of moving what quantizers must, if they fuse with nothing.

  Forward they read a tensor and write it, backward they read it and its
  gradient and write another.
  """
  elements = net.workload.weight_count + BATCH * sum(
    net.shapes[name][0] * net.shapes[name][1] * net.shapes[name][2]
    for name, site in net.site_of.items()
    if site is not None
  )
  return copy.milliseconds * (BYTES_MOVED * elements) / (8 * COPIED)


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
