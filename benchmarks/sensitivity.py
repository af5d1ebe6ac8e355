"""Cost of training-free sensitivities, in forward passes.

    python -m benchmarks.sensitivity

MobileNetV1 0.25 at 32x32 with random weights, 512 images. A forward pass is one
of the network at 8 bits over all images, by the same compiled function; passes
are timed before and after, and the median counts.
"""

import time

import jax
import numpy as np
from rich.console import Console

from benchmarks.steps import NETS
from benchmarks.timing import machine, new_table
from fbq import nets, precision
from fbq.model import Model
from fbq.quantizers.site_ranges import (
  FLOAT_BITS,
  site_ranges,
  squared_errors,
)
from fbq.schemes.fixed import Fixed
from fbq.schemes.perturbed import Perturbed
from fbq.search import hessian
from fbq.search.judge import Judge
from fbq.search.sensitivity import sensitivities

IMAGES = 512
PROBES = 8


def main():
  net = nets.build(**NETS["MobileNetV1 0.25"])
  images = np.asarray(
    jax.random.uniform(jax.random.key(0), (IMAGES, *net.input_shape))
  )
  labels = np.asarray(jax.random.randint(jax.random.key(1), (IMAGES,), 0, 10))
  model = Model(net)
  variables = jax.jit(lambda k: model.init(k, images[:2], False))(
    jax.random.key(2, impl="rbg")
  )
  variables = {k: variables[k] for k in ("params", "batch_stats")}
  traces = 0

  def forward(variables, images, bits):
    nonlocal traces
    traces += 1
    return Model(net, Fixed()).apply(variables, images, False, bits)

  start = time.perf_counter()
  logits, seen = jax.jit(
    lambda v, x: model.apply(v, x, False, mutable=["intermediates"])
  )(variables, images)
  tensors = {
    site: np.asarray(seen["intermediates"][site.removesuffix(".out")][0])
    for site in net.is_signed
    if site != "input.out"
  }
  ranges = site_ranges(net, variables["params"], tensors)
  errors = squared_errors(net, variables["params"], tensors, ranges)
  calibration = time.perf_counter() - start

  compiled = jax.jit(forward)
  judge = Judge(net, compiled, variables, ranges, images, labels)
  uniform = precision.uniform(net, 8)
  start = time.perf_counter()
  judge.logits(uniform)
  compile_seconds = time.perf_counter() - start

  def timed(function):
    start = time.perf_counter(), time.process_time()
    result = function()
    return result, (
      time.perf_counter() - start[0],
      time.process_time() - start[1],
    )

  passes = [timed(lambda: judge.logits(uniform))[1] for _ in range(10)]
  table = new_table(f"MobileNetV1 0.25, 32x32, {IMAGES} images")
  for column in ("s", "passes", "CPU s", "passes", "evaluations", "traces"):
    table.add_column(column, justify="right")
  rows = {}
  for others in (8, FLOAT_BITS):
    found, spent = timed(lambda o=others: sensitivities(judge, o))
    rows[f"others at {others} bits"] = spent, found.passes, traces
  passes += [timed(lambda: judge.logits(uniform))[1] for _ in range(10)]
  step = jax.jit(
    lambda v, x, added: Model(net, Perturbed()).apply(v, x, False, added)
  )
  run = lambda probes: hessian.network_traces(
    net, step, variables, judge.batches(), jax.random.key(3), probes
  )
  _, few = timed(lambda: run(2))
  _, more = timed(lambda: run(2 + PROBES))  # each call compiles once
  one = np.median(passes, axis=0)
  probe = np.subtract(more, few) / PROBES
  rows["a probe of all Hessian traces"] = probe, "", 1
  rows["their compilation"] = np.subtract(few, 2 * probe), "", 1
  rows["a forward pass"] = one, 1, ""
  for name, (spent, count, compiled_times) in rows.items():
    ratio = np.divide(spent, one)
    table.add_row(
      name,
      f"{spent[0]:.2f}",
      f"{ratio[0]:.1f}",
      f"{spent[1]:.2f}",
      f"{ratio[1]:.1f}",
      str(count),
      str(compiled_times),
    )
  console = Console(width=120)
  console.print(machine())
  console.print(table)
  console.print(
    f"calibration of ranges and errors {calibration:.1f} s, first pass with "
    f"compilation {compile_seconds:.1f} s; Omega of "
    f"{len(errors)} sites"
  )
  for bits in (16, FLOAT_BITS):
    every = dict.fromkeys(net.workload.sites, bits)
    wide = {s: {bits: r[FLOAT_BITS]} for s, r in ranges.items()}
    other = Judge(net, compiled, variables, wide, images, labels)
    error = np.abs(other.logits(every) - logits).max() / np.abs(logits).max()
    console.print(
      f"all at {bits} bits against float: {error:.1e} of the largest"
    )


if __name__ == "__main__":
  main()
