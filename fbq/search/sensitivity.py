"""How much each precision of each tensor harms a network, without training.

Every free site alone is set to every precision, and the network's outputs on a
calibration set are compared with those of a reference. One compiled function
serves all: precisions and ranges are data.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbq import precision
from fbq.nets.graph import INPUT_SITE, Net

Array = jax.Array


class Change(NamedTuple):
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


NO_CHANGE = Change(0.0, 0.0, 0.0, float("inf"))


class Sensitivities(NamedTuple):
  """What each precision of each site does on its own.

  Attributes:
    changes: {site: {bits: change}}; fixed sites have their own bits only.
    reference: logits [N, classes] of the network compared with.
    reference_loss: its mean cross-entropy.
    passes: forward passes over the calibration set that it took.
  """

  changes: dict[str, dict[int, Change]]
  reference: np.ndarray
  reference_loss: float
  passes: int

  def of(self, metric: str) -> dict[str, dict[int, float]]:
    """{site: {bits: value}} of one attribute of `Change`."""
    return {
      site: {bits: getattr(change, metric) for bits, change in by_bits.items()}
      for site, by_bits in self.changes.items()
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
  """A network of fixed precision, and the images on which it is judged.

  Attributes:
    net: the network.
    forward: compiled, (variables, images [B, H, W, C], bits int32 [S]) ->
      logits [B, classes]; variables are `variables` with "ranges". Called with
      equal shapes and types always, so it compiles once.
    variables: params and batch_stats.
    ranges: {site: {bits: range}} of all sites but the image's.
    images: [N, H, W, C].
    labels: int [N].
    batch: images at a time; the last batch is filled up with its first image.

  Raises:
    ValueError: images, labels, variables or ranges that cannot be right.
  """

  net: Net
  forward: Callable[[Any, Array, Array], Array]
  variables: Mapping[str, Any]
  ranges: Mapping[str, Mapping[int, np.ndarray]]
  images: np.ndarray
  labels: np.ndarray
  batch: int = 64

  def __post_init__(self):
    _check_data(self.net, self.images, self.labels, self.batch)
    for path, leaf in jax.tree_util.tree_leaves_with_path(self.variables):
      if not np.isfinite(leaf).all():
        name = jax.tree_util.keystr(path)
        raise ValueError(f"variables{name}: values that are not finite")
    for site, by_bits in self.ranges.items():
      for bits, range_ in by_bits.items():
        if not (np.isfinite(range_) & (np.asarray(range_) > 0)).all():
          raise ValueError(
            f"range of {site!r} at {bits} bits: {range_}, expected positive "
            "finite numbers"
          )

  def batches(self) -> Iterator[tuple[Array, Array, Array]]:
    """(images [B, ...], labels [B], weights [B]): all of one shape.

    Weights are 1 for images and 0 for what fills the last batch.
    """
    yield from self._batches

  @functools.cached_property
  def _batches(self):
    batch = min(self.batch, len(self.images))
    result = []
    for start in range(0, len(self.images), batch):
      rows = np.arange(start, start + batch)
      weights = (rows < len(self.images)).astype(np.float32)
      rows = np.where(weights > 0, rows, start)
      result.append(
        (
          jnp.asarray(np.asarray(self.images)[rows], jnp.float32),
          jnp.asarray(np.asarray(self.labels)[rows], jnp.int32),
          jnp.asarray(weights),
        )
      )
    return result

  @functools.cached_property
  def _ranges(self):
    """On the device, and without weak types, which would compile again."""
    return {
      site: {b: jnp.asarray(r, jnp.float32) for b, r in by_bits.items()}
      for site, by_bits in self.ranges.items()
    }

  def logits(self, bits: Mapping[str, int]) -> np.ndarray:
    """float64 [N, classes] of the network at the given bits of every site.

    One forward pass over the calibration set. `FLOAT_BITS` stands for float.

    Raises:
      ValueError: no range at these bits, or logits that are not finite.
    """
    sites = self.net.workload.sites
    lacking = [
      (site, bits[site])
      for site in sites
      if site != INPUT_SITE and bits[site] not in self.ranges.get(site, {})
    ]
    if lacking:
      raise ValueError(f"no ranges for (site, bits) {lacking[:5]}")
    ranges = {
      site: self._ranges[site][bits[site]]
      for site in sites
      if site != INPUT_SITE
    }
    variables = {**self.variables, "ranges": ranges}
    array = jnp.array([bits[site] for site in sites], jnp.int32)
    parts = [self.forward(variables, x, array) for x, _, _ in self.batches()]
    logits = np.concatenate([np.asarray(part, np.float64) for part in parts])
    logits = logits[: len(self.images)]
    bad = np.flatnonzero(~np.isfinite(logits).all(1))
    if len(bad):
      raise ValueError(
        f"{self.net.name}: logits of calibration image {bad[0]} are not finite "
        f"({len(bad)} images in all) at bits {dict(bits)}"
      )
    return logits


def sensitivities(
  judge: Judge, others: int = 8, bits: Sequence[int] = precision.BITS
) -> Sensitivities:
  """Change of the outputs when one free site alone has `b` bits, for all.

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
    bits: precisions to try.
  """
  net = judge.net
  base = {s: net.fixed_bits.get(s, others) for s in net.workload.sites}
  reference = judge.logits(base)
  changes: dict[str, dict[int, Change]] = {}
  passes = 1
  for site in net.workload.sites:
    if site in net.fixed_bits:
      changes[site] = {net.fixed_bits[site]: NO_CHANGE}
      continue
    changes[site] = {}
    for b in bits:
      if b == others:
        changes[site][b] = NO_CHANGE
        continue
      logits = judge.logits({**base, site: b})
      changes[site][b] = compare(reference, logits, judge.labels)
      passes += 1
  loss = float(cross_entropies(reference, judge.labels).mean())
  return Sensitivities(changes, reference, loss, passes)


class Additivity(NamedTuple):
  """How well sums over sites predict what whole assignments do.

  Attributes:
    predicted: [P] sums of the changes of the sites of each assignment.
    measured: [P] change of the assignment.
    spearman: rank correlation of the two, 1 if the order is the same.
  """

  predicted: np.ndarray
  measured: np.ndarray
  spearman: float


def additivity(
  judge: Judge,
  found: Sensitivities,
  assignments: Sequence[Mapping[str, int]],
  metric: str = "loss",
) -> Additivity:
  """Compares sums of `metric` with measured values: one pass each of `P`.

  Args:
    judge: that `found` was measured with.
    found: the sensitivities.
    assignments: complete ones.
    metric: "loss" or "kl" or "mse".

  Raises:
    ValueError: fewer than two values, or all alike: ranks mean nothing.
  """
  from scipy import stats

  table = found.of(metric)
  predicted, measured = [], []
  for i, assignment in enumerate(assignments):
    precision.check(judge.net, assignment, f"assignment {i}")
    predicted.append(sum(table[s][b] for s, b in assignment.items()))
    change = compare(found.reference, judge.logits(assignment), judge.labels)
    measured.append(getattr(change, metric))
  if len(set(predicted)) < 2 or len(set(measured)) < 2:
    raise ValueError(
      f"{len(assignments)} assignments of predicted {metric} {predicted[:3]} "
      f"and measured {measured[:3]}: expected two different ones at least"
    )
  rank = float(stats.spearmanr(predicted, measured).statistic)
  return Additivity(np.array(predicted), np.array(measured), rank)


def compare(
  reference: np.ndarray, logits: np.ndarray, labels: np.ndarray
) -> Change:
  """The change from `reference` to `logits`, both float64 [N, classes]."""
  log_p, log_q = _log_softmax(reference), _log_softmax(logits)
  loss = cross_entropies(logits, labels) - cross_entropies(reference, labels)
  # Not below 0 for any image, whatever rounding says.
  kl = np.maximum(np.sum(np.exp(log_p) * (log_p - log_q), axis=-1), 0.0)
  noise, signal = np.mean((logits - reference) ** 2), np.mean(reference**2)
  if noise == 0:
    return NO_CHANGE
  with np.errstate(divide="ignore"):  # a reference of zeros has -inf
    sqnr_db = 10.0 * (np.log10(signal) - np.log10(noise))
  return Change(
    float(loss.mean()), float(kl.mean()), float(noise), float(sqnr_db)
  )


def cross_entropies(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """[N] in nats, of logits [N, classes]."""
  return -_log_softmax(logits)[np.arange(len(labels)), np.asarray(labels)]


def _log_softmax(logits):
  return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def _check_data(net, images, labels, batch):
  if np.ndim(images) != 4 or np.shape(images)[1:] != net.input_shape:
    raise ValueError(
      f"calibration images have shape {np.shape(images)}, expected [N, "
      f"{', '.join(map(str, net.input_shape))}] for {net.name}"
    )
  if not len(images) or batch < 1:
    raise ValueError(
      f"{len(images)} calibration images in batches of {batch}, expected at "
      "least one of each"
    )
  bad = np.flatnonzero(~np.isfinite(np.asarray(images)).all((1, 2, 3)))
  if len(bad):
    raise ValueError(
      f"calibration image {bad[0]} has values that are not finite "
      f"({len(bad)} images in all)"
    )
  classes = net.shapes[net.nodes[-1].name][2]
  labels = np.asarray(labels)
  if (
    labels.shape != (len(images),)
    or not np.issubdtype(labels.dtype, np.integer)
    or not ((labels >= 0) & (labels < classes)).all()
  ):
    raise ValueError(
      f"calibration labels {labels.dtype} {labels.shape}, expected "
      f"{len(images)} integers from 0 to {classes - 1}"
    )
