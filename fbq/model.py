"""The one Flax module: runs a `Net` in floating point or quantized.

Variable collections, all plain trees:
  params       weights, biases, batch norm's scale and offset
  batch_stats  batch norm's running mean and variance
  ranges       site -> largest magnitude of the tensor: [] for activations,
               [O] for weights, one per output channel ([] for the classifier)
  gates        "logits" [G, 2] of the precision search
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fbq import ops
from fbq.nets.graph import INPUT, INPUT_SITE, Net, Node
from fbq.quantizers import bayesian_bits, gates, uniform

Array = jax.Array

MODES = ("float", "fixed", "search")


@dataclasses.dataclass(frozen=True)
class GateGroups:
  """Which sites share gates.

  Attributes:
    of_site: per site of the workload, the row of its gates in `gates/logits`;
      -1 where the precision is fixed.
    count: number of rows `G`.
  """

  of_site: tuple[int, ...]
  count: int


def gate_groups(net: Net, locked: bool) -> GateGroups:
  """Gates of the search over the free sites of `net`.

  Free gates: one group per site. Locked (the authors' `shared_gates`): the
  weights of a layer share the gates of the activation it reads. Where several
  layers read one tensor they are all locked together; the authors tie the first
  of them only (quantization_facts.md 3.2), which leaves the others unlocked.
  """
  sites = net.workload.sites
  parent = {site: site for site in sites}
  if locked:
    for layer, reads in zip(
      net.workload.layers, net.workload.input_sites, strict=True
    ):
      if layer.has_weights and reads[0] not in net.fixed_bits:
        parent[net.workload.weight_site(layer)] = reads[0]
  rows: dict[str, int] = {}
  of_site = []
  for site in sites:
    if site in net.fixed_bits:
      of_site.append(-1)
    else:
      of_site.append(rows.setdefault(parent[site], len(rows)))
  return GateGroups(tuple(of_site), len(rows))


class Model(nn.Module):
  """Interprets a `Net`.

  Attributes:
    net: the network.
    mode: "float", "fixed" (precision from `bits`) or "search" (from gates).
    groups: of the gates, in search mode.
    faithful: the authors' gradients in search mode, see `nested_quantize`.
  """

  net: Net
  mode: str = "float"
  groups: GateGroups = GateGroups((), 0)
  faithful: bool = False

  @nn.compact
  def __call__(
    self,
    images: Array,
    train: bool,
    bits: Array | None = None,
    noise: Mapping[str, Array] | None = None,
  ) -> Array:
    """Logits [B, classes] of images [B, H, W, C] with values in [0, 1].

    Args:
      images: the batch.
      train: normalize by the statistics of the batch and update the running
        ones.
      bits: int [S], precision of every site in the order of the workload (fixed
        mode).
      noise: uniform noise of the gates, see `gate_noise` (search mode); None
        means gates at their median.

    Every tensor is also sown as "intermediates" under its node's name, before
    its quantizer, for calibration and for finding the first bad value.
    """
    quantizer = self._quantizer(images, bits, noise)
    ranges = self._activation_ranges()

    def activate(x, name):
      site = self.net.site_of[name]
      if quantizer is None or site is None:
        return x
      signed = self.net.is_signed[site]
      return quantizer.activation(x, ranges[site], site, signed)

    tensors = {INPUT: activate(images, INPUT)}
    for node in self.net.nodes:
      x = self._compute(
        node, [tensors[name] for name in node.inputs], quantizer
      )
      if node.norm:
        x = nn.BatchNorm(
          use_running_average=not train,
          momentum=0.9,
          epsilon=1e-5,
          name=f"{node.name}_norm",
        )(x)
      self.sow("intermediates", node.name, x)
      if node.activation == "relu" and (quantizer is None or node.is_output):
        x = nn.relu(x)  # else done by the unsigned quantizer, which clips at 0
      tensors[node.name] = activate(x, node.name)
    return tensors[self.net.nodes[-1].name]

  def _quantizer(self, images, bits, noise):
    """What quantizes tensors in this mode; None in floating point."""
    sites = self.net.workload.sites
    if self.mode == "fixed":
      # Not zip: iterating over more than a hundred fails while tracing.
      return _Fixed({site: bits[i] for i, site in enumerate(sites)})
    if self.mode != "search":
      return None
    logits = self.variable(
      "gates", "logits", jnp.full, (self.groups.count, 2), 2.0, jnp.float32
    ).value
    if noise is None:
      weights = gates.FREE_BITS.mean(logits)
      activations = jnp.broadcast_to(weights, (len(images), *weights.shape))
    else:
      weights = gates.FREE_BITS.sample(logits, noise["weights"])
      activations = gates.FREE_BITS.sample(logits, noise["activations"])
    rows = dict(zip(sites, self.groups.of_site, strict=True))
    return _Gated(
      rows, self.net.fixed_bits, weights, activations, self.faithful
    )

  def _compute(self, node: Node, inputs: list[Array], quantizer) -> Array:
    x = inputs[0]
    if node.op == "add":
      return x + inputs[1]
    if node.op in ("avg_pool", "max_pool"):
      pool = nn.avg_pool if node.op == "avg_pool" else nn.max_pool
      window = node.kernel or x.shape[1:3]
      return pool(x, window, (node.stride,) * 2, ops.edges(node.padding))
    height, width = node.kernel or x.shape[1:3]
    x = x.reshape(len(x), -1) if node.op == "linear" else x
    channels = x.shape[-1]
    features = channels if node.op == "depthwise" else node.features
    fan_in = height * width * (1 if node.op == "depthwise" else channels)
    shape = {
      "conv": (height, width, channels, features),
      "depthwise": (height, width, 1, features),
      "linear": (channels, features),
    }[node.op]
    kernel = self.param(
      f"{node.name}_kernel",
      nn.initializers.normal((2.0 / fan_in) ** 0.5),
      shape,
    )
    kernel = self._quantize_weight(kernel, node, quantizer)
    if node.op == "conv":
      x = ops.conv(x, kernel, node.stride, node.padding)
    elif node.op == "depthwise":
      x = ops.depthwise(x, kernel, node.stride, node.padding)
    else:
      x = x @ kernel
    if node.bias:
      x = x + self.param(
        f"{node.name}_bias", nn.initializers.zeros, (features,)
      )
    return x

  def _quantize_weight(self, kernel: Array, node: Node, quantizer) -> Array:
    """`kernel` quantized per output channel; the classifier's as a whole.

    In the search the range is the largest magnitude of the moment, as in the
    authors' code; at a fixed precision it is learned.
    """
    if quantizer is None:
      return kernel
    site = f"{node.name}.weight"
    if self.mode == "search":
      range_ = jax.lax.stop_gradient(weight_range(kernel, node))
    else:
      range_ = self.variable("ranges", site, weight_range, kernel, node).value
    range_ = jnp.expand_dims(range_, weight_axes(kernel, node))
    return quantizer.weight(kernel, range_, site)

  def _activation_ranges(self) -> dict[str, Array]:
    """Largest magnitude of every activation site; 1 for the image."""
    if self.mode == "float":
      return {}
    ranges = {INPUT_SITE: jnp.float32(1.0)}
    for site in self.net.is_signed:
      if site != INPUT_SITE:
        start = lambda: jnp.float32(6.0)
        ranges[site] = self.variable("ranges", site, start).value
    return ranges


class _Fixed(NamedTuple):
  """Quantizes every tensor to its given bits."""

  bits: Mapping[str, Array]

  def weight(self, x, range_, site):
    return uniform.quantize(x, range_, self.bits[site], True)

  def activation(self, x, range_, site, signed):
    return uniform.quantize(x, range_, self.bits[site], signed)


class _Gated(NamedTuple):
  """Mixes the 2-, 4- and 8-bit tensors by gates: [G, 2], [B, G, 2]."""

  row: Mapping[str, int]
  fixed: Mapping[str, int]
  weights: Array
  activations: Array
  faithful: bool

  def weight(self, x, range_, site):
    z4, z8 = self.weights[self.row[site]]
    return bayesian_bits.nested_quantize(
      x, range_, (z4, z8), True, self.faithful
    )

  def activation(self, x, range_, site, signed):
    if site in self.fixed:
      return uniform.quantize(x, range_, jnp.int32(self.fixed[site]), signed)
    z = self.activations[:, self.row[site]].T
    z4, z8 = z.reshape(2, len(x), *(1,) * (x.ndim - 1))
    return bayesian_bits.nested_quantize(
      x, range_, (z4, z8), signed, self.faithful
    )


def weight_axes(kernel: Array, node: Node) -> tuple[int, ...]:
  """Axes of a kernel that share a range."""
  return tuple(range(kernel.ndim - (node.op != "linear")))


def weight_range(kernel: Array, node: Node) -> Array:
  """Largest magnitude per output channel [O]; [] for the classifier.

  At least 1e-8, so that an all-zero channel has a step.
  """
  return jnp.maximum(jnp.max(jnp.abs(kernel), weight_axes(kernel, node)), 1e-8)


def gate_noise(key: Array, groups: GateGroups, batch: int) -> dict[str, Array]:
  """Uniform noise in (0, 1): a draw per group, and per sample and group."""
  weights, activations = jax.random.split(key)
  tiny = float(np.finfo(np.float32).tiny)
  draw = lambda k, shape: jax.random.uniform(k, shape, minval=tiny)
  return {
    "weights": draw(weights, (groups.count, 2)),
    "activations": draw(activations, (batch, groups.count, 2)),
  }
