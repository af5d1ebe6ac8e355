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


def hypervolume(
  cost, value, reference_cost: float, reference_value: float
) -> float:
  """Area that a set of candidates dominates, as a share of what is possible.

  Of the rectangle of costs from 0 to `reference_cost` and values from
  `reference_value` to 1, the share for which some candidate costs no more and
  is worth no less (Zitzler and Thiele's measure in two dimensions). Candidates
  outside of the rectangle count with what lies inside.

  Args:
    cost: [P], at least 0.
    value: [P], shares such as accuracies.
    reference_cost: above 0.
    reference_value: below 1.

  Raises:
    ValueError: an impossible reference, or what `front` refuses.
  """
  # A reference at 0 or at 1 leaves no area to take a share of.
  if not (reference_cost > 0 and reference_value < 1):
    raise ValueError(
      f"hypervolume: the reference is ({reference_cost}, {reference_value}), "
      "expected a cost above 0 and a value below 1"
    )

  # The area under the steps of the front, cut to the rectangle.
  keep = front(cost, value)
  order = np.argsort(np.asarray(cost)[keep], kind="stable")
  cost = np.clip(np.asarray(cost, float)[keep][order], 0, reference_cost)
  value = np.maximum(np.asarray(value, float)[keep][order], reference_value)
  widths = np.diff(np.append(cost, reference_cost))
  area = float(np.sum(widths * (value - reference_value)))
  return area / (reference_cost * (1 - reference_value))
