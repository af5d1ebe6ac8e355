"""Networks of fixed precision on a calibration set, whatever their task.

What `fbq.search.sensitivity` measures with: outputs of an assignment, and how
two of them differ. Classifiers keep `fbq.search.judge` and its comparison in
numpy; of other tasks the record says what a divergence and a loss is.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbq.lab.lab import Lab
from fbq.model import Model
from fbq.nets.graph import Net
from fbq.quantizers.site_ranges import Ranges
from fbq.schemes.fixed import Fixed
from fbq.search.judge import Judge, ranges_of
from fbq.search.sensitivity import NO_CHANGE, OutputChange
from fbq.train import steps
from fbq.train.objective import CLASSIFICATION, Objective

Compare = Callable[[Any, Any], OutputChange]
_BATCH = 64


@dataclasses.dataclass(frozen=True, eq=False)
class TaskJudge:
  """A network of fixed precision, and the images on which it is judged.

  Attributes:
    net: the network.
    forward: compiled, (variables, images [B, ...], bits int32 [S]) -> outputs.
    variables: params and batch_stats.
    ranges: {site: {bits: range}}, from `site_ranges`.
    images: [N, H, W, C].
    labels: truth of the images, arrays [N, ...].
    batch: images at a time; the last batch is filled up with its first image.
  """

  net: Net
  forward: Callable[[Any, Any, Any], Any]
  variables: Mapping[str, Any]
  ranges: Ranges
  images: np.ndarray
  labels: Any
  batch: int = _BATCH

  def logits(self, bits: Mapping[str, int]) -> Any:
    """Outputs of the network at the bits of every site, numpy [N, ...].

    Raises:
      ValueError: no range at these bits, or outputs that are not finite.
    """
    ranges = ranges_of(self.net, self.ranges, bits)
    variables = {
      **self.variables,
      "ranges": {s: jnp.asarray(r, jnp.float32) for s, r in ranges.items()},
    }
    row = jnp.array([bits[s] for s in self.net.workload.sites], jnp.int32)
    parts = [self.forward(variables, x, row) for x in self._batches()]
    outputs = jax.tree.map(
      lambda *some: np.concatenate(some)[: len(self.images)],
      *jax.device_get(parts),
    )
    if not all(np.isfinite(x).all() for x in jax.tree.leaves(outputs)):
      raise ValueError(
        f"{self.net.name}: outputs are not finite at bits {dict(bits)}"
      )
    return outputs

  def _batches(self) -> Iterator[jax.Array]:
    """Images, all batches of one shape."""
    count = len(self.images)
    batch = min(self.batch, count)
    for start in range(0, count, batch):
      rows = np.arange(start, start + batch)
      rows = np.where(rows < count, rows, start)
      yield jnp.asarray(self.images[rows], jnp.float32)


def of(
  lab: Lab, variables: Mapping[str, Any], ranges: Ranges, images, truth
) -> tuple[Judge | TaskJudge, Compare | None]:
  """(judge of a float network, how its outputs are compared).

  The latter is None for classifiers, which `sensitivity.compare` compares.

  Args:
    lab: network and task.
    variables: variables of the float network.
    ranges: where its tensors are calibrated.
    images, truth: calibration set.
  """
  forward = steps.compile_once(
    lambda v, x, b: Model(lab.net, Fixed()).apply(v, x, False, b)
  )
  given = lab.net, forward, variables, ranges, np.asarray(images)
  if lab.task.objective is CLASSIFICATION:
    return Judge(*given, np.asarray(truth)), None
  return TaskJudge(*given, truth), comparison(lab.task.objective, truth)


def comparison(
  objective: Objective, truth: Any, batch: int = _BATCH
) -> Compare:
  """(outputs of the reference, outputs) -> the change of all images.

  "kl" is the divergence of the task, in float64, as it is what is left of large
  sums; "loss" its loss; "mse" and "sqnr_db" count every number that is told.

  Args:
    objective: task of the network.
    truth: arrays [N, ...] that go with the outputs.
    batch: images at a time.
  """
  divergence = jax.jit(lambda x, y: objective.divergence(x, y, 1.0))
  loss = jax.jit(lambda outputs, truth: objective.loss(outputs, truth)[0])

  def compare(reference, outputs):
    pairs = zip(
      jax.tree.leaves(reference), jax.tree.leaves(outputs), strict=True
    )
    noise = signal = numbers = 0.0
    for before, after in pairs:
      before, after = np.float64(before), np.float64(after)
      noise += float(np.sum((after - before) ** 2))
      signal += float(np.sum(before**2))
      numbers += before.size
    if noise == 0:
      return NO_CHANGE
    count = len(jax.tree.leaves(reference)[0])
    kl = change = 0.0
    for start in range(0, count, batch):
      rows = slice(start, start + batch)
      first, second, labels = jax.tree.map(
        lambda x, rows=rows: np.asarray(x)[rows], (reference, outputs, truth)
      )
      share = (min(start + batch, count) - start) / count
      with jax.enable_x64(True):
        doubles = jax.tree.map(lambda x: np.float64(x), (first, second))
        kl += share * max(0.0, float(divergence(*doubles)))
      change += share * float(loss(second, labels) - loss(first, labels))
    with np.errstate(divide="ignore"):  # a reference of zeros has -inf
      sqnr_db = 10.0 * (np.log10(signal) - np.log10(noise))
    return OutputChange(change, kl, noise / numbers, float(sqnr_db))

  return compare
