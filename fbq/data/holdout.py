"""Which images are held out of training: a function of a share and a seed."""

import numpy as np


def count_of(total: int, share: float) -> int:
  """Images held out of `total`: their share, two at least; none for 0.

  One alone would tell nothing of its error.

  Raises:
    ValueError: none would be left to train on.
  """
  count = max(2, round(share * total)) if share else 0
  if count >= total:
    raise ValueError(
      f"data.validation_share is {share:g}, which holds {count:,} of "
      f"{total:,} training images out, expected some to be left to train on"
    )
  return count


def stratified(
  labels: np.ndarray, count: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
  """(rows that stay, rows held out), each int64, sorted by class.

  A class has the same share of both, to one image.

  Args:
    labels: [N], class of every image, or any number that is to be spread
      evenly.
    count: rows held out, at most N.
    random: draws which rows of a class they are.
  """
  order = random.permutation(len(labels))
  order = order[np.argsort(labels[order], kind="stable")]

  # Evenly spaced places in an order sorted by class are a stratified sample
  places = (np.arange(count) + 0.5) * len(order) / max(count, 1)
  is_held = np.zeros(len(order), bool)
  is_held[places.astype(int)] = True
  return order[~is_held], order[is_held]
