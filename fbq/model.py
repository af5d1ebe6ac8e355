"""The one Flax module: runs a `Net` in floating point or quantized.

Variable collections, all plain trees:
  params       weights, biases, norms' scales and offsets, layer scales
  batch_stats  batch norm's running mean and variance
  averages     of ranges that move with the data, see `fbq.schemes.fixed`
  ranges       site -> largest magnitude of the tensor: [] for activations, of
               `Net.step_site`'s values alone; [O] for weights, one per output
               channel ([] for the classifier)
  gates        what a search trains to choose precisions, see `fbq.schemes`
"""

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from fbq import attention, backend, halves, norms, ops
from fbq.nets.graph import INPUT, Net, Node
from fbq.schemes.scheme import Call, IntegerQuantizer, Quantizer, Scheme

Array = jax.Array
_SMOOTH = {
  "gelu": functools.partial(nn.gelu, approximate=False),
  "sigmoid": nn.sigmoid,
  "silu": nn.silu,
}
# Means of an even number of integers often end in a half, where the noise of
# float32 would decide. This much more, they are rounded up, as integer kernels
# do; means that end in less are still rounded down, up to 512 pixels of 8 bits.
_ABOVE_A_TIE = 2.0**-17


class _Folded(NamedTuple):
  """A quantizer of weights times a factor of each output channel."""

  quantizer: Quantizer
  fold: Array

  def weight(self, kernel, node):
    return self.quantizer.weight(kernel * self.fold, node) / self.fold

  def activation(self, x, site):
    return self.quantizer.activation(x, site)

  def weight_unit(self, kernel, node):
    return self.quantizer.weight_unit(kernel * self.fold, node) / self.fold

  def activation_unit(self, site):
    return self.quantizer.activation_unit(site)


class Model(nn.Module):
  """Interprets a `Net`.

  Attributes:
    net: the network.
    scheme: how its tensors are quantized; None is floating point.
    norm: what batch norms do in training, one of `norms.MODES`.
    axis_name: axis over which plain batch norms average under `jax.pmap`;
      without, a batch spread over devices has one mean all the same.
    compute_dtype: what is multiplied and kept between operators, one of
      `halves.TYPES`.
  """

  net: Net
  scheme: Scheme | None = None
  norm: str = norms.ABSORB
  axis_name: str | None = None
  compute_dtype: str = halves.FLOAT32

  @nn.compact
  def __call__(
    self,
    images: Array,
    train: bool,
    data: Any = None,
    noise: Any = None,
    frozen: Array | bool = False,
  ) -> Array | dict[str, Array]:
    """Logits [B, classes] of images [B, H, W, C] with values in [0, 1].

    Of a network of several outputs {node: tensor [B, H, W, C]}.

    Args:
      images: the batch.
      train: whether batch norms use the statistics of the batch, and update the
        running ones.
      data: data of the scheme; for `Fixed` int [S], the bits of every site in
        the order of the workload.
      noise: random draws of the scheme, from its `noise`; None for a
        deterministic pass.
      frozen: bool [], whether statistics of batch norms neither move nor follow
        the batch; in the mode "correct_then_freeze" alone.

    Every tensor is also sown as "intermediates" under its node's name, behind
    its clip and before its ReLU and its quantizer, for calibration and for
    finding the first bad value. Products are exact to float32 but in training,
    see `backend.products`.
    """
    with backend.products(exact=not train):
      return self._interpret(images, train, data, noise, frozen)

  def _interpret(self, images, train, data, noise, frozen):
    quantizer = self._quantizer(len(images), train, data, noise)

    # The table, row by row. Names of variables are the nodes'.
    tensors, outputs, x = {INPUT: self._image(images, quantizer)}, {}, images
    for node in self.net.nodes:
      x = self._row(
        node, [tensors[name] for name in node.inputs], quantizer, train, frozen
      )
      tensors[node.name] = self._keep(x, node.name, quantizer)
      if node.is_output:
        outputs[node.name] = x
    return x if len(outputs) == 1 else outputs

  def _quantizer(self, batch, train, data, noise) -> Quantizer | None:
    """That of the scheme; without one every tensor stays in floating point."""
    if self.scheme is None:
      return None
    # flax makes a variable once, a quantizer may ask for it twice.
    made = {}

    def variable(kind, name, *start):
      if (kind, name) not in made:
        made[kind, name] = self.variable(kind, name, *start).value
      return made[kind, name]

    return self.scheme.quantizer(
      Call(self.net, variable, train, batch, data, noise, self._update)
    )

  def _image(self, images, quantizer) -> halves.Kept:
    x = self._activate(images, INPUT, quantizer)
    if self.net.image_zero:
      x = x - jnp.array(self.net.image_zero, jnp.float32) / 255
    return self._keep(x, INPUT, quantizer)

  def _row(
    self,
    node: Node,
    inputs: list[halves.Kept],
    quantizer: Quantizer | None,
    train: bool,
    frozen: Array | bool,
  ) -> Array:
    """What a node makes of what it reads, quantized where it is made."""
    if node.norm and self.norm == norms.CORRECT:
      norm = norms.FreezableNorm(
        self.net.shapes[node.name][2], name=f"{node.name}_norm"
      )
      folded = quantizer and _Folded(quantizer, norm.fold())
      x = norm(self._compute(node, inputs, folded), train, frozen)
    else:
      x = self._compute(node, inputs, quantizer)

    # Plain batch norm after the quantized weights: see `norms`.
    if node.norm and self.norm == norms.ABSORB:
      x = nn.BatchNorm(
        use_running_average=not train,
        momentum=norms.MOMENTUM,
        epsilon=norms.EPSILON,
        axis_name=self.axis_name,
        name=f"{node.name}_norm",
      )(x)

    # A ReLU may be the quantizer's, a smooth function never is. A clip comes
    # first, so that ranges are seen, and codes made, behind it.
    if node.activation in _SMOOTH:
      x = _SMOOTH[node.activation](x)
    if node.clip:
      x = jnp.minimum(x, node.clip)
    self.sow("intermediates", node.name, x)
    return self._activate(x, node.name, quantizer, node.activation == "relu")

  def _activate(self, x, name, quantizer, relu=False) -> Array:
    """A tensor quantized once, however many nodes read it."""
    site = self.net.site_of[name]
    if quantizer is None or site is None:
      return nn.relu(x) if relu else x
    if relu and self.net.is_signed[site]:
      x = nn.relu(x)  # else done by the unsigned quantizer, which clips at 0
    if name in self.net.parts:
      return x
    # Blocks lie along what a product sums over
    if (view := self.net.block_view.get(site)) is not None:
      return view.undone(quantizer.activation(view.of(x), site))
    return quantizer.activation(x, site)

  def _keep(self, x, name, quantizer) -> halves.Kept:
    """What is quantized is kept by its codes, where numbers are halves."""
    unit, site = 1.0, self.net.site_of[name]
    is_quantized = quantizer and site and name not in self.net.parts
    if is_quantized and self.compute_dtype != halves.FLOAT32:
      unit = quantizer.activation_unit(site)
    return halves.keep(x, unit, self.compute_dtype)

  def _update(self, collection: str, name: str, value: Array) -> None:
    if self.is_mutable_collection(collection):
      self.put_variable(collection, name, value)

  def _compute(
    self, node: Node, inputs: list[halves.Kept], quantizer: Quantizer | None
  ) -> Array:
    if node.has_weights:
      return self._multiply(node, inputs[0], quantizer)
    x, *others = (kept.value for kept in inputs)
    if node.op == "add":
      return x + others[0]
    if node.op == "scale":
      return x * others[0]
    if node.op == "concat":
      return jnp.concatenate([x, *others], axis=-1)
    if node.op == "layer_norm":
      return nn.LayerNorm(epsilon=1e-6, name=f"{node.name}_norm")(x)
    if node.op in ("scores", "attend"):
      return attention.product(node.op, x, others[0], node.heads)
    if node.op == "softmax":
      return nn.softmax(x)
    if node.op == "embed":
      return self._embed(node, x)
    if node.op == "upsample":
      return ops.upsample(x, node.stride, node.smooth)
    if node.op in ("tokens", "maps"):
      return x.reshape(len(x), *self.net.shapes[node.name])
    if node.op == "select":
      return x[:, :1]
    pool = nn.avg_pool if node.op == "avg_pool" else nn.max_pool
    window = node.kernel or x.shape[1:3]
    x = pool(x, window, (node.stride,) * 2, ops.edges(node.padding))
    if node.op == "avg_pool" and quantizer is not None:
      x = x + jnp.abs(x) * _ABOVE_A_TIE
    return x

  def _embed(self, node: Node, x: Array) -> Array:
    """Tokens [B, N, 1, C] behind learned ones, with learned positions.

    Started as in ViT: positions with a standard deviation of 0.02, no tokens.
    """
    rows, _, channels = self.net.shapes[node.name]
    if more := rows - x.shape[1]:
      first = self.param(
        f"{node.name}_first", nn.initializers.zeros, (more, 1, channels)
      )
      first = jnp.broadcast_to(first, (len(x), *first.shape))
      x = jnp.concatenate([first, x], axis=1)
    return x + self.param(
      f"{node.name}_positions",
      nn.initializers.normal(0.02),
      (rows, 1, channels),
    )

  def _multiply(
    self, node: Node, kept: halves.Kept, quantizer: Quantizer | None
  ) -> Array:
    """A tensor by the kernel of its node; bias and layer scale follow."""
    # Started so that outputs have the variance of inputs behind a ReLU (He et
    # al., arXiv 1502.01852).
    layer = self.net.workload.layers[self.net.workload.index[node.name]]
    window = layer.kernel_height, layer.kernel_width
    inputs = 1 if node.op == "depthwise" else layer.in_channels
    summed = inputs * (1 if node.op == "conv_transpose" else math.prod(window))
    kernel = self.param(
      f"{node.name}_kernel",
      nn.initializers.normal((2.0 / summed) ** 0.5),
      (*(() if node.op == "linear" else window), inputs, layer.out_channels),
    )
    unit, whole = 1.0, kernel
    if quantizer is not None:
      if self.compute_dtype != halves.FLOAT32:
        unit = quantizer.weight_unit(kernel, node)
      kernel = quantizer.weight(kernel, node)

    # `ops` takes what is fast on the device at hand: on a CPU a grouped
    # convolution takes 5 to 46 times as long as shifted products.
    def multiply(x, kernel):
      if node.op == "linear":
        return x.reshape(len(x), -1) @ kernel
      if node.op == "depthwise":
        return ops.depthwise(x, kernel, node.stride, node.padding)
      if node.op == "conv_transpose":
        return ops.conv_transpose(x, kernel)
      if node.op == "channel_conv":  # channels are pixels of one channel
        row = x.reshape(len(x), 1, -1, 1)
        return ops.conv(row, kernel, 1, layer.padding).reshape(x.shape)
      return ops.conv(x, kernel, node.stride, node.padding)

    kernel = halves.keep(kernel, unit, self.compute_dtype)
    x = halves.product(multiply, kept, kernel)

    # Bias and layer scale come after the multiplication, in this order.
    if node.bias:
      bias = self.param(
        f"{node.name}_bias", nn.initializers.zeros, (layer.out_channels,)
      )
      if node.is_output and isinstance(quantizer, IntegerQuantizer):
        x = quantizer.output(x, bias, whole, node)
      else:
        x = x + bias
    if node.layer_scale:
      start = nn.initializers.constant(node.layer_scale)
      x = x * self.param(f"{node.name}_scale", start, (layer.out_channels,))
    return x
