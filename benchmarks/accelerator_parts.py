"""The parts of `benchmarks/accelerator.py`: each prints a line of JSON.

  python -m benchmarks.accelerator_parts PART DIRECTORY [--tiny]

machine     backend, device, versions, day
images      MobileNetV1-0.75-224, batch 256: images/s of training steps
peer        the float rows of images in PyTorch, where there is one
depthwise   depthwise 3x3, forward and backward, over the time that moving
            their tensors takes
points      searches of MobileNetV1-0.25 at 32x32 as one program
golden      largest deviation from the golden numbers, of their largest
hwsim       latency tables and networks scored a second
cifar       a whole run of `benchmarks/cifar_form.py`, programs not compiled
            before; "cifar again" in another workdir, programs kept
digits      the digits demo, programs not compiled before
"""

import argparse
import datetime
import functools
import itertools
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks import accelerator_golden, accelerator_runs

TINY = dict(builder="tests.configs.tiny:separable", channels=4)


def machine(directory, tiny):
  del directory, tiny
  import jax

  return {
    "backend": jax.default_backend(),
    "device": jax.devices()[0].device_kind,
    "versions": f"jax {jax.__version__}, Python {sys.version.split()[0]}",
    "date": datetime.date.today().isoformat(),
  }


def images(directory, tiny):
  del directory
  from benchmarks import parallel
  from fbq import nets

  batch = 8 if tiny else 256
  net = nets.build(**(TINY if tiny else parallel.LARGE))
  rows = [
    (name, dtype)
    for dtype in ("float32", "bfloat16")
    for name in ("float", "fixed", "search")
  ]

  # Compiled side by side: on a GPU a program takes about a minute.
  made = [parallel.prepared(net, n, batch, None, dtype) for n, dtype in rows]
  with ThreadPoolExecutor(len(made)) as pool:
    programs = pool.map(lambda m: m[0].lower(m[1](), m[2]).compile(), made)
    programs = list(programs)
  found = {}
  for (name, dtype), program, (_, start, run) in zip(
    rows, programs, made, strict=True
  ):
    training = parallel.Training(program, start(), run)
    for _ in range(1 if tiny else 5):
      training.time()
    rate = batch / training.median
    found[f"{name}, {dtype}: images/s"] = rate
    if name != "float":
      of_float = rate / found[f"float, {dtype}: images/s"]
      found[f"{name}, {dtype}: of float"] = of_float
  return found


def peer(directory, tiny):
  del directory
  from benchmarks import accelerator_peer

  return {
    f"torch, {dtype}: images/s": accelerator_peer.images_per_second(dtype, tiny)
    for dtype in ("bfloat16", "float32")
  }


def depthwise(directory, tiny):
  """Times over those of a copy that moves as many bytes."""
  del directory
  import jax
  import jax.numpy as jnp
  from jax import lax

  from fbq import ops

  def library(x, kernel, stride):
    return lax.conv_general_dilated(
      *(x, kernel, (stride, stride), ((1, 1), (1, 1))),
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      feature_group_count=x.shape[-1],
    )

  def own(x, kernel, stride):
    return ops.depthwise(x, kernel, stride, 1)

  def compiled(row):
    """(forward, backward, their arguments) of a row."""
    form, dtype, (channels, side), stride = row
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (batch, side, side, channels), dtype)
    kernel = jax.random.normal(keys[1], (3, 3, 1, channels), dtype)
    out = (batch, side // stride, side // stride, channels)
    given = x, kernel, jax.random.normal(keys[2], out, dtype)
    forward = functools.partial(form, stride=stride)
    backward = lambda x, k, g: jax.vjp(forward, x, k)[1](g)  # noqa: E731
    return (
      jax.jit(forward).lower(*given[:2]).compile(),
      jax.jit(backward).lower(*given).compile(),
      given,
    )

  batch, sizes = (2, ((8, 16),)) if tiny else (256, ((48, 112), (192, 28)))
  rows = list(
    itertools.product(
      (library, own), (jnp.float32, jnp.bfloat16), sizes, (1, 2)
    )
  )
  with ThreadPoolExecutor(16) as pool:
    programs = dict(zip(rows, pool.map(compiled, rows), strict=True))
  found, moved = {}, {}
  for dtype in (jnp.float32, jnp.bfloat16):
    copied = jnp.ones(1 << (16 if tiny else 28), dtype)
    moved[dtype] = 2 * copied.nbytes / _seconds(jax.jit(jnp.negative), copied)
    found[f"copy, {copied.dtype}: GB/s"] = moved[dtype] / 1e9
  for row in rows:
    form, dtype, (channels, side), stride = row
    forward, backward, (x, kernel, g) = programs[row]
    name = f"c{channels} h{side} s{stride}, {x.dtype}"
    # Forward reads and writes; backward reads both and writes one.
    ideal = (x.nbytes + g.nbytes) / moved[dtype]
    over = _seconds(forward, x, kernel) / ideal
    found[f"{name}: forward / floor, {form.__name__}"] = over
    ideal = (2 * x.nbytes + g.nbytes) / moved[dtype]
    over = _seconds(backward, x, kernel, g) / ideal
    found[f"{name}: backward / floor, {form.__name__}"] = over
    if form is own:
      theirs = programs[library, *row[1:]]
      found[f"{name}: deviation"] = max(
        float(jnp.abs(ours - their).max() / jnp.abs(their).max())
        for ours, their in zip(
          (forward(x, kernel), *backward(x, kernel, g)),
          (theirs[0](x, kernel), *theirs[1](x, kernel, g)),
          strict=True,
        )
      )
  return found


def _seconds(function, *arguments):
  """Median time of a call among others in flight."""
  import jax

  jax.block_until_ready(function(*arguments))
  times = []
  for _ in range(5):
    start = time.perf_counter()
    jax.block_until_ready([function(*arguments) for _ in range(10)])
    times.append((time.perf_counter() - start) / 10)
  return statistics.median(times)


def points(directory, tiny):
  del directory
  from benchmarks import parallel as bench
  from fbq import nets
  from fbq.train import parallel
  from fbq.train import points as points_lib

  batch = 4 if tiny else 64
  net = nets.build(**(TINY if tiny else bench.SMALL))
  step, start, run = bench.prepared(net, "search", batch, None)
  alone = bench.Training(step, start(), run)
  found = {}
  for count in (1, 2) if tiny else (1, 4, 16):
    mesh = parallel.mesh_of(batch, count)
    together = bench.Training(
      points_lib.points_step(step, mesh, count),
      points_lib.stack([start()] * count, mesh),
      points_lib.stack([run] * count, mesh),
    )
    alone.seconds.clear()
    bench.interleave([alone, together], 1 if tiny else 10)
    name = f"{count} points"
    found[f"{name}: ms of a step"] = 1e3 * together.median
    found[f"{name}: in turn / together"] = count / together.over(alone)
  return found


def hwsim(directory, tiny):
  del directory
  import numpy as np

  from benchmarks import hwsim as bench
  from hwsim.latency_table import encode, flat_costs
  from hwsim.pulp import XPULPNN_V1, latency_table, many

  net = bench.mobilenet_v1(*((0.25, 32, 10) if tiny else ()))
  table = latency_table(net, XPULPNN_V1)
  again = bench.seconds(lambda: latency_table(net, XPULPNN_V1), 20)
  bits = np.random.default_rng(0).choice(
    np.array((2, 4, 8), np.uint8),
    (1 << (10 if tiny else 21), len(net.free_sites)),
  )
  codes = encode(net, bits, net.free_sites)
  targets = 4 if tiny else 256
  constants = many.stack(bench.many_targets(targets))
  many.latency_tables(net, constants)  # compiles
  seconds = bench.seconds(lambda: many.latency_tables(net, constants))
  return {
    "seconds of 27 precisions on 1,000 targets": 1000 / targets * seconds,
    "latency tables/s, layers cached": 1 / again,
    "networks scored/s": bench.rate(flat_costs(table, net), codes),
  }


PARTS = {
  "machine": machine,
  "images": images,
  "peer": peer,
  "depthwise": depthwise,
  "points": points,
  "golden": accelerator_golden.golden,
  "hwsim": hwsim,
  "cifar": accelerator_runs.cifar,
  "cifar again": accelerator_runs.cifar_again,
  "digits": accelerator_runs.digits,
}


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("part", choices=PARTS)
  parser.add_argument("directory")
  parser.add_argument("--tiny", action="store_true")
  given = parser.parse_args()
  print(json.dumps(PARTS[given.part](given.directory, given.tiny)))


if __name__ == "__main__":
  main()
