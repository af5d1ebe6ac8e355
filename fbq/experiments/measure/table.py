"""From timed mixtures to what every layer and every conversion takes.

Times add up: a network takes the time of its layers, each in the kind it has,
and that of the conversions between unlike neighbours. How well they do is
measured, by the mixtures themselves.
"""

import collections
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fbq.deploy import mixed_layers
from fbq.deploy.mixed_layers import LADDER
from fbq.deploy.onnx_timing import Timed, Whole
from fbq.experiments.measure.mixtures import one_way
from fbq.nets.graph import Net
from fbq.search.problem import Factor
from hwsim.latency_table import LatencyTable, shape_of

Bits = Mapping[str, int]
_MIDDLE, _LOW = 50, 0  # percentiles of runs: a quiet machine, a busy one
_PROFILING_NS = 2000.0  # that a node's profile takes, at most


class Costs(NamedTuple):
  """Nanoseconds of the parts of a network.

  Attributes:
    kernels: {(layer, bits of its kind): time}; kinds are 8, 32, and 4 for
      float layers with 4-bit weights.
    moves: {(tensor, whether to integers): time of one conversion}.
    node_ns: what a node takes beyond its profile, part of both.
  """

  kernels: Mapping[tuple[str, int], float]
  moves: Mapping[tuple[str, bool], float]
  node_ns: float


def kind_of(net: Net, bits: Bits, layer: str) -> int:
  """Bits that name the kind of a layer: 4, 8 or 32."""
  node = net.node[layer]
  if node.has_weights:
    return bits[f"{layer}.weight"]
  return 8 if mixed_layers.is_integer(net, bits, node) else mixed_layers.FLOAT


def costs_of(
  net: Net,
  mixtures: Sequence[Bits],
  timed: Sequence[Timed],
  rows: Sequence[np.ndarray] | None = None,
) -> Costs:
  """What parts take, each the median over the mixtures in which it is met.

  Args:
    net: network of the mixtures.
    mixtures: assignments that were timed; every kind of every layer is in one.
    timed: their times.
    rows: per mixture, the runs that count; by default all.
  """
  at = percentile_of([one.whole for one in timed])
  pick = rows or [np.arange(len(one.whole.wall_ns)) for one in timed]
  parts = [
    {part: float(np.percentile(x[row], at)) for part, x in one.parts.items()}
    for one, row in zip(timed, pick, strict=True)
  ]
  node_ns = _beyond(timed, parts, pick, at)

  # Layers among their like; else, wherever they are
  found = [
    _sorted(net, bits, one, times, node_ns)
    for bits, one, times in zip(mixtures, timed, parts, strict=True)
  ]
  alike, all_ = collections.defaultdict(list), collections.defaultdict(list)
  for bits, (work, _) in zip(mixtures, found, strict=True):
    converted = _converted(net, bits)
    for node in net.nodes:
      what = node.name, kind_of(net, bits, node.name)
      all_[what].append(work[node.name])
      if not converted & {*node.inputs, node.name}:
        alike[what].append(work[node.name])
  kernels = {
    what: float(np.median(alike.get(what, times)))
    for what, times in all_.items()
  }
  return Costs(kernels, _moves(net, mixtures, found, kernels), node_ns)


def _moves(net, mixtures, found, kernels) -> dict[tuple[str, bool], float]:
  """What one conversion takes, by tensor and way.

  With what the layers around it take more than among their like: kernels that
  get another layout, additions that are fused no more.
  """
  moves = collections.defaultdict(list)
  for bits, (work, moved) in zip(mixtures, found, strict=True):
    converted = _converted(net, bits)
    total = dict(moved)
    for node in net.nodes:
      around = (*node.inputs, node.name)
      tensor = next((name for name in around if name in converted), None)
      if tensor is not None:
        usual = kernels[node.name, kind_of(net, bits, node.name)]
        total[tensor] = total.get(tensor, 0.0) + work[node.name] - usual
    for what, count in one_way(net, bits).items():
      moves[what].append(total.get(what[0], 0.0) / count)
  means = {
    what: max(0.0, float(np.median(times))) for what, times in moves.items()
  }
  return _completed(net, means)


def _converted(net, bits) -> set[str]:
  """Tensors that some layer converts."""
  return {tensor for tensor, _, _ in mixed_layers.conversions(net, bits)}


def percentile_of(wholes: Sequence[Whole]) -> int:
  """The percentile of runs that counts: the median, if the machine had time.

  Else the least, what others left alone: times of nodes are wall times.
  """
  return _MIDDLE if all(one.is_quiet for one in wholes) else _LOW


def _beyond(timed, parts, rows, at) -> float:
  """What a node adds to a run beyond its profile, of all mixtures the median.

  Less than 0 where profiling itself takes longer than what is between nodes.
  """
  found = []
  for one, times, row in zip(timed, parts, rows, strict=True):
    whole = np.percentile(one.whole.times_ns[row], at)
    found.append((whole - sum(times.values())) / sum(one.nodes.values()))
  return max(-_PROFILING_NS, float(np.median(found)))


def _sorted(net, bits, timed, parts, node_ns):
  """({layer: time}, {tensor: time of its conversions}) of one mixture.

  What moves a tensor between like neighbours, a layout for instance, is work of
  the layer that reads it.
  """
  converted = _converted(net, bits)
  work = dict.fromkeys(net.node, 0.0)
  moved: dict[str, float] = {}
  for part, time in parts.items():
    time = max(0.0, time + timed.nodes[part] * node_ns)
    if part.tensor in converted:
      moved[part.tensor] = moved.get(part.tensor, 0.0) + time
    else:
      work[part.layer] += time
  return work, moved


def _completed(net, means) -> dict[tuple[str, bool], float]:
  """Conversions that no mixture had alone take as long for each element."""
  moves = dict(means)
  size = {tensor: math.prod(shape) for tensor, shape in net.shapes.items()}
  for way in (True, False):
    known = [tensor for tensor, to in means if to == way]
    elements = sum(size[tensor] for tensor in known)
    per_element = sum(means[t, way] for t in known) / max(1, elements)
    for tensor in size:
      moves.setdefault((tensor, way), per_element * size[tensor])
  return moves


def predicted_ns(net: Net, costs: Costs, bits: Bits) -> float:
  """Time of a network: its layers and its conversions."""
  layers = (
    costs.kernels[n.name, kind_of(net, bits, n.name)] for n in net.nodes
  )
  moves = (
    costs.moves[tensor, way]
    for tensor, _, way in mixed_layers.conversions(net, bits)
  )
  return sum(layers) + sum(moves)


def latency_table(net: Net, costs: Costs, target: str) -> LatencyTable:
  """The table of every layer at every precision, in nanoseconds.

  Conversions are part of the layer that makes them. Of an adder whose inputs
  lie unlike, that of the one is missing: see `unlike_inputs`. Layers of one
  geometry are one row of a file, so they have their mean.
  """
  work = net.workload
  cycles = np.zeros((len(net.nodes), *shape_of(LADDER)), np.float64)
  for i, node in enumerate(net.nodes):
    for place in np.ndindex(cycles.shape[1:]):
      cycles[i][place] = _entry(net, costs, node, place)
  quantized = tuple(site is not None for site in work.output_sites)

  alike = collections.defaultdict(list)
  for i, layer in enumerate(work.layers):
    alike[layer.geometry, quantized[i]].append(i)
  for members in alike.values():
    cycles[members] = cycles[members].mean(0)
  return LatencyTable(
    target,
    work.layers,
    quantized,
    np.maximum(1, np.rint(cycles)).astype(np.int64),
    ("measured",) * len(work.layers),
    LADDER,
  )


def _entry(net, costs, node, place) -> float:
  """Time of a layer at positions of the ladder for input, weights, output."""
  reads, weights, writes = (
    rungs[i]
    for rungs, i in zip(
      (LADDER.activations, LADDER.weights, LADDER.activations),
      place,
      strict=True,
    )
  )
  kind = weights if node.has_weights else reads
  integer = kind == 8
  time = costs.kernels[node.name, kind]
  if (reads == 8) != integer:
    time += sum(costs.moves[name, integer] for name in node.inputs)
  if net.site_of[node.name] is not None and (writes == 8) != integer:
    time += costs.moves[node.name, not integer]
  return time


def unlike_inputs(net: Net, costs: Costs) -> tuple[Factor, ...]:
  """Terms of the adders whose inputs lie unlike: the sum is one of floats."""
  factors = []
  for node in net.nodes:
    sites = tuple(str(net.site_of[name]) for name in node.inputs)
    if node.op != "add" or len(set(sites)) < 2:
      continue
    first, second = (
      max(0, round(costs.moves[name, False])) for name in node.inputs
    )
    table = np.array([[0, first], [second, 0]], np.int64)
    factors.append(Factor(f"{node.name} inputs", sites, table))
  return tuple(factors)


def errors(
  net: Net, mixtures: Sequence[Bits], timed: Sequence[Timed], kept: int
) -> list[tuple[float, float]]:
  """(predicted, measured) nanoseconds of mixtures, each by all the others.

  Args:
    net: network of the mixtures.
    mixtures: assignments that were timed.
    timed: their times.
    kept: how many of the first are never left out: those of one kind, which
      have kinds of layers that no other may have.
  """
  found = []
  for i in range(kept, len(mixtures)):
    others = [j for j in range(len(mixtures)) if j != i]
    costs = costs_of(
      net, [mixtures[j] for j in others], [timed[j] for j in others]
    )
    at = percentile_of([one.whole for one in timed])
    measured = float(np.percentile(timed[i].whole.times_ns, at))
    found.append((predicted_ns(net, costs, mixtures[i]), measured))
  return found


def apart(pairs: Sequence[tuple[Whole, Whole]]) -> float:
  """How far two measurements of the same networks are apart.

  Root mean square of their relative differences.
  """
  at = percentile_of([whole for pair in pairs for whole in pair])
  times = [[np.percentile(one.times_ns, at) for one in pair] for pair in pairs]
  return float(np.sqrt(np.mean([(a / b - 1) ** 2 for a, b in times])))


def half_widths(
  net: Net,
  mixtures: Sequence[Bits],
  timed: Sequence[Timed],
  asked: Mapping[str, Bits],
  error: float,
  draws: int = 40,
  seed: int = 0,
) -> dict[str, float]:
  """Half-width in nanoseconds of the 90 % interval of every prediction.

  Args:
    net: network of the mixtures.
    mixtures: assignments that were timed.
    timed: their times; runs are drawn again with replacement.
    asked: assignments that are predicted, by name.
    error: relative standard error of a prediction besides the noise of runs:
      that times add up, and that a measurement can be repeated.
    draws: how often runs are drawn.
    seed: of the draws.
  """
  random = np.random.default_rng(seed)
  found = {name: [] for name in asked}
  for _ in range(draws):
    rows = []
    for one in timed:
      count = len(one.whole.wall_ns)
      rows.append(random.integers(0, count, count))
    costs = costs_of(net, mixtures, timed, rows)
    for name, bits in asked.items():
      found[name].append(predicted_ns(net, costs, bits))

  widths = {}
  for name, times in found.items():
    low, high = np.percentile(times, (5, 95))
    adding = 1.645 * error * float(np.mean(times))
    widths[name] = math.hypot((high - low) / 2, adding)
  return widths
