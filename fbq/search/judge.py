"""A network of fixed precision, judged on a calibration set."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbq.nets.graph import INPUT_SITE, Net

Array = jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
  """A network of fixed precision, and the images on which it is judged.

  Attributes:
    net: the network.
    forward: compiled, (variables, images [B, H, W, C], bits int32 [S]) ->
      logits [B, classes]; variables are `variables` with "ranges". Called with
      equal shapes and types always, so it compiles once.
    variables: params and batch_stats.
    ranges: {site: {bits: range}}, from `site_ranges`.
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
    # Ranges and bits are data: every assignment runs in the program that was
    # compiled for the first.
    sites = self.net.workload.sites
    ranges = ranges_of(self.net, self._ranges, bits)
    variables = {**self.variables, "ranges": ranges}
    array = jnp.array([bits[site] for site in sites], jnp.int32)
    parts = [self.forward(variables, x, array) for x, _, _ in self.batches()]
    logits = np.concatenate([np.asarray(part, np.float64) for part in parts])
    logits = logits[: len(self.images)]

    # The image is named, so that it can be looked at.
    bad = np.flatnonzero(~np.isfinite(logits).all(1))
    if len(bad):
      raise ValueError(
        f"{self.net.name}: logits of calibration image {bad[0]} are not finite "
        f"({len(bad)} images in all) at bits {dict(bits)}"
      )
    return logits


def ranges_of(
  net: Net, ranges: Mapping[str, Mapping[int, Any]], bits: Mapping[str, int]
) -> dict[str, Any]:
  """{site: its range at its bits}, of the sites that own one.

  Raises:
    ValueError: no range at these bits.
  """
  # Sites that share a step have one range, at their owner.
  ranged = [
    site
    for site in net.workload.sites
    if site == net.step_site.get(site, site) != INPUT_SITE
  ]
  lacking = [
    (site, bits[site])
    for site in ranged
    if bits[site] not in ranges.get(site, {})
  ]
  if lacking:
    raise ValueError(f"no ranges for (site, bits) {lacking[:5]}")
  return {site: ranges[site][bits[site]] for site in ranged}


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
