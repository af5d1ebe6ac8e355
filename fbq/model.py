"""The one Flax module: runs a `Net` in floating point or quantized.

Variable collections, all plain trees:
  params       weights, biases, batch norm's scale and offset
  batch_stats  batch norm's running mean and variance
  ranges       site -> largest magnitude of the tensor: [] for activations,
               [O] for weights, one per output channel ([] for the classifier)
  gates        what a search trains to choose precisions, see `fbq.schemes`
"""

from typing import Any

import flax.linen as nn
import jax

from fbq import ops
from fbq.nets.graph import INPUT, Net, Node
from fbq.schemes.scheme import Call, Quantizer, Scheme

Array = jax.Array


class Model(nn.Module):
  """Interprets a `Net`.

  Attributes:
    net: the network.
    scheme: how its tensors are quantized; None is floating point.
  """

  net: Net
  scheme: Scheme | None = None

  @nn.compact
  def __call__(
    self, images: Array, train: bool, data: Any = None, noise: Any = None
  ) -> Array:
    """Logits [B, classes] of images [B, H, W, C] with values in [0, 1].

    Args:
      images: the batch.
      train: normalize by the statistics of the batch and update the running
        ones.
      data: of the scheme; for `Fixed` int [S], the bits of every site in the
        order of the workload.
      noise: of the scheme, from its `noise`; None for a deterministic pass.

    Every tensor is also sown as "intermediates" under its node's name, before
    its quantizer, for calibration and for finding the first bad value.
    """
    quantizer = None
    if self.scheme is not None:
      variable = lambda *args: self.variable(*args).value
      quantizer = self.scheme.quantizer(
        Call(self.net, variable, train, len(images), data, noise)
      )

    def activate(x, name):
      site = self.net.site_of[name]
      if quantizer is None or site is None:
        return x
      return quantizer.activation(x, site)

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

  def _compute(
    self, node: Node, inputs: list[Array], quantizer: Quantizer | None
  ) -> Array:
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
    if quantizer is not None:
      kernel = quantizer.weight(kernel, node)
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
