"""What a measurement can be set to, and its checks before anything runs."""

import dataclasses
import importlib.util

from pydantic import Field

from fbq.config import ConfigError, Seed
from fbq.deploy import mixed_layers
from fbq.experiments.measure import inputs
from fbq.lab.lab import Lab
from fbq.lab.settings import FloatNet
from fbq.nets.graph import Net


class Measuring(FloatNet):
  """Layers timed on this machine, precisions chosen by them and timed again.

  Without a checkpoint weights are random, which tell times and no more.
  """

  experiment: str = "measure"
  "Experiment: a short name, or 'package.module:attribute'."
  images: str = ""
  "File of images on which harm is measured: .npy, float [N, H, W, C], 0 to 1; \
  '': pictures of smooth noise."
  harm_images: int = Field(4, ge=1, le=10_000)
  "Images on which harm is measured."
  rounds: int = Field(25, ge=2, le=10_000)
  "Runs of every network that count; a published number needs 20 or more."
  mixtures: int = Field(10, ge=2, le=200)
  "Networks of random mixtures in which layers and conversions are timed."
  seed: Seed = 0
  "Seed of weights, pictures and mixtures."


def net_of(lab: Lab) -> Net:
  """The network of an experiment with every precision free but the image's.

  On PULP clusters tensors that meet at an adder have 8 bits; not here.
  """
  return dataclasses.replace(lab.net, fixes_adders=False)


def check(settings: Measuring, lab: Lab) -> None:
  """Raises ConfigError for what cannot be measured here."""
  missing = [
    name
    for name in ("onnx", "onnxruntime")
    if importlib.util.find_spec(name) is None
  ]
  if missing:
    raise ConfigError(
      f"{' and '.join(missing)} are not installed, which run the layers: "
      "pip install 'fbq[deploy]'"
    )
  try:
    mixed_layers.check_supported(lab.net)
  except ValueError as error:
    raise ConfigError(f"config.net: {error}") from error
  inputs.pictures(settings, lab.net)
  if settings.float_checkpoint:
    inputs.variables(settings, lab.net)
