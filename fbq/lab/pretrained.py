"""The float network of an experiment, out of a file of a framework.

A checkpoint has weights by name. An .onnx or .tflite file has a network too,
which has to be that of the experiment.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbq.config import ConfigError, Settings, brought
from fbq.config_words import cut, shown
from fbq.lab import imported
from fbq.lab.settings import Training
from fbq.model import Model
from fbq.nets.graph import Net
from fbq.train import image_norm, torch_weights

KINDS = ("params", "batch_stats")


def is_given(settings: Settings) -> bool:
  """Whether the float network is loaded and not trained."""
  return isinstance(settings, Training) and bool(settings.float_checkpoint)


def load(
  settings: Any, net: Net
) -> tuple[dict[str, Any], torch_weights.Report]:
  """Variables of the float network, and what became of every leaf and key.

  Args:
    settings: those with float_checkpoint, checkpoint_layout and
      checkpoint_images.
    net: the network.

  Raises:
    ConfigError: the file cannot be read, or anything in it or in the network
      has no counterpart; lists the first of it.
  """
  given = settings.checkpoint_layout
  names = brought("layout", given, "checkpoint_layout") if given else None
  mean_and_std: Any = settings.checkpoint_images or None  # a pair
  try:
    if imported.is_file(settings.float_checkpoint):
      return _of_network(settings.float_checkpoint, net, mean_and_std)
    state = torch_weights.read(settings.float_checkpoint)
    return torch_weights.load(
      net, state, _zeros(net), names=names, normalized=mean_and_std
    )
  except (ValueError, TypeError, ModuleNotFoundError) as error:
    raise ConfigError(
      f"config.float_checkpoint is {shown(settings.float_checkpoint)}: "
      f"{cut(str(error), 1500)}"
    ) from error


def _of_network(file, net, mean_and_std):
  """Variables that read images in [0, 1], of a file with a network."""
  found = imported.checked(file).for_images(*(mean_and_std or ()))
  if found.net != net:
    names = ("mean", "std")[: len(mean_and_std or ())]
    arguments = {"file": file} | dict(
      zip(names, mean_and_std or (), strict=True)
    )
    raise ValueError(
      f"its network is not {net.name!r} as that is set; expected "
      f"config.net.builder {Path(file).suffix[1:]!r}, arguments {arguments}"
    )
  variables = dict.fromkeys(KINDS, {}) | found.variables
  if found.mean.any() or (found.std != 1).any():
    variables = image_norm.folded(net, variables, found.mean, found.std)

  leaves = jax.tree.leaves_with_path(variables)
  matched = tuple(
    ("/".join(key.key for key in path), "the file", np.shape(leaf))
    for path, leaf in leaves
  )
  note = "; ".join(found.notes)
  return variables, torch_weights.Report(matched, (), (), (), note)


def _zeros(net: Net) -> Mapping[str, Any]:
  images = jnp.zeros((1, *net.input_shape))
  shapes = jax.eval_shape(
    lambda: Model(net).init(jax.random.key(0), images, train=False)
  )
  shapes = {kind: shapes.get(kind, {}) for kind in KINDS}
  return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
