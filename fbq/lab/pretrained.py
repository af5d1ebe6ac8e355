"""The float network of an experiment, out of a checkpoint of a framework."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fbq.config import ConfigError, Settings, brought
from fbq.config_words import cut, shown
from fbq.lab.settings import Training
from fbq.model import Model
from fbq.nets.graph import Net
from fbq.train import torch_weights

KINDS = ("params", "batch_stats")


def is_given(settings: Settings) -> bool:
  """Whether the float network is loaded and not trained."""
  return isinstance(settings, Training) and bool(settings.float_checkpoint)


def load(
  settings: Training, net: Net
) -> tuple[dict[str, Any], torch_weights.Report]:
  """Variables of the float network, and what became of every leaf and key.

  Raises:
    ConfigError: the file cannot be read, or anything in it or in the network
      has no counterpart; lists the first of it.
  """
  given = settings.checkpoint_layout
  names = brought("layout", given, "checkpoint_layout") if given else None
  mean_and_std: Any = settings.checkpoint_images or None  # a pair
  try:
    state = torch_weights.read(settings.float_checkpoint)
    return torch_weights.load(
      net, state, _zeros(net), names=names, normalized=mean_and_std
    )
  except (ValueError, TypeError, ModuleNotFoundError) as error:
    raise ConfigError(
      f"config.float_checkpoint is {shown(settings.float_checkpoint)}: "
      f"{cut(str(error), 1500)}"
    ) from error


def _zeros(net: Net) -> Mapping[str, Any]:
  images = jnp.zeros((1, *net.input_shape))
  shapes = jax.eval_shape(
    lambda: Model(net).init(jax.random.key(0), images, train=False)
  )
  shapes = {kind: shapes.get(kind, {}) for kind in KINDS}
  return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
