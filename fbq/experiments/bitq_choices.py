"""What a BitQ experiment chooses: uniform formats, fronts, ablations."""

import dataclasses
import math
from fractions import Fraction

import numpy as np

from fbq import block_formats
from fbq.experiments.bfp_baselines import Candidate, of_formats
from fbq.experiments.bitq_losses import ByFormat
from fbq.experiments.bitq_settings import Word
from fbq.nets.graph import Net
from fbq.search import bitq, pareto_sets
from hwsim.bfp.table import MovementTable

_NO_TRADE_OFF = 1e-9  # alpha that only decides between equal losses


def uniform(net: Net, word: Word) -> list[Candidate]:
  """Uniform formats with blocks of 16 or so: all SE, the ends of long words."""
  sizes = sorted({f.block_size for f in word.grid})
  size = min(sizes, key=lambda s: abs(s - 16))
  same = sorted(f for f in word.grid if f.block_size == size)
  if word.bits > 8 and len(same) > 2:
    same = [same[0], same[-1]]
  return [
    of_formats(
      net,
      f"{word.name} uniform <{f.exponent_bits}, {f.block_size}>",
      "uniform",
      word.bits,
      block_formats.uniform(net, f),
    )
    for f in same
  ]


def choice(net: Net, word: Word, lost: ByFormat) -> bitq.FormatChoice:
  """Eq. 1 for the formats of a word, from {site: {format: accuracy lost}}."""
  ours = {
    site: {f: by_format[f] for f in word.grid}
    for site, by_format in lost.items()
  }
  return bitq.make(net.workload, ours, word.table)


def front(
  of: bitq.FormatChoice, resolution: float
) -> tuple[list[tuple[float, float]], float]:
  """([(bits moved, loss)] of the front, cheapest first; its error as a share).

  The error is twice the resolution, or four times, where there is too much
  between two points for a finer one.

  Args:
    of: what may be chosen.
    resolution: share of the largest movement, more than 0.
  """
  while True:
    try:
      found = bitq.front(of, resolution)
    except pareto_sets.TooMany:
      resolution *= 2
    else:
      break
  moved = map(float, found.movement_bits)
  rows = list(zip(moved, found.loss.tolist(), strict=True))
  return rows, float(found.error_bits / of.table.bits(of.largest))


def ablations(
  net: Net,
  word: Word,
  trained: bitq.FormatChoice,
  lost_untrained: ByFormat,
  alpha: float,
) -> dict[str, Candidate]:
  """Candidates of table 4, by what eq. 1 goes without."""
  raw = choice(net, word, lost_untrained)
  bits = dataclasses.replace(trained, table=bits_alone(word.table), largest=0)
  bits = dataclasses.replace(
    bits,
    largest=int(
      bits.table.units.reshape(len(net.workload.layers), -1).max(1).sum()
    ),
  )
  found = {
    "without QAT": bitq.optima(raw, [alpha]),
    "without data movement": bitq.optima(bits, [alpha]),
    "without trade-off": bitq.optima(trained, [_NO_TRADE_OFF]),
  }
  return {
    name: of_formats(
      net, f"{word.name} {name}", "ablation", word.bits, one.formats[0]
    )
    for name, one in found.items()
  }


def bits_alone(table: MovementTable) -> MovementTable:
  """Bits per element of a layer's three tensors in place of their movement.

  Layers that move nothing count nothing.
  """

  def prices(formats, price):
    return [price(f) for f in formats]

  rows = []
  for layer, units in zip(table.layers, table.units, strict=True):
    area = layer.kernel_height * layer.kernel_width
    activation = prices(table.activations, lambda f: f.activation_bits)
    weight = prices(table.weights, lambda f, a=area: f.weight_bits(a))
    rows.append((units.any() and layer.has_weights, activation, weight))
  per_bit = math.lcm(
    *(Fraction(p).denominator for _, a, w in rows for p in (*a, *w))
  )
  units = np.zeros(table.units.shape, np.int64)
  for row, (counts, activation, weight) in zip(units, rows, strict=True):
    if counts:
      a = np.array([int(p * per_bit) for p in activation], np.int64)
      w = np.array([int(p * per_bit) for p in weight], np.int64)
      row[...] = a[:, None, None] + w[:, None] + a
  return dataclasses.replace(table, units=units, per_bit=per_bit)
