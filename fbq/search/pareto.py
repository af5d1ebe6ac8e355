"""Which candidates are worth having: the front of cost against value."""

import numpy as np


def front(cost, value) -> np.ndarray:
  """Mask bool [P] of the candidates that no other one dominates.

  A candidate dominates another if it costs no more and is worth no less, and
  is better in one of the two. Of candidates equal in both, all are on the front
  or none is.

  Args:
    cost: [P], less is better (cycles, bytes).
    value: [P], more is better (accuracy).

  Raises:
    ValueError: lengths differ, or a number is NaN or infinite.
  """
  cost, value = np.asarray(cost), np.asarray(value)
  if cost.ndim != 1 or cost.shape != value.shape:
    raise ValueError(
      f"front: cost has shape {cost.shape} and value {value.shape}, expected "
      "one number of each per candidate"
    )
  for name, numbers in (("cost", cost), ("value", value)):
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
      raise ValueError(
        f"front: {name} of candidates {bad[:8].tolist()} is "
        f"{numbers[bad[:8]].tolist()}, expected finite numbers"
      )

  # By rising cost, the most valuable first.
  order = np.lexsort((-value, cost))
  cost, value = cost[order], value[order]
  best = np.maximum.accumulate(value)

  # A candidate leads if it is worth more than everything before it. Those equal
  # to a leader in both numbers are on the front with it.
  leads = np.ones(len(order), bool)
  leads[1:] = value[1:] > best[:-1]
  leader = np.maximum.accumulate(np.where(leads, np.arange(len(order)), 0))
  mask = np.empty(len(order), bool)
  mask[order] = (cost == cost[leader]) & (value == value[leader])
  return mask
