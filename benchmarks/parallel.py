"""What spreading a step over devices costs, and what it brings on a GPU.

    python -m benchmarks.parallel [--quick]

Whole training steps, images drawn in them, as experiments make them. First on
one device: the step on a mesh of one against the plain one. Programs are run in
turn and timed by the round, states donated; the ratio is the median of the
ratios within a round. Weak scaling over virtual CPU devices says nothing about
speed, so there is none.

On a GPU also images per second of MobileNetV1-0.75-224, and search points
trained as one program against one after the other.
"""

import argparse
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from benchmarks.timing import machine, new_table
from fbq import nets
from fbq.data import canvas, digits
from fbq.model import Model
from fbq.schemes.fixed import Fixed
from fbq.schemes.free_bits import FreeBits
from fbq.schemes.groups import gate_groups
from fbq.train import optimizer, parallel, points, regularizers, steps

SMALL = dict(
  builder="mobilenet_v1",
  width=0.25,
  resolution=32,
  classes=10,
  in_channels=1,
  stem_stride=1,
)
LARGE = dict(builder="mobilenet_v1", width=0.75, resolution=224)
STEPS = 10  # of a timed round


class Training:
  """A training step that is run again and again on its own state.

  Attributes:
    seconds: of one step, of every timed round.
    program: the compiled step.
  """

  def __init__(self, program, state, run):
    self.program, self._state, self._run = program, state, run
    self.seconds = []
    self._repeat(2)  # compiles

  def _repeat(self, count):
    for _ in range(count):
      self._state, _ = self.program(self._state, self._run)
    jax.block_until_ready(self._state)

  def time(self):
    start = time.perf_counter()
    self._repeat(STEPS)
    self.seconds.append((time.perf_counter() - start) / STEPS)

  def over(self, other: "Training") -> float:
    """Median ratio to `other` within a round."""
    return float(np.median(np.divide(self.seconds, other.seconds)))

  @property
  def median(self) -> float:
    return float(np.median(self.seconds))


def kind_of(net, name):
  """(model, trained kinds, regularizer) of a row."""
  if name == "float":
    return Model(net), ("params",), None
  if name == "fixed":
    return Model(net, Fixed()), ("params", "ranges"), None
  scheme = FreeBits(gate_groups(net, True))
  cost = regularizers.bops_regularizer(net.workload, scheme.groups)
  return Model(net, scheme), ("params", "gates"), cost


def prepared(net, name, batch, mesh, compute_dtype="float32"):
  """(compiled step, function that makes a state, data of a run)."""
  model, kinds, cost = kind_of(net, name)
  model = model.clone(compute_dtype=compute_dtype)
  updates = optimizer.make(1000, 0.01, gate_learning_rate=0.01)
  height, _, channels = net.input_shape
  if channels == 1:
    source = digits.load(0, 0.2)
    draw = functools.partial(
      digits.train_batch,
      digits=source,
      batch_size=batch,
      resolution=height,
      difficulty=canvas.Difficulty(),
    )
  else:
    classes = net.shapes[net.nodes[-1].name][2]

    def draw(key):
      images = jax.random.uniform(key, (batch, *net.input_shape))
      return images, jax.random.randint(key, (batch,), 0, classes)

  step = steps.train_step(model, updates, kinds, draw, cost, mesh=mesh)
  run = {
    "key": jax.random.key(0),
    "strength": jnp.float32(1e-3),
    "bits": jnp.full(len(net.workload.sites), 4, jnp.int32),
  }
  start = steps.complete(model, _initial(net), run["bits"])
  return step, lambda: steps.initial_state(start, kinds, updates), run


@functools.cache
def _initial(net):
  """Variables in float: compiling what draws them takes longer than a row."""
  images = jnp.zeros((1, *net.input_shape))
  draw = jax.jit(lambda key: Model(net).init(key, images, False))
  return dict(draw(jax.random.key(0)))


def training(net, name, batch, mesh):
  step, start, run = prepared(net, name, batch, mesh)
  if mesh is None:
    return Training(step, start(), run)
  place = parallel.everywhere(mesh)
  return Training(step, *parallel.put((start(), run), place))


def interleave(trainings, rounds):
  for _ in range(rounds):
    for each in trainings:
      each.time()


def overhead_table(rounds):
  table = new_table("A step on a mesh of one device, batch 64, 32x32x1")
  for column in ("plain ms", "mesh ms", "mesh / plain", "aim", "programs"):
    table.add_column(column, justify="right")
  net, mesh = nets.build(**SMALL), parallel.mesh_of(1)
  for name in ("float", "Free Bits"):
    plain, placed = (training(net, name, 64, m) for m in (None, mesh))
    interleave([plain, placed], rounds)
    table.add_row(
      f"MobileNetV1 0.25: {name}",
      f"{1e3 * plain.median:.1f}",
      f"{1e3 * placed.median:.1f}",
      f"{placed.over(plain):.3f}",
      "<= 1.05",
      f"{placed.program._cache_size()}",
    )
  return table


def images_table(rounds, batch):
  table = new_table(f"MobileNetV1 0.75, 224x224x3, batch {batch}, float32")
  for column in ("images/s", "of float", "aim"):
    table.add_column(column, justify="right")
  net = nets.build(**LARGE)
  mesh = parallel.mesh_of(batch)
  rows = {
    n: training(net, n, batch, mesh) for n in ("float", "fixed", "search")
  }
  interleave(rows.values(), rounds)
  for name, each in rows.items():
    table.add_row(
      name,
      f"{batch / each.median:,.0f}",
      f"{1 / each.over(rows['float']):.2f}",
      ">= 0.8" if name == "search" else "",
    )
  return table


def points_table(rounds):
  table = new_table("Search points as one program, batch 64, 32x32x1")
  for column in ("together ms", "in turn ms", "in turn / together"):
    table.add_column(column, justify="right")
  step, start, run = prepared(nets.build(**SMALL), "search", 64, None)
  alone = Training(step, start(), run)
  for count in (1, 4, 16):
    mesh = parallel.mesh_of(64, count)
    together = Training(
      points.points_step(step, mesh, count),
      points.stack([start()] * count, mesh),
      points.stack([run] * count, mesh),
    )
    alone.seconds.clear()
    interleave([alone, together], rounds)
    table.add_row(
      f"{count} points",
      f"{1e3 * together.median:.1f}",
      f"{1e3 * count * alone.median:.1f}",
      f"{count / together.over(alone):.2f}",
    )
  return table


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--quick", action="store_true", help="few repetitions")
  rounds = 5 if parser.parse_args().quick else 20
  console = Console(width=120)
  console.print(machine())
  console.print(overhead_table(rounds))
  if jax.default_backend() == "cpu":
    console.print("no GPU here: images per second and points were not measured")
    return
  console.print(images_table(rounds, 256))
  console.print(points_table(rounds))


if __name__ == "__main__":
  main()
