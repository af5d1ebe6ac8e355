"""What each block format of each tensor costs in accuracy, by a few passes.

The noise of every format on every tensor is computed. A few formats of every
tensor are measured: that tensor alone is quantized, and the outputs are
compared with the float network's. The divergence is that of class probabilities
in nats (KL), which ranks better than the loss (`fbq.search.sensitivity`).

What a network loses without training follows these measurements (`fit`). After
training it does not: ResNet-8 at 3 bits everywhere diverges by 3.1 nats before
and loses 3 % after, where another of 0.13 nats, with activations of 2 bits,
loses 6 %. Training mends the noise of weights, and whatever of a large
divergence is more than noise. So for trained networks noise counts at the slope
it has where it is small (`second_order`), with one `scale` to accuracy for
weights and one for activations.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fbq import block_formats
from fbq.nets.graph import Net
from fbq.search import sensitivity
from hwsim.bfp.formats import FP32, BlockFormat

Formats = Mapping[str, BlockFormat]
SiteFormat = tuple[str, BlockFormat]
LEAST = 1e-30  # stands for no noise and no divergence


@dataclasses.dataclass(frozen=True, eq=False)
class FormatJudge:
  """A trained network, and the images on which formats are judged.

  Attributes:
    net: the network.
    forward: compiled, (variables, images [B, ...], formats int32 [S, 3]) ->
      outputs, such as logits [B, classes].
    variables: params and batch_stats.
    images: [N, H, W, C], N a multiple of `batch`.
    batch: images at a time.
    compare: (outputs of the reference, outputs), each batch by batch -> KL
      divergence in nats, mean over images; by default of classifiers.
    rows_of: (net, formats) -> rows that `forward` takes.
  """

  net: Net
  forward: Callable[[Any, Any, np.ndarray], Any]
  variables: Mapping[str, Any]
  images: Any
  batch: int
  compare: Callable[[list[Any], list[Any]], float] | None = None
  rows_of: Callable[[Net, Formats], np.ndarray] = block_formats.to_array

  def __post_init__(self):
    if not len(self.images) or len(self.images) % self.batch:
      raise ValueError(
        f"{len(self.images)} images, expected a multiple of {self.batch}"
      )

  def outputs(self, rows: np.ndarray) -> list[Any]:
    """What the network tells at formats int32 [S, 3], batch by batch."""
    return [
      self.forward(self.variables, self.images[i : i + self.batch], rows)
      for i in range(0, len(self.images), self.batch)
    ]


def of_classes(reference: list[Any], logits: list[Any]) -> float:
  """KL divergence of classifiers, in float64, of logits [B, classes]."""
  first, second = (
    np.concatenate([np.asarray(part, np.float64) for part in parts])
    for parts in (reference, logits)
  )
  return sensitivity.compare(first, second, np.zeros(len(first), int)).kl


def reference(judge: FormatJudge) -> list[Any]:
  """Outputs of the float network, by the same program.

  Raises:
    ValueError: outputs that are not finite.
  """
  fp32 = block_formats.uniform(judge.net, FP32)
  outputs = judge.outputs(judge.rows_of(judge.net, fp32))
  if not all(np.isfinite(x).all() for x in jax.tree.leaves(outputs)):
    raise ValueError(f"{judge.net.name}: outputs of floats are not finite")
  return outputs


def divergence(
  judge: FormatJudge, reference: list[Any], formats: Formats
) -> float:
  """KL divergence of a network of the given formats from the float one.

  Raises:
    ValueError: it is not finite.
  """
  rows = judge.rows_of(judge.net, formats)
  found = (judge.compare or of_classes)(reference, judge.outputs(rows))
  if not np.isfinite(found):
    raise ValueError(f"{judge.net.name}: outputs are not finite at {rows}")
  return found


def measured(
  judge: FormatJudge, reference: list[Any], points: Sequence[SiteFormat]
) -> dict[SiteFormat, float]:
  """{(site, format): KL} of the network with that tensor alone quantized."""
  fp32 = block_formats.uniform(judge.net, FP32)
  return {
    (site, format_): divergence(judge, reference, {**fp32, site: format_})
    for site, format_ in points
  }


def anchors(noise: np.ndarray, count: int) -> list[int]:
  """Positions of formats to measure: noises spread evenly on a log scale.

  The largest and the smallest positive one are among them.

  Args:
    noise: float64 [F], noise of one tensor.
    count: number of formats, at least 2; fewer are given where fewer noises
      differ.
  """
  positive = np.flatnonzero(noise > 0)
  if not len(positive):
    return []
  logs = np.log(noise[positive])
  wanted = np.linspace(logs.max(), logs.min(), count)
  return sorted({int(positive[np.abs(logs - w).argmin()]) for w in wanted})


def fit(noise: np.ndarray, known: Mapping[int, float]) -> np.ndarray:
  """float64 [F]: KL of every format of a tensor from that of a few.

  Linear between the known ones on logarithmic scales, never falling as noise
  rises; proportional to the noise beyond them. 0 where there is no noise.

  Args:
    noise: float64 [F], noise of one tensor.
    known: position -> measured KL.

  Raises:
    ValueError: there is noise, and nothing is known.
  """
  noise = np.asarray(noise, np.float64)
  if not (noise > 0).any():
    return np.zeros(len(noise))
  places = sorted(known, key=lambda i: noise[i])
  if not places:
    raise ValueError(f"{len(noise)} formats of a tensor, none of them measured")
  x = np.log(np.maximum(noise[places], LEAST))
  y = np.log(np.maximum([known[i] for i in places], LEAST))
  y = np.maximum.accumulate(y)
  at = np.log(np.maximum(noise, LEAST))
  inside = np.interp(at, x, y)
  found = np.exp(inside + np.minimum(at - x[0], 0) + np.maximum(at - x[-1], 0))
  return np.where(noise > 0, found, 0.0)


def second_order(
  noise: np.ndarray, known: Mapping[int, float], most: float = 0.1
) -> np.ndarray:
  """float64 [F]: KL of every format if it were proportional to the noise.

  The factor is the geometric mean over the measured formats of at most `most`
  nats, or that of the least noise where all are above.

  Args:
    noise: float64 [F], noise of one tensor.
    known: position -> measured KL.
    most: divergence up to which it is taken for proportional.
  """
  noise = np.asarray(noise, np.float64)
  known = {i: kl for i, kl in known.items() if noise[i] > 0 and kl > 0}
  if not known:
    return np.zeros(len(noise))
  small = [i for i, kl in known.items() if kl <= most]
  small = small or [min(known, key=lambda i: noise[i])]
  logs = [np.log(known[i] / noise[i]) for i in small]
  return np.exp(np.mean(logs)) * noise


class LossAgreement(NamedTuple):
  """Predictions against measurements that they have not seen.

  Attributes:
    predicted, measured: [P], predictions and measurements.
    spearman: rank correlation, 1 if the order is the same.
    factor: exp of the median of |log(predicted / measured)|: half of the
      predictions are at most by this factor wrong.
  """

  predicted: np.ndarray
  measured: np.ndarray
  spearman: float
  factor: float


def agreement(
  predicted: Sequence[float], measured: Sequence[float]
) -> LossAgreement:
  """How well `P` predictions agree with measurements; needs two at least."""
  from scipy import stats

  if len(predicted) < 2 or len(predicted) != len(measured):
    raise ValueError(
      f"{len(predicted)} predictions and {len(measured)} measurements, "
      "expected as many, and two at least"
    )
  x, y = np.array(predicted, np.float64), np.array(measured, np.float64)
  logs = np.log(np.maximum(x, LEAST)) - np.log(np.maximum(y, LEAST))
  factor = np.exp(np.median(np.abs(logs)))
  return LossAgreement(
    x, y, float(stats.spearmanr(x, y).statistic), float(factor)
  )


def scale(divergences: Sequence[float], drops: Sequence[float]) -> float:
  """Accuracy lost for each nat: the ratio of sums, at least 1e-6.

  Of networks whose weights, or activations, or both, have one format, so that
  it is not measured on the mixed ones that it will predict. Sums weigh the
  coarse formats most, whose drops are above the noise of the images.

  Args:
    divergences: predicted KL of each network.
    drops: measured loss of accuracy of each network; negative ones count as
      they are.
  """
  total = float(np.sum(divergences))
  if not total > 0:
    raise ValueError(
      f"divergences of {len(divergences)} networks sum to {total}, expected "
      "more than 0: formats that change something"
    )
  return max(float(np.sum(drops)) / total, 1e-6)
