"""BitQ's choice of block formats, exactly: loss plus alpha times data movement.

For losses that add up over tensors, eq. 1 of BitQ (arXiv 2409.17093) is a sum
over layers of functions of three formats: of input, weights and output. Weights
are minimised first, then formats of shared activations by elimination along the
network (`fbq.search.elimination`); the released code picks among a list.
"""

import dataclasses
import math
import operator
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from fbq.search import elimination, two_phase
from fbq.search.terms import Term, TermModel
from hwsim.bfp.formats import BlockFormat
from hwsim.bfp.table import MovementTable
from hwsim.workload import Shape, Workload

Losses = Mapping[str, Mapping[BlockFormat, float]]
Formats = dict[str, BlockFormat]


class FormatAssignments(NamedTuple):
  """`P` assignments of formats.

  Attributes:
    formats: {site: format} of each assignment.
    loss: float64 [P], sum of the losses of the sites.
    movement_bits: data movement of each assignment, exactly.
    objective: float64 [P], loss + alpha movement / largest; NaN for a front.
    error_bits: error of a front: for every assignment there is one here that
      loses no more and moves at most so many bits more; 0 if exact.
  """

  formats: tuple[Formats, ...]
  loss: np.ndarray
  movement_bits: tuple[Fraction, ...]
  objective: np.ndarray
  error_bits: Fraction = Fraction(0)


@dataclasses.dataclass(frozen=True, eq=False)
class FormatChoice:
  """What may be chosen; made by `make`.

  Attributes:
    workload: the network.
    groups: sites that share one format: activations that adders join, every
      other site alone.
    options: per group, positions of its formats in the movement table: where
      movement is what counts, those that no other one beats in bits and loss.
    losses: per group, float64 losses of its options.
    table: data movement of every layer at every format.
    largest: movement in units of the table if every tensor has the widest
      format.
  """

  workload: Workload
  groups: tuple[tuple[str, ...], ...]
  options: tuple[tuple[int, ...], ...]
  losses: tuple[np.ndarray, ...]
  table: MovementTable
  largest: int


def make(
  workload: Workload, losses: Losses, table: MovementTable
) -> FormatChoice:
  """The choice of formats of a network.

  The operands of an addition and their sum share one format, as BFP adders
  need no alignment then. A format that another one of its group beats in loss
  and the bits of every tensor is left out: movement never falls as bits rise,
  so no optimum needs it. Cycles do fall where more bits have a unit, so of a
  table of those every format stays.

  Args:
    workload: `L` layers.
    losses: {site: {format: loss}}, for all sites; a site may have the formats
      given here, which must be in the table.
    table: movement table of the layers of `workload`.

  Raises:
    ValueError: a site or a loss is missing, or a format is not in the table.
  """
  # What adders join is one choice.
  weights = {
    workload.weight_site(layer): layer
    for layer in workload.layers
    if layer.has_weights
  }
  groups, shapes = _groups(workload, weights), _shapes(workload)
  options, group_losses = [], []
  for group in groups:
    # The formats that every site of the group may have, with the losses summed.
    known = table.weights if group[0] in weights else table.activations
    sums: dict[BlockFormat, float] = {}
    for format_ in known:
      if all(format_ in losses.get(site, {}) for site in group):
        sums[format_] = float(sum(losses[site][format_] for site in group))

    # A format that the table does not price would else never be chosen, and
    # nobody would learn why.
    unknown = [
      (site, f)
      for site in group
      for f in losses.get(site, {})
      if f not in known
    ]
    if unknown or not sums or not np.isfinite(list(sums.values())).all():
      raise ValueError(
        f"tensors {group}: losses of formats {list(sums)[:4]} are "
        f"{list(sums.values())[:4]}, those of {unknown[:2]} are not in the "
        "movement table; expected a finite loss for one format at least, and "
        "formats of the table only"
      )

    # What another format beats in loss and in the bits of every tensor of the
    # group is in no optimum, so it is left out before the search.
    layer = weights.get(group[0])
    stored = sorted(set().union(*(shapes.get(site, ()) for site in group)))
    rows = []
    for f, loss in sums.items():
      bits = [f.activation_bits(shape) for shape in stored]
      rows.append((f, [*bits, f.weight_bits(layer)] if layer else bits, loss))
    kept = _unbeaten(rows) if table.follows_bits else list(sums)
    options.append(tuple(known.index(f) for f in kept))
    group_losses.append(np.array([sums[f] for f in kept]))

  # The objective counts movement as a share of this.
  widest = table.units.reshape(len(table.layers), -1).max(axis=1)
  return FormatChoice(
    workload,
    groups,
    tuple(options),
    tuple(group_losses),
    table,
    int(widest.sum()),
  )


def optima(choice: FormatChoice, alphas: Sequence[float]) -> FormatAssignments:
  """The assignment of least loss + alpha movement / largest for each alpha.

  Raises:
    ValueError: an alpha is negative or not finite.
  """
  weights = np.asarray(alphas, np.float64)
  if weights.ndim != 1 or not (np.isfinite(weights) & (weights >= 0)).all():
    raise ValueError(
      f"alphas are {weights.tolist()}, expected finite numbers, none negative"
    )
  model = _model(choice)
  steps = elimination.plan(model, elimination.smallest_tables(model))
  scored = elimination.scores(
    model, np.ones(len(weights)), -weights[None] / choice.largest
  )
  tables, _ = elimination.upward(steps, scored)
  return _found(choice, elimination.decode(model, steps, tables), weights)


def front(choice: FormatChoice, resolution: float = 0.0) -> FormatAssignments:
  """Every assignment that no other beats in loss and movement, cheapest first.

  The whole front, of which `optima` reach the convex hull only.

  Args:
    choice: choice of formats with their losses.
    resolution: allowed error in movement, as a share of the largest; 0 is
      exact.

  Raises:
    ValueError: the resolution is negative or not finite.
    pareto_sets.TooMany: the front is too large for this resolution.
  """
  if not 0 <= resolution < math.inf:
    raise ValueError(f"resolution is {resolution}, expected a share of 1")
  model = _model(choice)
  steps = elimination.plan(model, elimination.smallest_tables(model))
  on, error = two_phase.front(model, steps, int(resolution * choice.largest))
  found = _found(choice, on.chosen, np.full(on.chosen.shape[1], np.nan))
  return found._replace(error_bits=choice.table.bits(error))


def _groups(workload, weights):
  """Sites that share a format: what adders join, and all others alone."""
  parent = {site: site for site in workload.sites}

  def root(site):
    while parent[site] != site:
      site = parent[site]
    return site

  for layer, reads, writes in zip(
    workload.layers, workload.input_sites, workload.output_sites, strict=True
  ):
    if layer.op == "add":
      for site in (*reads, *(() if writes is None else (writes,))):
        parent[root(site)] = root(reads[0])
  found: dict[str, list[str]] = {}
  for site in workload.sites:
    found.setdefault(root(site), []).append(site)
  return tuple(tuple(group) for group in found.values())


def _shapes(workload) -> dict[str, set[Shape]]:
  """Shapes of the activations that have a site, pools of one another too."""
  found: dict[str, set[Shape]] = {site: set() for site in workload.sites}
  for i, site in enumerate(workload.output_sites):
    for read, shape in zip(
      workload.input_sites[i], workload.input_shapes(i), strict=True
    ):
      found[read].add(shape)
    if site is not None:
      found[site].add(workload.output_shape(i))
  return found


def _unbeaten(rows):
  """Formats of (format, prices, loss) that no other is as good as in all."""
  kept = []
  for row in sorted(rows, key=lambda row: (row[1], row[2])):
    _, prices, loss = row
    if not any(
      other <= loss and all(map(operator.le, beside, prices))
      for _, beside, other in kept
    ):
      kept.append(row)
  return [format_ for format_, _, _ in kept]


def _model(choice: FormatChoice) -> TermModel:
  """Terms over groups: losses, and the movement of every layer."""
  group_of = {s: i for i, group in enumerate(choice.groups) for s in group}
  workload, terms = choice.workload, []
  for i, losses in enumerate(choice.losses):
    terms.append(_term((i,), np.zeros(losses.shape, np.int64), -losses))
  for units, layer, reads, writes in zip(
    choice.table.units,
    workload.layers,
    workload.input_sites,
    workload.output_sites,
    strict=True,
  ):
    if not units.any():
      continue
    site = workload.weight_site(layer) if layer.has_weights else None
    if layer.op == "matmul":
      reads, site = reads[:1], reads[1]
    if len({group_of[r] for r in reads}) > 1:
      raise ValueError(
        f"layer {layer.name!r} moves tensors of different formats, "
        f"{reads}, which one axis of the movement table does not price"
      )
    places = (reads[0], site, writes)
    axes = [None if p is None else group_of[p] for p in places]
    terms.append(_folded(choice, units, axes))
  return TermModel(choice.options, tuple(terms), ("movement",))


def _folded(choice, units, axes):
  """Units [I, W, O] at the options of their groups, one axis for each group."""
  scope = tuple(sorted({axis for axis in axes if axis is not None}))
  index: list[np.ndarray | int] = []
  for axis in axes:
    if axis is None:
      index.append(0)
      continue
    shape = [-1 if axis == other else 1 for other in scope]
    index.append(np.array(choice.options[axis]).reshape(shape))
  costs = np.asarray(units[tuple(index)], np.int64)
  shape = tuple(len(choice.options[v]) for v in scope)
  return _term(scope, np.broadcast_to(costs, shape), np.zeros(shape))


def _term(scope, costs, value):
  return Term(scope, costs[..., None], value, np.ones(value.shape, bool))


def _found(choice, chosen, alphas) -> FormatAssignments:
  """Assignments from options [V, P] of the groups."""
  units, value, _ = two_phase.totals(_model(choice), chosen)
  weights = {
    choice.workload.weight_site(layer) for layer in choice.workload.layers
  }
  table, formats = choice.table, []
  for p in range(chosen.shape[1]):
    one = {}
    for group, options, rows in zip(
      choice.groups, choice.options, chosen, strict=True
    ):
      known = table.weights if group[0] in weights else table.activations
      one |= dict.fromkeys(group, known[options[rows[p]]])
    formats.append({site: one[site] for site in choice.workload.sites})
  return FormatAssignments(
    tuple(formats),
    -value,
    tuple(table.bits(n) for n in units),
    alphas * units / choice.largest - value,
  )
