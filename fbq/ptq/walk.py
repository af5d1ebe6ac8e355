"""A network computed layer by layer on some images, each layer once."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbq.model import Model
from fbq.nets.graph import INPUT, Net
from fbq.schemes.scheme import Scheme

Array = jax.Array


class Walk:
  """What the layers of a network made of some images so far.

  Rounding layer by layer asks of each what those before it give. A forward pass
  for every layer would compute the first ones again each time: of
  EfficientNet-Lite0's 50 layers it would be 50 passes where this is one.

  Attributes:
    net: the network.
    batches: images [B, H, W, C] each, all of one shape.
    scheme: scheme that quantizes it; None for floating point.
    data: data of the scheme, such as the bits of every site.
  """

  def __init__(
    self,
    net: Net,
    variables: Mapping[str, Any],
    batches: Sequence[Array],
    scheme: Scheme | None = None,
    data: Any = None,
  ):
    self.net, self.scheme, self.data = net, scheme, data
    self._tensors: dict[str, list[Array]] = {}
    given = [[jnp.asarray(images)] for images in batches]
    self._tensors[INPUT] = self._made(INPUT, variables, given)

  def read(self, name: str) -> list[list[Array]]:
    """What a node reads, by batch, as the nodes before it were computed."""
    inputs = [self._tensors[each] for each in self.net.node[name].inputs]
    return [list(tensors) for tensors in zip(*inputs, strict=True)]

  def step(self, name: str, variables: Mapping[str, Any]) -> list[Array]:
    """What a node makes, by batch; what no later one reads is forgotten.

    Args:
      name: the node, the first that was not computed.
      variables: variables of the model, of which the node's are needed.
    """
    made = self._made(name, variables, self.read(name))
    self._tensors[name] = made
    at = [node.name for node in self.net.nodes].index(name) + 1
    later = {each for node in self.net.nodes[at:] for each in node.inputs}
    self._tensors = {k: x for k, x in self._tensors.items() if k in later}
    return made

  def _made(self, name, variables, given) -> list[Array]:
    own = {
      kind: {
        key: jax.tree.map(np.asarray, x)
        for key, x in tree.items()
        if kind == "ranges" or key.rpartition("_")[0] == name
      }
      for kind, tree in variables.items()
    }
    row = _row(self.net, self.scheme, name)
    return [row(own, tensors, self.data) for tensors in given]


@functools.lru_cache(maxsize=4096)
def _row(net: Net, scheme: Scheme | None, name: str) -> Callable[..., Array]:
  """Compiled (variables, what is read, data) -> what a node makes."""
  model = _Row(net, scheme, row=name)
  return jax.jit(lambda v, tensors, data: model.apply(v, tensors, False, data))


class _Row(Model):
  """One row of the table alone; the image is the row called "input"."""

  row: str = INPUT

  def _interpret(self, images, train, data, noise, frozen):
    quantizer = self._quantizer(len(images[0]), train, data, noise)
    if self.row == INPUT:
      return self._image(images[0], quantizer).value
    nodes = self.net.node
    inputs = [
      self._keep(x, name, quantizer)
      for x, name in zip(images, nodes[self.row].inputs, strict=True)
    ]
    return self._row(nodes[self.row], inputs, quantizer, train, frozen)
