"""How far apart the ranges of a layer's channels are: what one grid must hold.

Why one range for a whole layer fails is that folding a batch norm multiplies
each channel by gamma / sigma, and the widest channel sets the step of all
(whitepaper, arXiv 1806.08342, section 3.1.3 and appendix A). A channel that is
nearly constant on the data has next to no sigma, and so the widest weights.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fbq.nets.graph import Net
from fbq.ptq.folding import fold
from fbq.quantizers import range_rules

_CODES = 2**8


class Spread(NamedTuple):
  """The channels of one layer under one asymmetric 8-bit grid.

  Attributes:
    layer: name of the node.
    op: of the node.
    before: largest range of a channel over their median, weights as trained.
    after: the same with the batch norm folded into the weights.
    codes: of 256 that the median channel's weights can have, after folding.
    lost: share of channels with a range below one step, after folding: their
      weights have two codes at most.
    variance: what the batch norm keeps of the folded layer's widest channel,
      over the median of all.
  """

  layer: str
  op: str
  before: float
  after: float
  codes: float
  lost: float
  variance: float


def spreads(net: Net, variables: Mapping[str, Any]) -> list[Spread]:
  """A row for each layer with a batch norm.

  Ranges contain 0, as grids do, and are 1e-8 at least.

  Args:
    net: with its batch norms.
    variables: "params" and "batch_stats" of its model.
  """
  _, folded = fold(net, variables)
  rows = []
  for node in net.nodes:
    if not node.norm:
      continue
    name = f"{node.name}_kernel"
    before = _ranges(variables["params"][name])
    after = _ranges(folded["params"][name])
    variance = np.asarray(variables["batch_stats"][f"{node.name}_norm"]["var"])
    step = _whole(folded["params"][name]) / (_CODES - 1)
    rows.append(
      Spread(
        node.name,
        node.op,
        _ratio(before),
        _ratio(after),
        float(min(np.median(after) / step + 1, _CODES)),
        float(np.mean(after < step)),
        float(variance[np.argmax(after)] / np.median(variance)),
      )
    )
  return rows


def _ranges(kernel) -> np.ndarray:
  """[O]: of every channel, the distance from its least to its greatest."""
  range_ = range_rules.min_max(range_rules.columns(np.asarray(kernel), True))
  return np.asarray(range_.high - range_.low, np.float64)


def _whole(kernel) -> float:
  """That of all channels."""
  range_ = range_rules.min_max(range_rules.columns(np.asarray(kernel), False))
  return float(np.squeeze(range_.high - range_.low))


def _ratio(ranges: np.ndarray) -> float:
  return float(np.max(ranges) / np.median(ranges))
