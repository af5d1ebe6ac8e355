"""A trained point of a finished BitQ run, as it was left: what is deployed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fbq import block_formats
from fbq.experiments import bfp_baselines, bitq_settings, settings
from fbq.experiments.bitq_training import digest
from fbq.experiments.stages import Lab, activations
from fbq.experiments.trained_point import BEST, Found, read_run, restore
from fbq.model import Model
from fbq.nets.graph import INPUT_SITE, Net
from fbq.schemes.block_float import BlockFloat, Data
from fbq.search import block_noise
from fbq.train.log import Log, Stopwatch


class BlockPoint(NamedTuple):
  """A network of block formats that a run trained.

  Attributes:
    name: of the network in the run.
    net: of the run.
    scheme, data: what it was trained in and with.
    variables: after training: params, batch_stats.
    images, labels: that the run was tested on.
    accuracy: that the run reports.
  """

  name: str
  net: Net
  scheme: BlockFloat
  data: Data
  variables: Mapping[str, Any]
  images: jax.Array
  labels: jax.Array
  accuracy: float


def find(directory: Path, point: str) -> Found:
  """Looks a point up, without loading it.

  Args:
    directory: workdir of a BitQ run.
    point: its name; that of a word, for the network recommended for it; or
      "best" for that of the shortest word.

  Raises:
    ConfigError: no finished run, or no such point, or a published format,
      which is trained in other blocks than those it is priced in.
  """
  directory = Path(directory)
  claim, result, sha256 = read_run(directory)
  if point == BEST:
    words = claim["words"]
    point = min(words, key=lambda name: words[name]["bits"])
  name = result["recommended"].get(point, point)
  file_name = "".join(c if c.isalnum() else "-" for c in name)
  found = Found(
    directory,
    claim,
    name,
    directory / "precision" / f"{file_name}.json",
    sha256,
  )
  names = [n for n in result["outcomes"] if n not in bfp_baselines.NAMES]
  if name not in names or not found.path.is_file():
    raise settings.ConfigError(
      f"config.point is {point!r}, expected 'best', a word or one of "
      f"{', '.join(sorted(names))}"
    )
  return found


def load(found: Found, log: Log) -> BlockPoint:
  """The point that was found, with its variables and the run's test images.

  The largest exponents of activations, which a run does not store, are taken
  once more from its float network and its calibration images.

  Raises:
    ConfigError: its network is missing.
    CheckpointError: its checkpoint is damaged.
  """
  config = ConfigDict(settings.without_digests(found.claim))
  checked = bitq_settings.check(config)
  net = checked.net
  formats = block_formats.from_json(net, found.path)
  candidate = bfp_baselines.of_formats(net, found.name, "", 0, formats)
  sizes = {s for word in config.words.values() for s in word.block_sizes}
  scheme = bfp_baselines.schemes(tuple(sizes))[candidate.scheme]
  lab = Lab(
    config,
    net,
    checked.task,
    found.directory,
    settings.fingerprint(found.claim),
    log,
    Stopwatch(),
  )
  image = jnp.zeros((1, *net.input_shape))
  shapes = jax.eval_shape(
    lambda: Model(net).init(jax.random.key(0), image, train=False)
  )
  shapes = {kind: shapes.get(kind, {}) for kind in ("params", "batch_stats")}
  before, _ = restore(lab, "float", lab.float_trainer, shapes)
  variables, results = restore(
    lab,
    f"qat-{candidate.scheme}-{digest(candidate)}",
    lab.trainer("qat", Model(net, scheme), ("params",)),
    shapes,
  )
  # The third of the run's keys, see `fbq.experiments.bitq`.
  key = jax.random.split(jax.random.key(config.seed), 5)[2]
  images, _ = lab.calibration_set(key)
  tensors = activations(net, before, images)
  tensors[INPUT_SITE] = np.asarray(images)
  data = Data(
    jnp.asarray(candidate.rows, jnp.int32),
    jnp.asarray(block_noise.tops(net, tensors)),
  )
  return BlockPoint(
    found.name,
    net,
    scheme,
    data,
    variables,
    *lab.test,
    accuracy=results["test"],
  )
