"""Weights rounded up or down as is best for the layer's outputs.

AdaRound (Nagel et al., arXiv 2004.10568): one layer at a time, on calibration
data, without labels.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fbq.model import Model
from fbq.nets.graph import INPUT, Net
from fbq.quantizers.affine import Grid
from fbq.train.steps import compile_once

Array = jax.Array
# Ends of the sigmoid before it is clipped to 0 .. 1 (eq. 23).
_BOTTOM, _TOP = -0.1, 1.1
# All layers have this name while they are rounded, so that those of the same
# shape are the same network.
_ALONE = "layer"


@dataclasses.dataclass(frozen=True)
class Settings:
  """How the rounding of a layer is found; defaults of the paper.

  Attributes:
    steps: steps of Adam.
    batch: images of a step.
    learning_rate: learning rate of the variables behind the roundings.
    strength: weight of the regularizer that drives roundings to 0 and 1.
    warmup: share of the steps before the regularizer sets in.
    exponents: exponents of the regularizer at its start and at its end: a high
      one leaves all but the nearly decided alone, 2 leaves none.
  """

  steps: int = 10_000
  batch: int = 32
  learning_rate: float = 1e-2
  strength: float = 0.01
  warmup: float = 0.2
  exponents: tuple[float, float] = (20.0, 2.0)


class Rounded(NamedTuple):
  """A layer's weights on their grid.

  Attributes:
    kernel: float32, numbers of the grid.
    error: mean squared error of the layer's outputs, over images, pixels and
      channels.
    nearest_error: mean squared error if weights are rounded to the nearest.
  """

  kernel: np.ndarray
  error: float
  nearest_error: float


def alone(net: Net, name: str) -> Net:
  """The layer `name` as a network: without batch norm or activation function.

  Its image is the layer's input tensor, its output what the layer makes before
  its activation function, with the bias.

  Raises:
    ValueError: no such layer with weights.
  """
  node = net.node.get(name)
  if node is None or not node.has_weights:
    raise ValueError(
      f"net {net.name!r}: {name!r} is no layer with weights, expected one of "
      f"{[node.name for node in net.nodes if node.has_weights]}"
    )
  single = dataclasses.replace(
    node, inputs=(INPUT,), norm=False, activation="none", is_output=True
  )
  return Net(name, net.shapes[node.inputs[0]], (single,))


def round_layer(
  net: Net,
  name: str,
  params: Mapping[str, Any],
  grid: Grid,
  inputs: np.ndarray,
  targets: np.ndarray,
  key: Array,
  settings: Settings = Settings(),  # noqa: B008  frozen
) -> Rounded:
  """The weights of layer `name`, each rounded to one of its two neighbours.

  Minimizes the squared error of the layer's outputs, summed over channels, plus
  strength sum(1 - |2 h - 1|^exponent), over h in 0 .. 1 with which weights are
  floor(w / step) + h (eq. 21 to 24). It starts from h = w / step - floor, where
  weights are what they were. Weights beyond the ends of the grid stay clipped.

  Args:
    net: network with batch norms folded: what comes after the layer is not
      seen.
    name: name of the layer.
    params: parameters of the model of `net`.
    grid: grid of the layer's kernel, from `affine.grid`.
    inputs: [N, H, W, C], what the layer reads in the network quantized so far.
    targets: [N, ...], what the layer makes in the float network, before its
      activation function.
    key: key that the images of each step are drawn with.
    settings: how the rounding is found.

  Raises:
    ValueError: no such layer, it has a batch norm, or there are fewer images
      than a batch.
  """
  # A batch norm behind the layer would change what its outputs are worth.
  layer = _renamed(alone(net, name))
  if net.node[name].norm or not settings.batch <= len(inputs) == len(targets):
    raise ValueError(
      f"layer {name!r}: {len(inputs)} inputs, {len(targets)} targets, batch "
      f"norm {net.node[name].norm}; expected as many of both, "
      f"{settings.batch} (settings.batch) or more, and no norm "
      "(fbq.ptq.folding.fold)"
    )

  # All layers go by one name, so that those of one shape share a program.
  own = {
    f"{_ALONE}_{kind}": np.asarray(params[f"{name}_{kind}"])
    for kind in ("kernel", "bias", "scale")
    if f"{name}_{kind}" in params
  }
  channels = own[f"{_ALONE}_kernel"].shape[-1:]
  grid = jax.tree.map(lambda x: np.array(np.broadcast_to(x, channels)), grid)

  # h starts as the part of each weight above its lower neighbour: the weights
  # are at first what they were.
  position = np.asarray(own[f"{_ALONE}_kernel"] * (1.0 / grid.step))
  below = np.floor(position)
  rounding = _inverse(position - below)

  # Images are drawn before the loop, in numpy: nothing random is compiled.
  update, optimizer = _step(layer, settings)
  state = optimizer.init(rounding)
  picks = _picks(key, len(inputs), settings)
  for step in range(settings.steps):
    pick = picks[step]
    batch = inputs[pick], targets[pick]
    rounding, state = update(
      rounding, state, np.float32(step), own, grid, below, *batch
    )

  # Nearly all h are 0 or 1 by now; the others go to the nearer side. Rounding
  # to the nearest is measured beside it, as that is what one would do without.
  up = np.asarray(_share(rounding)) >= 0.5
  kernel = np.asarray(_on_grid(below + up, grid))
  nearest = np.asarray(_on_grid(np.rint(position), grid))
  errors = (
    float(_error(layer)(own, k, inputs, targets)) for k in (kernel, nearest)
  )
  return Rounded(kernel, *errors)


def _renamed(layer: Net) -> Net:
  (node,) = layer.nodes
  node = dataclasses.replace(node, name=_ALONE)
  return Net(_ALONE, layer.input_shape, (node,))


def _share(rounding: Array) -> Array:
  """h: the share by which a weight is rounded up (eq. 23)."""
  stretched = jax.nn.sigmoid(rounding) * (_TOP - _BOTTOM) + _BOTTOM
  return jnp.clip(stretched, 0.0, 1.0)


def _inverse(share: np.ndarray) -> Array:
  """The variable whose `_share` is `share`."""
  sigmoid = (share - _BOTTOM) / (_TOP - _BOTTOM)
  return jnp.asarray(np.log(sigmoid / (1.0 - sigmoid)), jnp.float32)


def _on_grid(position: Array | np.ndarray, grid: Grid) -> Array:
  """Weights at `position` steps from 0, clipped to the ends of the grid."""
  low, high = grid.low - grid.zero_point, grid.high - grid.zero_point
  return jnp.clip(position, low, high) * grid.step


def _outputs(layer: Net, own: Mapping[str, Any], kernel, inputs) -> Array:
  params = {**own, f"{_ALONE}_kernel": kernel}
  return jnp.asarray(Model(layer).apply({"params": params}, inputs, False))


@functools.lru_cache(maxsize=64)
def _step(layer: Net, settings: Settings) -> tuple[Callable, Any]:
  """A compiled step of Adam on the roundings, and its optimizer.

  One for all layers of the same shape: a MobileNetV1 has 19 shapes in 28.
  """
  optimizer = optax.adam(settings.learning_rate)
  first, last = settings.exponents
  start = settings.warmup * settings.steps

  def loss_of(rounding, step, own, grid, below, inputs, targets):
    share = _share(rounding)
    y = _outputs(layer, own, _on_grid(below + share, grid), inputs)
    error = jnp.mean(jnp.sum(jnp.square(y - targets), -1))
    time = jnp.clip((step - start) / (settings.steps - start), 0.0, 1.0)
    # Their code anneals by a cosine.
    exponent = last + (first - last) * 0.5 * (1.0 + jnp.cos(time * jnp.pi))
    undecided = jnp.sum(1.0 - jnp.abs(2.0 * share - 1.0) ** exponent)
    return error + jnp.where(step < start, 0.0, settings.strength) * undecided

  def update(rounding, state, *rest):
    gradient = jax.grad(loss_of)(rounding, *rest)
    change, state = optimizer.update(gradient, state)
    return optax.apply_updates(rounding, change), state

  return compile_once(update), optimizer


def _picks(key: Array, images: int, settings: Settings) -> np.ndarray:
  """[steps, batch]: which images each step sees, none twice in a step."""
  seed = int(jax.random.bits(key))
  random = np.random.default_rng(seed)
  return np.stack(
    [
      random.choice(images, settings.batch, replace=False)
      for _ in range(settings.steps)
    ]
  )


@functools.lru_cache(maxsize=64)
def _error(layer: Net) -> Callable[..., Array]:
  """A compiled mean squared error of a kernel's outputs."""

  def error(own, kernel, inputs, targets):
    return jnp.mean(jnp.square(_outputs(layer, own, kernel, inputs) - targets))

  return jax.jit(error)
