"""Which formats a BitQ run tries: uniform ones, probes, fronts, ablations."""

import dataclasses
import math
from fractions import Fraction

import numpy as np

from fbq import block_formats
from fbq.experiments.bitq.config import Word
from fbq.files import write_atomically
from fbq.lab.lab import Lab
from fbq.nets.graph import Net
from fbq.schemes.published_formats import BlockCandidate, of_formats
from fbq.search import bitq, pareto_sets
from fbq.search.predicted_losses import ByFormat, kind_of
from hwsim.bfp import BlockFormat, MovementTable

_NO_TRADE_OFF = 1e-9  # alpha that only decides between equal losses


def uniform(net: Net, name: str, word: Word) -> list[BlockCandidate]:
  """Uniform formats with blocks of 16 or so: all SE, the ends of long words."""
  return [
    of_formats(
      net,
      f"{name} uniform {shown(f)}",
      "uniform",
      word.bits,
      block_formats.uniform(net, f),
    )
    for f in _uniform_formats(word)
  ]


def probes(net: Net, name: str, word: Word, kind: str) -> list[BlockCandidate]:
  """Networks that tell what noise in one kind of tensor costs after training.

  That kind has one of the two coarsest of the uniform formats, all else the
  finest.
  """
  fine, *others = sorted(_uniform_formats(word), key=lambda f: -f.element_bits)
  return [
    of_formats(
      net,
      f"{name} {kind} {shown(f)}",
      "uniform",
      word.bits,
      {s: f if kind_of(s) == kind else fine for s in net.workload.sites},
    )
    for f in others[-2:]
  ]


def _uniform_formats(word):
  sizes = sorted(word.block_sizes)
  size = min(sizes, key=lambda s: abs(s - 16))
  same = sorted(f for f in word.grid if f.block_size == size)
  if word.bits > 8 and len(same) > 2:
    same = [same[0], same[-1]]
  return same


def shown(format_: BlockFormat) -> str:
  """<SE, BS>, as the paper writes a format of a word."""
  return f"<{format_.exponent_bits}, {format_.block_size}>"


def choice(
  net: Net, word: Word, lost: ByFormat, table: MovementTable
) -> bitq.FormatChoice:
  """Eq. 1 for the formats of a word, from {site: {format: accuracy lost}}."""
  ours = {
    site: {f: by_format[f] for f in word.grid}
    for site, by_format in lost.items()
  }
  return bitq.make(net.workload, ours, table)


def front(
  of: bitq.FormatChoice, resolution: float
) -> tuple[tuple[tuple[float, float], ...], float]:
  """((bits moved, loss) of the front, cheapest first), its error as a share.

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
  points = tuple(zip(moved, found.loss.tolist(), strict=True))
  return points, float(found.error_bits / of.table.bits(of.largest))


def ablations(
  net: Net,
  name: str,
  word: Word,
  trained: bitq.FormatChoice,
  untrained: bitq.FormatChoice,
  alpha: float,
) -> dict[str, BlockCandidate]:
  """Candidates of table 4, by what eq. 1 goes without.

  Args:
    net: the network.
    name, word: word length.
    trained, untrained: choices by the losses after training and before.
    alpha: weight of movement.
  """
  table = bits_alone(trained.table)
  widest = table.units.reshape(len(table.layers), -1).max(1).sum()
  bits = dataclasses.replace(trained, table=table, largest=int(widest))
  found = {
    "without QAT": bitq.optima(untrained, [alpha]),
    "without data movement": bitq.optima(bits, [alpha]),
    "without trade-off": bitq.optima(trained, [_NO_TRADE_OFF]),
  }
  return {
    lacking: of_formats(
      net, f"{name} {lacking}", "ablation", word.bits, one.formats[0]
    )
    for lacking, one in found.items()
  }


def keep(lab: Lab, candidate: BlockCandidate) -> None:
  """Writes precision/<name>.json."""
  folder = lab.workdir / "precision"
  folder.mkdir(exist_ok=True)
  name = "".join(c if c.isalnum() else "-" for c in candidate.name)
  text = block_formats.to_json(lab.net, candidate.formats)
  write_atomically(folder / f"{name}.json", text)


def bits_alone(table: MovementTable) -> MovementTable:
  """Bits per element of a layer's three tensors in place of their movement.

  Layers that move nothing count nothing.
  """
  prices = []
  for layer in table.layers:
    area = layer.kernel_height * layer.kernel_width
    activations = [f.activation_bits for f in table.activations]
    prices.append((activations, [f.weight_bits(area) for f in table.weights]))
  per_bit = math.lcm(
    *(Fraction(p).denominator for both in prices for p in (*both[0], *both[1]))
  )
  units = np.zeros(table.units.shape, np.int64)
  for i, (layer, both) in enumerate(zip(table.layers, prices, strict=True)):
    if layer.has_weights and table.units[i].any():
      a, w = (np.array([int(p * per_bit) for p in each]) for each in both)
      units[i] = a[:, None, None] + w[:, None] + a
  return dataclasses.replace(table, units=units, per_bit=per_bit)
