"""Cost of calibration, in float forward passes over the same images.

    python -m benchmarks.calibration

MobileNetV1 0.25 at 32x32 with random weights, batches of 32 images. One pass
counts every tensor on the device; ranges come from the counts, for any number
of bit-widths, forms and granularities. Timed in turn; CPU time is what to
compare on a busy machine.
"""

import functools
import time

import jax
import numpy as np
from rich.console import Console

from benchmarks.steps import NETS
from benchmarks.timing import machine, new_table
from fbq import nets
from fbq.model import Model
from fbq.ptq import calibration, folding
from fbq.ptq.recipes import Recipe, grids
from fbq.quantizers import histograms

IMAGES, BATCH, ROUNDS = 1024, 32, 5
BITS = (2, 3, 4, 5, 6, 7, 8)


def main():
  net = nets.build(**NETS["MobileNetV1 0.25"])
  images = jax.random.uniform(jax.random.key(0), (IMAGES, *net.input_shape))
  model = Model(net)
  variables = jax.jit(lambda k: model.init(k, images[:2], False))(
    jax.random.key(2, impl="rbg")
  )
  net, variables = folding.fold(net, variables)
  batches = [images[i : i + BATCH] for i in range(0, IMAGES, BATCH)]
  observe = calibration.observer(net)
  folded = Model(net)
  forward = jax.jit(lambda v, x: folded.apply(v, x, False))
  calibrate = functools.partial(
    calibration.calibrate, observe, variables, batches
  )
  found = calibrate()

  def ranges(rule):
    for bits in BITS:
      if rule != "kullback_leibler" or bits > 2:
        recipe = Recipe(None, bits, activation_rule=rule)
        grids(net, variables["params"], found, recipe)

  cases = {
    "float forward": lambda: [
      jax.block_until_ready(forward(variables, x)) for x in batches
    ],
    "counting": lambda: [
      jax.block_until_ready(observe(variables, x)) for x in batches
    ],
    "counting, merged": calibrate,
    "ranges by min/max": lambda: ranges("min_max"),
    "ranges by least squares": lambda: ranges("least_squares"),
    "ranges by divergence": lambda: ranges("kullback_leibler"),
  }
  spent = {name: [] for name in cases}
  for _ in range(ROUNDS + 1):
    for name, run in cases.items():
      start = time.perf_counter(), time.process_time()
      run()
      end = time.perf_counter(), time.process_time()
      spent[name].append(np.subtract(end, start))
  table = new_table(
    f"MobileNetV1 0.25, 32x32, {IMAGES} images; ranges of all activations at "
    f"{len(BITS)} bit-widths; bins {histograms.BINS} of either sign"
  )
  for column in ("wall s", "CPU s", "CPU, float passes"):
    table.add_column(column, justify="right")
  one = np.array(spent["float forward"][1:])
  for name, seconds in spent.items():
    rows = np.array(seconds[1:])
    ratio = np.median(rows[:, 1] / one[:, 1])
    wall, cpu = np.median(rows, axis=0)
    table.add_row(name, f"{wall:.3f}", f"{cpu:.3f}", f"{ratio:.2f}")
  console = Console(width=120)
  console.print(machine())
  console.print(table)


if __name__ == "__main__":
  main()
