"""What a search pays for precision: functions of its variables, differentiable.

A regularizer is `cost(variables, run, step) -> float32 []`, with the data of a
run and the steps done, of which most need neither; `train_step` adds it to the
loss times the run's strength. All take as long as `bops_regularizer`: a few
products of arrays of L layers' precisions.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from fbq.nets.graph import Net
from fbq.quantizers import gates
from fbq.schemes.bayesian_bits import BayesianBits
from fbq.schemes.groups import GateGroups
from fbq.schemes.scheme import Search
from hwsim.latency_table import BITS
from hwsim.workload import Workload

Array = jax.Array
Regularizer = Callable[..., Array]


def bops_regularizer(
  workload: Workload, groups: GateGroups, of: str = "bops"
) -> Regularizer:
  """The Free Bits regularizer (docs/facts/quantization.md 3.2).

  Every weighted layer counts with its multiply-accumulates over those of the
  largest one. Operands of fixed precision have open gates, a constant.

  Adam moves every gate as far, whatever the size of its gradient, so a penalty
  that is large for some tensors ranks tensors by its size: where it outweighs
  the noise of the task's gradient gates close, elsewhere they stay. Every
  tensor having the same penalty, the task's gradient ranks them.

  Args:
    workload: the layers.
    groups: which sites share gates.
    of: "bops", as above; or "tensors", in which every layer counts as the
      largest one.
  """
  if of not in ("bops", "tensors"):
    raise ValueError(f"of is {of!r}, expected 'bops' or 'tensors'")
  row = dict(zip(workload.sites, groups.of_site, strict=True))
  weighted = [
    (layer, reads[0])
    for layer, reads in zip(workload.layers, workload.input_sites, strict=True)
    if layer.has_weights
  ]
  macs = np.array([layer.macs for layer, _ in weighted], np.float64)
  if of == "tensors":
    macs = np.ones_like(macs)
  scale = jnp.asarray(macs / macs.max(), jnp.float32)
  # One row more, for operands without gates.
  weights = np.array(
    [row[workload.weight_site(layer)] for layer, _ in weighted]
  )
  activations = np.array([row[site] for _, site in weighted])

  def regularizer(variables, run=None, step=None):
    del run, step
    logits = variables["gates"]["logits"]
    open_ = jnp.full((1, logits.shape[1]), 1e3, logits.dtype)
    logits = jnp.concatenate([logits, open_])  # row -1
    return gates.expected_bops(logits[weights], logits[activations], scale)

  return regularizer


def bayesian_bits_regularizer(
  net: Net, scheme: BayesianBits, kind: str = "bops"
) -> Regularizer:
  """The prior of the original Bayesian Bits, summed over free tensors.

  `gates.bayesian_bits_prior` of every tensor: its level of `b` bits counts b
  MACs / max MACs, where the MACs of an activation are those of all layers that
  read it; or 1, if `kind` is "const" (docs/facts/quantization.md 1.4).
  """
  if kind not in ("bops", "const"):
    raise ValueError(f"kind is {kind!r}, expected 'bops' or 'const'")

  # A tensor that several layers read counts with the MACs of all of them.
  macs = dict.fromkeys(net.workload.free_sites, 0)
  for layer, reads in zip(
    net.workload.layers, net.workload.input_sites, strict=True
  ):
    if layer.has_weights:
      for site in (net.workload.weight_site(layer), *reads):
        if site in macs:
          macs[site] += layer.macs
  largest = max(layer.macs for layer in net.workload.layers)
  rows = scheme.groups.rows(net)
  prunable = {
    f"{node.name}.weight"
    for node in net.nodes
    if node.has_weights and scheme.can_prune(node)
  }

  # What each level of a tensor counts where its gates are open.
  levels = {
    site: np.array(scheme.ladder) * (macs[site] / largest)
    if kind == "bops"
    else np.ones(len(scheme.ladder))
    for site in macs
  }

  # All tensors without pruning at once: their terms are linear in the gates'.
  plain = np.zeros((scheme.groups.count, len(scheme.ladder)))
  for site in macs.keys() - prunable:
    plain[rows[site]] += [1.0, *levels[site][1:]]
  plain = jnp.asarray(plain, jnp.float32)

  def regularizer(variables, run=None, step=None):
    del run, step
    logits = variables["gates"]["logits"]
    at_least = gates.chain(gates.BAYESIAN_BITS.probability_open(logits))
    total = jnp.sum(plain[:, 0]) + jnp.sum(plain[:, 1:] * at_least)
    for site in sorted(prunable):
      total += gates.bayesian_bits_prior(
        logits[rows[site]],
        jnp.asarray(levels[site], jnp.float32),
        variables["gates"][f"{site}.channels"],
      )
    return total

  return regularizer


def expected_cost(net: Net, scheme: Search, costs: np.ndarray) -> Regularizer:
  """The expected cost of `net`, in shares of what uniform 8 bits cost.

  Groups of gates are independent. Tensors of one group have the same bits, so
  for a layer whose input and weights are locked the diagonal alone counts.

  Args:
    net: network that is searched.
    scheme: scheme with `distribution(variables, data)`, shares [G, 3] of 2, 4,
      8 bits.
    costs: [L, A, W], or [L, A, W, O] where the bits of outputs matter: cycles
      of a latency table, joules, `hwsim.proxies.bops_table`. All axes are in
      the order of `hwsim.latency_table.BITS`.

  Raises:
    ValueError: costs of another shape, not finite, or of no cost at 8 bits; or
      an adder of tensors from different groups, which a table of one input axis
      does not describe.
  """
  # Costs are told in shares of uniform 8 bits, so that a strength means the
  # same for every network and target.
  tables, rows = _tables(net, scheme.groups, np.asarray(costs, np.float64))
  sure = np.eye(len(BITS))
  eight = np.concatenate([np.tile(sure[-1:], (scheme.groups.count, 1)), sure])
  total = np.sum(tables * _joint(eight, rows))
  if total <= 0:
    raise ValueError(f"costs of {net.name} at 8 bits add up to {total}")
  tables = jnp.asarray(tables / total, jnp.float32)

  # The scheme's data, such as a temperature, come from the run and the step.
  # Before training there are none.
  def regularizer(variables, run=None, step=None):
    known = run is not None and step is not None
    data = scheme.data(run, step) if known else None
    shares = scheme.distribution(variables, data)
    if shares.shape[-1] != len(BITS):
      raise ValueError(
        f"the scheme chooses among {shares.shape[-1]} precisions, expected "
        f"{BITS}, those of the table of costs"
      )
    shares = jnp.concatenate([shares, jnp.asarray(sure, shares.dtype)])
    return jnp.sum(tables * _joint(shares, rows))

  return regularizer


def within_budget(cost: Regularizer) -> Regularizer:
  """A penalty that ends where the cost meets the budget of a run.

  max(0, cost / run["budget"] - 1), rising in proportion over the first
  run["ramp_steps"] steps (PLiNIO's DUCCIO, docs/facts/quantization.md 7). The
  budget is in the unit of `cost`: for `expected_cost`, a share of uniform 8
  bits.
  """

  def regularizer(variables, run, step):
    excess = cost(variables, run, step) / run["budget"] - 1.0
    ramp = jnp.minimum((step + 1) / run["ramp_steps"], 1.0)
    return ramp * jax.nn.relu(excess)

  return regularizer


def _joint(shares, rows):
  """Joint shares [L, 3, 3, 3] of three independent groups for each layer."""
  a, w, o = (shares[rows[:, axis]] for axis in range(3))
  return a[:, :, None, None] * w[:, None, :, None] * o[:, None, None, :]


def _tables(net, groups, costs):
  """Costs [L, 3, 3, 3] folded along tied axes, and their rows, int [L, 3].

  Rows from G on are sure: G is 2 bits, G + 1 is 4, G + 2 is 8.
  """
  count = len(net.workload.layers)
  expected = count, *(len(BITS),) * 3
  if costs.shape not in (expected[:3], expected):
    raise ValueError(
      f"costs has shape {costs.shape}, expected {expected[:3]} or {expected}: "
      f"one entry for each layer of {net.name} and its precisions"
    )
  if not np.isfinite(costs).all():
    raise ValueError(f"costs of {net.name} are not all finite")

  # Sites of fixed precision get rows behind those of the groups, each sure of
  # one precision.
  row = groups.rows(net) | {
    site: groups.count + BITS.index(bits)
    for site, bits in net.fixed_bits.items()
  }

  # A table with one input axis describes a layer of several inputs only if they
  # share gates, or if its cost does not depend on them.
  workload, has_outputs = net.workload, costs.ndim == 4
  costs = costs.reshape(*costs.shape[:3], -1)
  tables, rows = np.zeros(expected), np.zeros((count, 3), int)
  for i, layer in enumerate(workload.layers):
    reads = {row[site] for site in workload.input_sites[i]}
    if len(reads) > 1 and np.ptp(costs[i], axis=0).any():
      raise ValueError(
        f"layer {layer.name!r} of {net.name} reads tensors of different gates, "
        "and its cost depends on their bits: a table with one axis for inputs "
        "does not say how"
      )
    weights = workload.weight_site(layer) if layer.has_weights else None
    output = workload.output_sites[i] if has_outputs else None
    axes = (
      min(reads),
      None if weights is None else row[weights],
      None if output is None else row[output],
    )
    tables[i], rows[i] = _fold(costs[i], axes, groups.count)
  return tables, rows


def _fold(costs, axes, unused):
  """Costs [3, 3, 3] with one axis for each group, and the axes' rows.

  An axis without a tensor, and one whose group an earlier axis has, stands at
  its first entry and takes the row `unused`, which is sure of it.
  """
  first = [axes.index(row) for row in axes]
  is_own = [row is not None and first[i] == i for i, row in enumerate(axes)]
  table = np.zeros((len(BITS),) * 3)
  for index in np.ndindex(costs.shape):
    if all(
      index[axis] == (0 if axes[axis] is None else index[first[axis]])
      for axis in range(3)
    ):
      place = tuple(j * own for j, own in zip(index, is_own, strict=True))
      table[place] += costs[index]
  return table, [
    r if own else unused for r, own in zip(axes, is_own, strict=True)
  ]
