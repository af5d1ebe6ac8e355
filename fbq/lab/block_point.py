"""A trained network of block formats of a finished run: what is deployed."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from fbq import block_formats
from fbq.lab.finished import FinishedRun, restored
from fbq.model import Model
from fbq.nets.graph import Net
from fbq.schemes.block_float import BlockFloat, Data
from hwsim.bfp import BlockFormat


class TrainedFormats(NamedTuple):
  """What a record tells of a network that can be deployed.

  Attributes:
    formats: {site: format}, in which it was trained.
    tops: largest exponent of every activation, in the order of the sites.
    scheme, training: what it was trained in, and the name of its training.
  """

  name: str
  formats: Mapping[str, BlockFormat]
  tops: tuple[int, ...]
  scheme: BlockFloat
  training: str


@runtime_checkable
class BlockResults(Protocol):
  """The record of an experiment that ends in networks of block formats."""

  def deployable(self, point: str) -> TrainedFormats:
    """The network of this name, or ConfigError."""
    ...


class BlockPoint(NamedTuple):
  """A network of block formats that a run trained.

  Attributes:
    scheme, data: what it was trained in and with.
    variables: after training: params, batch_stats.
    images, labels: test set of the run.
    accuracy: test accuracy that the run reports.
  """

  name: str
  net: Net
  scheme: BlockFloat
  data: Data
  variables: Mapping[str, Any]
  images: jax.Array
  labels: jax.Array
  accuracy: float


def load(run: FinishedRun, found: TrainedFormats) -> BlockPoint:
  """A network of a run, with its variables and the run's test images.

  Raises:
    ConfigError: its checkpoint is missing.
    CheckpointError: its checkpoint is damaged.
  """
  lab = run.lab
  image = jnp.zeros((1, *lab.net.input_shape))
  shapes = jax.eval_shape(
    lambda: Model(lab.net).init(jax.random.key(0), image, train=False)
  )
  shapes = {kind: shapes.get(kind, {}) for kind in ("params", "batch_stats")}
  model = Model(lab.net, found.scheme)
  trainer = lab.trainer(lab.settings.qat, model, ("params",))
  variables, results = restored(lab, found.training, trainer, shapes)
  formats = jnp.asarray(block_formats.to_array(lab.net, found.formats))
  return BlockPoint(
    found.name,
    lab.net,
    found.scheme,
    Data(formats, jnp.asarray(found.tops, jnp.int32)),
    variables,
    *lab.test,
    accuracy=results["test_accuracy"],
  )
