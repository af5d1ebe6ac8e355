"""How much each precision of each tensor harms a network, without training.

Every free site alone is set to every precision, and the network's outputs on a
calibration set are compared with those of a reference. One compiled function
serves all: precisions and ranges are data.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import chex
import numpy as np

from fbq.nets.graph import Net
from hwsim.latency_table import PULP_LADDER, Ladder


class Judge(Protocol):
  """Gives outputs of assignments, as `fbq.search.judge.Judge` does logits."""

  @property
  def net(self) -> Net: ...

  @property
  def labels(self) -> Any: ...

  def logits(self, bits: Mapping[str, int]) -> Any: ...


class OutputChange(NamedTuple):
  """Outputs compared with the reference's, means over the calibration set.

  Attributes:
    loss: cross-entropy minus that of the reference, in nats; may be negative.
    kl: KL divergence of the class probabilities from the reference's, in nats.
    mse: squared difference of the logits.
    sqnr_db: mean square of the reference's logits over `mse`, in decibels.
  """

  loss: float
  kl: float
  mse: float
  sqnr_db: float


NO_CHANGE = OutputChange(0.0, 0.0, 0.0, float("inf"))
Changes = dict[int, OutputChange]  # by bits


class Sensitivities(NamedTuple):
  """What each precision of each site does on its own.

  Attributes:
    changes: {site: {bits: change}}; fixed sites have their own bits only.
    reference: outputs, such as logits [N, classes], of the network compared
      with.
    passes: forward passes over the calibration set that were made.
  """

  changes: dict[str, dict[int, OutputChange]]
  reference: Any
  passes: int

  def of(self, metric: str) -> dict[str, dict[int, float]]:
    """{site: {bits: value}} of one attribute of `OutputChange`."""
    return {
      site: {bits: getattr(change, metric) for bits, change in by_bits.items()}
      for site, by_bits in self.changes.items()
    }


def sensitivities(
  judge: Judge,
  others: int = 8,
  ladder: Ladder = PULP_LADDER,
  kept: Callable[[str, Callable[[], Changes]], Changes] = (
    lambda site, make: make()
  ),
  compared: Callable[[Any, Any], OutputChange] | None = None,
) -> Sensitivities:
  """OutputChange of the outputs when one free site alone has `b` bits, for all.

  The reference is the network with all free sites at `others` bits, and the
  fixed ones at theirs. One pass for it and one for each (free site, bits other
  than `others`): with F free sites 2 F + 1 where `others` is 8, 3 F + 1 where
  it is `FLOAT_BITS`. In a loop: `vmap` makes grouped convolutions, which take
  four times as long on a CPU. Starting at the changed tensor would save half of
  the multiply-accumulates of MobileNetV1 but need a program for each layer.

  8 bits is the default: changes are then from the best network that can be
  deployed, 8 bits anywhere are exactly no change, and a third of the passes
  falls away. It also ranks no worse. Rank correlation of sums with the measured
  loss of 40 random assignments each, MobileNetV1 0.25 trained on the digits,
  512 images, one trial:

    shares of 2/4/8 bits    5/15/80   0/50/50   15/35/50   even
    KL, others at 8 bits      0.967     0.600      0.854   0.324
    KL, others in float       0.964     0.568      0.855   0.307
    loss, others at 8 bits    0.965     0.493      0.846   0.300
    loss, others in float     0.963     0.450      0.844   0.298
    Omega (`hessian`)         0.808     0.550      0.580   0.245

  So prefer the KL divergence. Sums mean little where a third of the tensors has
  2 bits.

  Args:
    judge: the network and its calibration set.
    others: bits of the free sites that are not tried.
    ladder: precisions to try, of activations and of weights.
    kept: (name of a site, makes its changes) -> the changes, for what resumes.
    compared: (outputs of the reference, outputs) -> the change; by default that
      of classifiers, `compare`.
  """
  # Fixed sites keep their bits, as they would when deployed.
  net = judge.net
  base = {s: net.fixed_bits.get(s, others) for s in net.workload.sites}
  reference = judge.logits(base)
  change_of = compared or (
    lambda before, after: compare(before, after, judge.labels)
  )

  # One pass for each site and precision; what the reference has is no change
  # and costs none.
  def tried(site: str) -> Changes:
    if site in net.fixed_bits:
      return {net.fixed_bits[site]: NO_CHANGE}
    return {
      b: change_of(reference, judge.logits({**base, site: b}))
      if b != others
      else NO_CHANGE
      for b in ladder.of(site)
    }

  changes = {
    site: kept(site, lambda site=site: tried(site))
    for site in net.workload.sites
  }
  passes = 1 + sum(
    b != base[site] for site, by_bits in changes.items() for b in by_bits
  )
  return Sensitivities(changes, reference, passes)


def compare(
  reference: np.ndarray, logits: np.ndarray, labels: np.ndarray
) -> OutputChange:
  """The change from `reference` to `logits`, both float64 [N, classes]."""
  chex.assert_equal_shape([reference, logits])
  chex.assert_shape(labels, (len(logits),))
  log_p, log_q = _log_softmax(reference), _log_softmax(logits)
  loss = cross_entropies(logits, labels) - cross_entropies(reference, labels)
  # Not below 0 for any image, whatever rounding says.
  kl = np.maximum(np.sum(np.exp(log_p) * (log_p - log_q), axis=-1), 0.0)
  noise, signal = np.mean((logits - reference) ** 2), np.mean(reference**2)
  if noise == 0:
    return NO_CHANGE
  with np.errstate(divide="ignore"):  # a reference of zeros has -inf
    sqnr_db = 10.0 * (np.log10(signal) - np.log10(noise))
  return OutputChange(
    float(loss.mean()), float(kl.mean()), float(noise), float(sqnr_db)
  )


def cross_entropies(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """[N] in nats, of logits [N, classes]."""
  return -_log_softmax(logits)[np.arange(len(labels)), np.asarray(labels)]


def _log_softmax(logits):
  return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
