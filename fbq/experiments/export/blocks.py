"""A trained network of block formats as packed codes and exponents.

Writes the network, reads it back and compares its logits on all test images
with those of the trained one, bit for bit.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fbq.deploy import block_artifact
from fbq.deploy.block_artifact import BlockNet
from fbq.experiments.export.attempts import Attempts
from fbq.experiments.export.results import BlockExport, BlockTensor
from fbq.lab import block_point
from fbq.lab.block_point import BlockPoint
from fbq.lab.finished import FinishedRun
from fbq.lab.lab import Lab

_BATCH = 360  # images at a time


def run(
  source: FinishedRun, name: str, lab: Lab, attempt: Attempts
) -> BlockExport:
  """The files of a network of block formats, and whether they hold it.

  Args:
    source: run whose record is `block_point.BlockResults`.
    name: point of the run.
    lab: where the export works.
    attempt: what tries its parts.
  """
  # ---- The trained network, and its logits
  with lab.clock.measure("trained network"):
    point = block_point.load(source, source.results.deployable(name))
    logits = _logits(point, point.variables, point.data)
  accuracy = float(np.mean(logits.argmax(-1) == np.asarray(point.labels)))

  # ---- Its files: the same logits, or no export
  written = attempt(
    "block network",
    lambda: _save(point, lab.workdir, logits),
    lab.workdir / "network.json",
    lab.workdir / "weights.npz",
  )

  # ---- The record
  return BlockExport(
    network=point.net.name,
    point=point.name,
    reported_accuracy=point.accuracy,
    images=len(logits),
    sizes=block_artifact.sizes(written) if written else {},
    failed=attempt.failed,
    accuracy=accuracy,
    logits=logits.size,
    tensors=tuple(_tensors(written)) if written else (),
  )


def _save(point: BlockPoint, workdir: Path, logits: np.ndarray) -> BlockNet:
  """Writes network.json and weights.npz; the network that is read back."""
  network = block_artifact.encode(
    point.net, point.variables, point.data, point.scheme
  )
  block_artifact.save(network, workdir)
  loaded = block_artifact.load(workdir)
  again = _logits(point, loaded.variables, loaded.data)
  if not np.array_equal(again, logits):
    raise RuntimeError("the files give back another network than written")
  return loaded


def _logits(point: BlockPoint, variables, data) -> np.ndarray:
  """[B, classes] of all test images."""
  return np.concatenate(
    [
      block_artifact.logits(
        point.net,
        point.scheme,
        variables,
        data,
        point.images[start : start + _BATCH],
      )
      for start in range(0, len(point.images), _BATCH)
    ]
  )


def _tensors(network: BlockNet) -> Iterator[BlockTensor]:
  """Every kernel, then the image and what every layer makes."""
  net, bytes_of = network.net, network.activation_bytes
  formats = dict(zip(net.workload.sites, network.formats.tolist(), strict=True))
  for site in network.weights:
    yield BlockTensor(site, tuple(formats[site]), network.weight_bytes(site))
  for name in net.shapes:
    site = net.site_of[name]
    yield BlockTensor(
      name, tuple(formats[site]) if site else None, bytes_of(name)
    )
