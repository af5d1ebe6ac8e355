"""Whether strategies differ: paired tests within seeds, corrected for many."""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence


def paired(first: Sequence[float], second: Sequence[float]) -> float:
  """Two-sided p of a paired t-test: that the mean difference is zero.

  NaN for fewer than two pairs.
  """
  from scipy import special

  differences = [a - b for a, b in zip(first, second, strict=True)]
  if len(differences) < 2:
    return math.nan
  mean = statistics.fmean(differences)
  error = statistics.stdev(differences) / math.sqrt(len(differences))
  if error == 0:
    return 1.0 if mean == 0 else 0.0
  return float(2 * special.stdtr(len(differences) - 1, -abs(mean) / error))


def holm(chances: Sequence[float]) -> list[float]:
  """The p of several tests, corrected so that all hold together.

  The k-th smallest of n is multiplied by n - k + 1, and none is below one that
  was smaller (Holm, Scandinavian Journal of Statistics 6, 1979). NaN, of what
  was not tested, stays and does not count.
  """
  order = sorted(
    (i for i, p in enumerate(chances) if not math.isnan(p)),
    key=lambda i: chances[i],
  )
  corrected, least = list(chances), 0.0
  for rank, i in enumerate(order):
    least = max(least, min(1.0, (len(order) - rank) * chances[i]))
    corrected[i] = least
  return corrected


def of_pairs(values: Mapping[str, Sequence[float]]) -> dict[frozenset, float]:
  """{two names: p that they do not differ}, corrected for all pairs by Holm.

  Where the best is picked by the same values its differences to the others are
  among the largest of all pairs: corrected for its own alone, they would be
  found by chance too often.
  """
  pairs = list(itertools.combinations(values, 2))
  tested = holm([paired(values[a], values[b]) for a, b in pairs])
  return dict(zip(map(frozenset, pairs), tested, strict=True))


def rank_correlation(
  first: Sequence[float], second: Sequence[float]
) -> float | None:
  """Spearman's, ties at their mean rank; None where one does not vary."""
  from scipy import stats

  if len(set(first)) < 2 or len(set(second)) < 2:
    return None
  return float(stats.spearmanr(first, second).statistic)
