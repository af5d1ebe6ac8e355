"""Speed of block floating point, forward and backward.

    python -m benchmarks.bfp [--quick]

Nanoseconds of processor time for each element, over all threads of the process,
so for one core; programs are timed in turn as in `benchmarks.steps`. A pass is
the doubling of every element in memory, the least that any operation takes.
Aim: 1.5 ns forward and backward at block 16. The references in PyTorch took 11
ns forward (microxcaling) and 64 to 84 forward and backward (the code of BitQ)
on one core of a machine of this kind (docs/facts/bitq.md).
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.choices import text
from benchmarks.timing import Program, interleave, machine, new_table
from fbq.quantizers import bfp, minifloat

SHAPES = ((64, 16, 16, 64), (64, 32, 32, 32))


def by_automatic_differentiation(x, bits, top):
  """The formula at block 16, the gradient by `stop_gradient`."""
  blocks = x.reshape(*x.shape[:-1], -1, 16)
  largest = jnp.abs(blocks).max(-1, keepdims=True)
  exponent = jnp.minimum(jnp.floor(jnp.log2(largest)), top)
  step = jnp.exp2(exponent - (bits - 2))
  high = jnp.exp2(jnp.float32(bits - 1)) - 1
  scaled = jnp.clip(blocks / step, -high, high)
  rounded = scaled + jax.lax.stop_gradient(jnp.round(scaled) - scaled)
  return (rounded * step).reshape(x.shape)


def programs(shape) -> dict[str, tuple[Program, Program]]:
  """Of each quantizer, forward, and forward and backward."""
  x = jax.random.normal(jax.random.key(0), shape)
  bits, top = jnp.int32(8), jnp.int32(1)
  integers = np.int32(8), np.int32(4)
  key, fast_key = jax.random.key(1), jax.random.key(1, impl="rbg")

  def static(size, rounding="nearest", key=None):
    def quantize(x, bits, exponent_bits):
      format_ = bfp.Format(bits, exponent_bits, size)
      return bfp.quantize(x, format_, top=1, rounding=rounding, key=key)

    return quantize, x, *integers

  def data(x, format_):
    return bfp.quantize(x, format_, top=1)

  def small_float(x, exponent_bits, mantissa_bits):
    format_ = minifloat.Minifloat(exponent_bits, mantissa_bits)
    tile = (1, 1, 1, 16)
    return minifloat.quantize(x, format_, tile, "nearest")

  functions = {
    "a pass": (lambda x: 2 * x, x),
    "block 16 compiled": static(16),
    "block 16 compiled, stochastic": static(16, "stochastic", key),
    "block 16 compiled, stochastic by rbg": static(16, "stochastic", fast_key),
    "block 16 by log2 and autodiff": (
      by_automatic_differentiation,
      x,
      bits,
      top,
    ),
    "block minifloat, block 16": (small_float, x, np.int32(2), np.int32(5)),
  }
  for size in (1, 2, 16, 24, 48):
    format_ = bfp.Format(*integers, np.int32(size))
    functions[f"block {size} as data"] = (data, x, format_)
  return {name: both_ways(*f) for name, f in functions.items()}


def both_ways(function, x, *others) -> tuple[Program, Program]:
  def backward_too(g, x, *others):
    y, vjp = jax.vjp(lambda x: function(x, *others), x)
    return y, vjp(g)

  g = jax.random.normal(jax.random.key(9), x.shape)
  return Program(function, x, *others), Program(backward_too, g, x, *others)


def table_of(shape, rounds) -> Table:
  table = new_table(f"Block floating point of {text(shape)}")
  for column in (
    "forward ns",
    "passes",
    "and backward ns",
    "passes",
    "aim ns",
    "compile s",
  ):
    table.add_column(column, justify="right")
  pairs = programs(shape)
  interleave([p for pair in pairs.values() for p in pair], rounds)
  unit = pairs["a pass"][0]
  scale = 1e6 / np.prod(shape)
  for name, pair in pairs.items():
    cells = []
    for program in pair:
      cells.append(f"{scale * program.milliseconds[1]:.2f}")
      cells.append(f"{program.over(unit)[1]:.1f}")
    is_aimed_at = name in ("block 16 compiled", "block 16 as data")
    aim = "<= 1.5" if is_aimed_at else ""
    table.add_row(name, *cells, aim, f"{pair[1].compile_seconds:.2f}")
  return table


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--quick", action="store_true", help="few repetitions")
  rounds = 10 if parser.parse_args().quick else 60
  console = Console(width=120)
  console.print(machine())
  for shape in SHAPES:
    console.print(table_of(shape, rounds))
  console.print(machine())


if __name__ == "__main__":
  main()
