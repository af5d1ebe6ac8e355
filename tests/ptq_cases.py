"""Narrow networks of every builder with batch norm, and variables for them."""

import jax
import numpy as np

from fbq.model import Model

TINY = {
  "ds_cnn": dict(classes=5, width=0.05, frames=13, coefficients=6),
  "googlenet": dict(classes=5, width=0.06, resolution=32),
  "inception_v3": dict(
    classes=5, width=0.06, resolution=32, blocks=(1, 1, 1), large_stem=False
  ),
  "mobilenet_v1": dict(classes=5, width=0.1, resolution=16),
  "mobilenet_v2": dict(
    classes=5, width=0.1, resolution=16, attention="adaptive"
  ),
  "resnet8": dict(classes=5, width=0.25, resolution=8),
  "resnet18": dict(classes=5, width=0.06, resolution=32),
  "resnet50": dict(classes=5, width=0.06, resolution=32),
  "vgg9": dict(classes=5, width=0.03, resolution=8),
}
IMAGES = np.random.default_rng(0).uniform(size=(2, 33, 33, 3))


def images(net):
  height, width, channels = net.input_shape
  return IMAGES[:, :height, :width, :channels].astype(np.float32)


def variables(net, seed=0):
  """Random, none of which a default hides: of a spread of a factor of 20."""
  shapes = jax.eval_shape(
    lambda key: Model(net).init(key, images(net), False), jax.random.key(0)
  )
  return filled(shapes, seed)


def filled(shapes, seed=0):
  """Such numbers for the params and batch_stats of a tree of shapes.

  No initializer is compiled, of which a large network has hundreds.
  """
  random = np.random.default_rng(seed)

  def fill(path, leaf):
    name = jax.tree_util.keystr(path)
    if "kernel" in name:
      fan_in = np.prod(leaf.shape[:-1])
      return random.normal(0, (2 / fan_in) ** 0.5, leaf.shape)
    if "var" in name or "scale" in name:
      return np.exp(random.uniform(-0.7, 0.7, leaf.shape))
    return random.normal(0, 0.2, leaf.shape)

  made = jax.tree_util.tree_map_with_path(fill, shapes)
  made = jax.tree.map(lambda x: x.astype(np.float32), made)
  return {
    kind: made[kind] for kind in ("params", "batch_stats") if kind in made
  }


def both(net, first, other, second):
  """Logits of two networks, compiled as one."""

  def run(a, b, x):
    return Model(net).apply(a, x, False), Model(other).apply(b, x, False)

  return jax.jit(run)(first, second, images(net))
