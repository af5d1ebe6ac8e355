"""The normalization of images, moved into the layers that read them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fbq.nets.graph import INPUT, Net


def folded(
  net: Net, variables: Mapping[str, Any], mean: Any, std: Any
) -> dict[str, Any]:
  """Variables of a network that reads x instead of (x - mean) / std.

  Exact but where the window of a layer reaches over the border of the image:
  there zeros mean the network's image_zero, and meant the mean colour.

  Args:
    net: the network.
    variables: "params" and, with batch norm, "batch_stats".
    mean: a number for each channel of the image.
    std: the same, positive.

  Raises:
    ValueError: numbers that do not fit the image, or a layer that reads it and
      cannot take them.
  """
  mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
  channels = net.input_shape[2]
  good = all(
    x.shape == (channels,) and np.isfinite(x).all() for x in (mean, std)
  )
  if not good or (std <= 0).any():
    raise ValueError(
      f"images are normalized by ({mean.tolist()}, {std.tolist()}), expected "
      f"{channels} means and {channels} positive deviations, of the "
      f"{channels} channels that {net.name} reads"
    )

  # The network takes its image_zero off by itself.
  mean = mean - np.array(net.image_zero or 0) / 255
  params = dict(variables["params"])
  stats = dict(variables.get("batch_stats", {}))
  for node in net.nodes:
    if INPUT not in node.inputs:
      continue

    # What the weights make of the mean is the same for every image.
    name, norm = f"{node.name}_kernel", f"{node.name}_norm"
    if node.op not in ("conv", "depthwise", "linear"):
      raise ValueError(
        f"net {net.name!r}: {node.name!r} ({node.op}) reads the image; only a "
        "layer with weights can take a normalization"
      )
    kernel = np.asarray(params[name], np.float64)
    outputs = kernel.shape[-1]
    if node.op == "depthwise":
      taken = kernel / std
      shift = taken.reshape(-1, outputs).sum(0) * mean
    else:  # the channels are the last that a linear layer flattens
      taken = kernel.reshape(-1, channels, outputs) / std[:, None]
      shift = np.einsum("pio,i->o", taken, mean)
    params[name] = taken.reshape(kernel.shape).astype(np.float32)

    # It goes where a constant of each output stands already.
    if node.norm:
      moved = np.asarray(stats[norm]["mean"], np.float64) + shift
      stats[norm] = {**stats[norm], "mean": moved.astype(np.float32)}
    elif node.bias:
      name = f"{node.name}_bias"
      moved = np.asarray(params[name], np.float64) - shift
      params[name] = moved.astype(np.float32)
    else:
      raise ValueError(
        f"net {net.name!r}: {node.name!r} has neither a norm nor a bias to "
        "take a normalization"
      )
  result = {**variables, "params": params}
  return result | ({"batch_stats": stats} if stats else {})
