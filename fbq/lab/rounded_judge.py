"""A network whose weights were rounded at every precision, on given images."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbq.model import Model
from fbq.nets.graph import Net
from fbq.ptq import rounded_layers
from fbq.ptq.rounded_layers import RoundedLayer
from fbq.quantizers.site_ranges import Ranges
from fbq.schemes.fixed import Fixed
from fbq.train.steps import compile_once


@dataclasses.dataclass(frozen=True, eq=False)
class RoundedJudge:
  """Gives the logits of every assignment; one program serves all.

  Attributes:
    net: the network.
    variables: "params" and "batch_stats" in float.
    layers: weights at every precision of `ladder`.
    ladder: precisions of weights.
    ranges: {site: {bits: range}} of activations.
    images: [N, H, W, C].
    labels: int [N].
    batch: images at a time, in all images that it is asked about.
  """

  net: Net
  variables: Mapping[str, Any]
  layers: Mapping[str, RoundedLayer]
  ladder: Sequence[int]
  ranges: Ranges
  images: np.ndarray
  labels: np.ndarray
  batch: int = 32

  @functools.cached_property
  def _forward(self) -> Callable:
    model = Model(self.net, Fixed())
    return compile_once(lambda v, x, bits: model.apply(v, x, False, bits))

  def bits(self, assignment: Mapping[str, int]) -> np.ndarray:
    """int32 [S], what the scheme `Fixed` takes."""
    sites = self.net.workload.sites
    return np.array([assignment[site] for site in sites], np.int32)

  def at(self, assignment: Mapping[str, int]) -> dict[str, Any]:
    """Variables of an assignment."""
    return rounded_layers.variables_at(
      self.net,
      self.variables,
      self.layers,
      self.ladder,
      self.ranges,
      assignment,
    )

  def logits(
    self, bits: Mapping[str, int], variables=None, images=None
  ) -> np.ndarray:
    """float64 [N, classes] of an assignment.

    Args:
      bits: bits of every site.
      variables: variables other than those of `at`.
      images: images other than its own.
    """
    variables = self.at(bits) if variables is None else variables
    variables = jax.tree.map(np.asarray, dict(variables))
    images = self.images if images is None else images
    array = jnp.asarray(self.bits(bits))
    return in_batches(
      lambda x: self._forward(variables, x, array), images, self.batch
    )


def in_batches(
  function: Callable, images: np.ndarray, batch: int
) -> np.ndarray:
  """float64 [N, ...] of a function of batches of one size.

  The last batch is filled up with its first image.
  """
  found = []
  for start in range(0, len(images), batch):
    rows = np.arange(start, start + batch)
    rows = np.where(rows < len(images), rows, start)
    part = np.asarray(function(images[rows]), np.float64)
    found.append(part[: len(images) - start])
  return np.concatenate(found)
