"""Images that nothing is trained or calibrated on: to choose by, or to test."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbq.config import ConfigError

_LARGEST = 8 << 30  # bytes of what is held in memory at once


@dataclasses.dataclass(frozen=True)
class HeldOut:
  """One split that nothing is trained or calibrated on.

  Attributes:
    batches: () -> (images, truth, weights) on the device, all of one shape:
      every image once with weight 1, filled up with weight 0. The truth of
      classifiers is labels [B].
    sources: () -> int64 [N], which source each image was made from, in the
      order of `batches`; images of one source are not independent.
  """

  batches: Callable[[], Iterator[tuple[Any, Any, Any]]]
  sources: Callable[[], np.ndarray]

  @functools.cached_property
  def count(self) -> int:
    """Number of images."""
    return len(self.sources())

  @functools.cached_property
  def everything(self) -> tuple[jax.Array, Any]:
    """All images and their truth at once, for what needs them in memory.

    Raises:
      ConfigError: they take more than 8 GiB.
    """
    # The first batch tells the size of an image, before all are kept
    kept = []
    for images, truth, weights in self.batches():
      needed = 4 * math.prod(images.shape[1:]) * self.count
      if needed > _LARGEST:
        raise ConfigError(
          f"{self.count:,} images that are held out take {needed / 1e9:.1f} GB "
          f"in memory, expected {_LARGEST / 1e9:.1f} at most: this needs a "
          "smaller test set, or a smaller data.validation_share"
        )
      counted = np.asarray(weights) > 0
      rows = lambda x, counted=counted: x[counted]
      kept.append(jax.tree.map(rows, (images, truth)))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *kept)


def independent(count: int) -> np.ndarray:
  """Sources of images of which each was made from its own."""
  return np.arange(count)
