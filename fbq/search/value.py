"""Values of precisions for the exact search: {site: {bits: higher is better}}.

The exact search finds the assignment of largest sum over sites; these turn what
was measured or learned into terms of such a sum.
"""

from collections.abc import Mapping

import numpy as np

from fbq.nets.graph import Net
from fbq.precision import BITS
from fbq.quantizers.gates import FREE_BITS, HardConcrete
from fbq.schemes.groups import GateGroups

Values = dict[str, dict[int, float]]


def from_harm(net: Net, harm: Mapping[str, Mapping[int, float]]) -> Values:
  """Values of every site: minus loss changes, KL divergences or Omegas.

  Args:
    net: the network.
    harm: {site: {bits: lower is better}}; fixed sites may be left out.

  Raises:
    ValueError: a free site is missing, or a number is not finite.
  """
  values: Values = {}
  for site in net.workload.sites:
    if site in net.fixed_bits:
      values[site] = {net.fixed_bits[site]: 0.0}
      continue
    if not harm.get(site):
      raise ValueError(f"{net.name}: no sensitivity of {site!r}")
    for bits, value in harm[site].items():
      if not np.isfinite(value):
        raise ValueError(
          f"sensitivity of {site!r} at {bits} bits is {value}, expected a "
          "finite number"
        )
    values[site] = {bits: 0.0 - float(v) for bits, v in harm[site].items()}
  return values


def from_gates(
  net: Net,
  groups: GateGroups,
  logits: np.ndarray,
  distribution: HardConcrete = FREE_BITS,
) -> Values:
  """Values of every site: log P(bits) under the gates of a search.

  P(2) = 1 - p4, P(4) = p4 (1 - p8), P(8) = p4 p8 with p the probability that a
  gate is not closed. Sites that share gates have equal parts of it, so that an
  assignment that keeps them together sums to its log-probability.

  Args:
    net: the network.
    groups: which sites share gates.
    logits: [G, 2].
    distribution: distribution that the gates are drawn from.
  """
  logits = np.asarray(logits, np.float64)
  if logits.shape != (groups.count, 2):
    raise ValueError(
      f"gate logits have shape {logits.shape}, expected [{groups.count}, 2]"
    )

  # P(gate > 0) = sigmoid(shifted), its logarithm without loss near 0 and 1.
  stretch = -distribution.low / distribution.high
  shifted = logits - distribution.temperature * np.log(stretch)
  log_open = -np.logaddexp(0.0, -shifted)
  log_closed = -np.logaddexp(0.0, shifted)
  log_p = [
    log_closed[:, 0],
    log_open[:, 0] + log_closed[:, 1],
    log_open[:, 0] + log_open[:, 1],
  ]
  return _among_members(net, groups, np.stack(log_p, axis=1))


def from_shares(net: Net, groups: GateGroups, shares: np.ndarray) -> Values:
  """Values of every site: the logarithm of the share that a search gives it.

  Args:
    net: the network.
    groups: which sites share gates.
    shares: [G, 3], shares of 2, 4 and 8 bits, see `Search.distribution`; what
      is below 1e-6 counts as that.
  """
  shares = np.asarray(shares, np.float64)
  if shares.shape != (groups.count, len(BITS)) or not np.isfinite(shares).all():
    raise ValueError(
      f"shares have shape {shares.shape}, expected finite ones of shape "
      f"[{groups.count}, {len(BITS)}]"
    )
  return _among_members(net, groups, np.log(np.maximum(shares, 1e-6)))


def _among_members(net, groups, log_p) -> Values:
  """Logarithms [G, 3] in equal parts for the sites of each group."""
  members = np.bincount([row for row in groups.of_site if row >= 0])
  return {
    site: {net.fixed_bits[site]: 0.0}
    if row < 0
    else {
      b: float(p) / int(members[row])
      for b, p in zip(BITS, log_p[row], strict=True)
    }
    for site, row in groups.rows(net).items()
  }
