"""The float network of an experiment, out of a PyTorch checkpoint.

Settings:
  float_checkpoint: a .npz or .safetensors file in torchvision's layout, see
    `fbq.train.torch_weights`; "" or left out: the network is trained.
  checkpoint_images: (mean, std) by channel of the images that it was trained
    on, as (x - mean) / std; () or left out: x, from 0 to 1. It is folded into
    the first layer, so that the network reads x, which is 8 unsigned bits.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fbq.experiments.settings import ConfigError
from fbq.model import Model
from fbq.nets.graph import Net
from fbq.train import torch_weights

KINDS = ("params", "batch_stats")


def is_given(config: ConfigDict) -> bool:
  """Whether the float network is loaded and not trained."""
  return bool(config.get("float_checkpoint"))


def load(
  config: ConfigDict, net: Net
) -> tuple[dict[str, Any], torch_weights.Report]:
  """Variables of the float network, and what became of every leaf and key.

  Raises:
    ConfigError: the file cannot be read, or anything in it or in the network
      has no counterpart; lists all of it.
  """
  mean_and_std = config.get("checkpoint_images") or None
  try:
    state = torch_weights.read(config.float_checkpoint)
    return torch_weights.load(net, state, _zeros(net), normalized=mean_and_std)
  except (ValueError, TypeError, ModuleNotFoundError) as error:
    raise ConfigError(
      f"config.float_checkpoint is {config.float_checkpoint!r}: {error}"
    ) from error


def check(config: ConfigDict, net: Net) -> None:
  """Raises ConfigError unless the checkpoint, if any, can be loaded."""
  if is_given(config):
    load(config, net)


def _zeros(net: Net) -> Mapping[str, Any]:
  images = jnp.zeros((1, *net.input_shape))
  shapes = jax.eval_shape(
    lambda: Model(net).init(jax.random.key(0), images, train=False)
  )
  shapes = {kind: shapes.get(kind, {}) for kind in KINDS}
  return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
