"""What is measured on: weights, and pictures."""

from typing import Any

import numpy as np

from fbq.config import ConfigError
from fbq.files import user_path
from fbq.lab import pretrained
from fbq.nets.graph import Net

CALIBRATION = 2  # pictures that ranges are taken from


def variables(settings: Any, net: Net) -> Any:
  """Those of the checkpoint, or random weights that keep the variance.

  Raises:
    ConfigError: the checkpoint does not fit.
  """
  if settings.float_checkpoint:
    return pretrained.load(settings, net)[0]
  random = np.random.default_rng(settings.seed)
  params: dict[str, Any] = {}
  stats: dict[str, Any] = {}
  for node, layer in zip(net.nodes, net.workload.layers, strict=True):
    if not node.has_weights:
      continue
    window = (layer.kernel_height, layer.kernel_width)
    fan_in = 1 if node.op == "depthwise" else layer.in_channels
    outputs = layer.out_channels
    shape = (*(() if node.op == "linear" else window), fan_in, outputs)
    spread = np.sqrt(2 / np.prod(shape[:-1]))
    kernel = random.normal(0, spread, shape)
    params[f"{node.name}_kernel"] = kernel.astype(np.float32)
    if node.bias:
      bias = random.normal(0, 0.1, outputs)
      params[f"{node.name}_bias"] = bias.astype(np.float32)
    if node.norm:
      ones, offset = np.ones(outputs), random.normal(0, 0.1, outputs)
      params[f"{node.name}_norm"] = {"scale": ones, "bias": offset}
      stats[f"{node.name}_norm"] = {"mean": 0 * ones, "var": ones}
  return {"params": params, "batch_stats": stats}


def pictures(settings: Any, net: Net) -> np.ndarray:
  """float [N, H, W, C]: those of the settings, or noise, smooth as pictures.

  Raises:
    ConfigError: no file of such pictures.
  """
  height, width, channels = net.input_shape
  count = max(settings.harm_images, CALIBRATION)
  if settings.images:
    path = user_path(settings.images)
    try:
      found = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
      raise ConfigError(f"config.images: {path}: {error}") from error
    if found.ndim != 4 or found.shape[1:] != net.input_shape or not len(found):
      raise ConfigError(
        f"config.images: {path} has shape {found.shape}, expected "
        f"[N, {height}, {width}, {channels}]"
      )
    if found.dtype == np.uint8:
      found = found / np.float32(255)
    found = found[:count]
    if found.dtype.kind != "f" or not (found.min() >= 0 and found.max() <= 1):
      raise ConfigError(
        f"config.images: {path} has {found.dtype} of {found.min()} to "
        f"{found.max()}, expected uint8, or floats from 0 to 1"
      )
    return found
  random = np.random.default_rng(settings.seed)
  made = np.zeros((count, height, width, channels))
  for size in (4, 16, 64):
    coarse = random.uniform(size=(count, size, size, channels))
    rows = np.linspace(0, size - 1e-6, height).astype(int)
    columns = np.linspace(0, size - 1e-6, width).astype(int)
    made += coarse[:, rows][:, :, columns] / 3
  return made
