"""How much integers of one layer or tensor change what a network answers."""

from collections.abc import Callable, Mapping

import numpy as np

from fbq import precision
from fbq.deploy import mixed_layers, onnx_mixed, onnx_timing
from fbq.deploy.mixed_layers import LADDER
from fbq.deploy.onnx_mixed import FloatNet
from fbq.nets.graph import INPUT

Progress = Callable[[int, int], None]


def choices(network: FloatNet) -> dict[str, tuple[int, ...]]:
  """{free site: precisions below float that are tried}, lowest first.

  Weights of 4 bits where an operator multiplies them: in linear layers.
  """
  net, found = network.net, {}
  for site in net.workload.free_sites:
    layer = site.removesuffix(".weight")
    linear = layer != site and net.node[layer].op == "linear"
    rungs = LADDER.weights if linear else LADDER.activations
    found[site] = tuple(bits for bits in rungs if bits < mixed_layers.FLOAT)
  return found


def logits(
  network: FloatNet, bits: Mapping[str, int], images: np.ndarray
) -> np.ndarray:
  """float64 [B, classes] of an assignment, as ONNX Runtime computes them."""
  session = onnx_timing.session(onnx_mixed.build(network, bits))
  (found,) = session.run(None, {INPUT: images})
  return np.asarray(found, np.float64)


def noise(found: np.ndarray, expected: np.ndarray) -> float:
  """Squared error of logits over the variance of the float network's."""
  return float(np.mean((found - expected) ** 2) / np.var(expected))


def measure(
  network: FloatNet,
  images: np.ndarray,
  progress: Progress = lambda done, of: None,
) -> dict[str, dict[int, float]]:
  """{free site: {bits: noise}} where all else is float; 0 of float itself.

  A layer with integer weights rounds what it reads and writes too.

  Args:
    network: float network.
    images: uint8 [B, C, H, W].
    progress: told how many sites are done, and how many there are.
  """
  float_ = precision.uniform(network.net, mixed_layers.FLOAT)
  expected = logits(network, float_, images)
  found = {}
  tried = choices(network)
  for i, (site, rungs) in enumerate(tried.items()):
    found[site] = {
      bits: noise(logits(network, float_ | {site: bits}, images), expected)
      for bits in rungs
    } | {mixed_layers.FLOAT: 0.0}
    progress(i + 1, len(tried))
  return found
