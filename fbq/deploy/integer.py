"""The integer network: what a microcontroller computes, and its reference run.

Per layer, codes of weights and the constants that turn accumulators into codes
of the output. Batch norm is absorbed in them, weights are not folded
(docs/facts/quantization.md 3.5, 3.7):

  conv, depthwise, linear   clip((acc * mul + add) >> shift)
  add        the sum of both codes, which have one step, like an accumulator
  avg_pool   clip((sum * mul + add) >> shift), halves rounded up
  max_pool   as it is
  logits     acc + bias, 32 bits

`fbq.deploy.lowering` makes it, `integer_tensors` runs it in JAX. Constants are
arrays, bits among them, so one compilation serves every assignment.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fbq import ops, precision
from fbq.deploy import requant as rq
from fbq.nets.graph import INPUT, Net, Node
from fbq.quantizers import uniform

Array = jax.Array
Constants = Mapping[str, Mapping[str, np.ndarray]]
# Of a number of a tensor: floats, codes and sums in 64 bits side by side
_BYTES = 32


@dataclasses.dataclass(frozen=True, eq=False)
class IntegerNet:
  """A network in integers.

  Attributes:
    net: network whose layers these are.
    bits: precision of every site.
    width: bits of the requantization, 32 or 64.
    layers: per node, its constants by name: "weight" int8 [h, w, I, O] or [I,
      O]; "mul" and "add" [C] or [1], "shift", "low", "high"; "bias" int32 of
      the output layer.
    steps: what 1 stands for, float64: [] for every activation site; per node
      with weights, [O] or [] for "NAME.weight"; [] for the logits.
    affine: per node with a requantization, what an accumulator stands for; for
      the logits, in their own unit, before the bias was rounded.
    reach: per node with a requantization, the accumulators there can be.
    codes: per tensor, the codes that each channel can have [C]: proven from the
      image to the last layer, for what no image can reach needs no room.
  """

  net: Net
  bits: precision.Precision
  width: int
  layers: Constants
  steps: Mapping[str, np.ndarray]
  affine: Mapping[str, rq.Affine]
  reach: Mapping[str, rq.Range]
  codes: Mapping[str, rq.Range]

  def requant(self, name: str) -> rq.Requant:
    """The requantization of a node."""
    return requant_of(self.layers[name])

  def agreement(self, name: str) -> rq.Agreement:
    """Where a node differs from what it stands for, over all it can be given.

    Over the accumulators of every channel.
    """
    half_up = self.net.node[name].op == "avg_pool"
    return rq.agreement(
      self.requant(name), self.affine[name], self.reach[name], half_up
    )

  def site(self, tensor: str) -> str:
    """The precision site of a tensor; not of the logits."""
    site = self.net.site_of[tensor]
    assert site is not None
    return site

  def step(self, tensor: str) -> np.ndarray:
    """float64 []: what a code of 1 stands for."""
    return self.steps[self.site(tensor)]

  def ends(self, tensor: str) -> tuple[int, int]:
    """Lowest and highest code of a tensor."""
    part = self.layers.get(tensor, {})
    if "high" in part:
      return int(part["low"]), int(part["high"])
    site = self.site(tensor)
    return code_range(self.bits[site], self.net.is_signed[site])


def requant_of(constants: Mapping[str, np.ndarray]) -> rq.Requant:
  """The requantization that constants of a layer hold."""
  shift, low, high = (int(constants[key]) for key in ("shift", "low", "high"))
  mul, add = (constants[key].astype(np.int64) for key in ("mul", "add"))
  return rq.Requant(mul, add, shift, low, high)


def code_range(bits: int, signed: bool) -> tuple[int, int]:
  """Lowest and highest code of `bits`-bit integers."""
  if signed:
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
  return 0, 2**bits - 1


def quantize_images(images: Array) -> Array:
  """int32 codes 0 .. 255 of images with values in [0, 1]."""
  return uniform.codes(images, jnp.float32(1.0), jnp.int32(8), False)


# ---- reference run -----------------------------------------------------------


def integer_apply(network: IntegerNet, codes: Array) -> Array:
  """Logits int32 [B, classes] of images in codes [B, H, W, C].

  Compiled once per network and batch, whatever the assignment.
  """
  with jax.enable_x64(network.width == 64):
    return _apply(network.net, network.layers, jnp.asarray(codes, jnp.int32))


def images_at_a_time(net: Net) -> int:
  """Images of which all tensors, in all forms that are compared, take 2 GiB.

  At most 360; of EfficientNet-Lite0 at 224x224 these are 10.
  """
  numbers = sum(math.prod(shape) for shape in net.shapes.values())
  return max(1, min(360, 2**31 // (_BYTES * numbers)))


def integer_tensors(network: IntegerNet, codes: Array) -> dict[str, Array]:
  """int32 codes of every tensor, by name: input, nodes, logits."""
  with jax.enable_x64(network.width == 64):
    codes = jnp.asarray(codes, jnp.int32)
    return _tensors(network.net, network.layers, codes)


@functools.partial(jax.jit, static_argnums=0)
def _tensors(net, layers, codes):
  tensors = {INPUT: codes}
  for node in net.nodes:
    inputs = read_by(net, node, tensors)
    tensors[node.name] = run_node(node, layers[node.name], inputs)
  return tensors


@functools.partial(jax.jit, static_argnums=0)
def _apply(net, layers, codes):
  return _tensors(net, layers, codes)[net.nodes[-1].name]


def read_by(net: Net, node: Node, tensors: Mapping[str, Array]) -> list[Array]:
  """The codes of tensors that a node reads, the image's from its zero on."""
  zero = np.array(net.image_zero or 0, np.int32)
  return [
    tensors[name] - zero if name == INPUT else tensors[name]
    for name in node.inputs
  ]


def run_node(
  node: Node, constants: Mapping[str, Array], inputs: list[Array]
) -> Array:
  """int32 codes that a node makes of codes [B, H, W, C] or [B, C]."""
  acc = accumulate(node, constants, inputs)
  if "mul" not in constants:
    return acc
  return _requantize(acc, constants)


def accumulate(
  node: Node, constants: Mapping[str, Array], inputs: list[Array]
) -> Array:
  """int32 sums of a node, before its requantization."""
  x = inputs[0]
  if node.op == "add":
    return inputs[0] + inputs[1]
  if node.op in ("avg_pool", "max_pool"):
    return _pool(node, constants, x)
  weight = constants["weight"].astype(jnp.int32)
  if node.op == "linear":
    acc = x.reshape(len(x), -1) @ weight
    return acc + constants["bias"] if "bias" in constants else acc
  if node.op == "depthwise":
    return ops.depthwise(x, weight, node.stride, node.padding)
  height, width, channels, outputs = weight.shape
  x = ops.patches(x, (height, width), node.stride, node.padding)
  return x @ weight.reshape(height * width * channels, outputs)


def _requantize(acc, constants):
  mul, add, shift, low, high = (
    constants[key] for key in ("mul", "add", "shift", "low", "high")
  )
  y = (acc.astype(mul.dtype) * mul + add) >> shift.astype(mul.dtype)
  return jnp.clip(y, low.astype(y.dtype), high.astype(y.dtype)).astype(
    jnp.int32
  )


def _pool(node, constants, x):
  window = (1, *(node.kernel or x.shape[1:3]), 1)
  strides = (1, node.stride, node.stride, 1)
  if node.op == "avg_pool":
    x = _pad(x, node.padding, 0)
    return lax.reduce_window(x, np.int32(0), lax.add, window, strides, "VALID")
  x = _pad(x, node.padding, constants["low"])
  least = np.int32(np.iinfo(np.int32).min)
  return lax.reduce_window(x, least, lax.max, window, strides, "VALID")


def _pad(x, padding, value):
  rows, columns = ops.edges(padding)
  widths = ((0, 0), rows, columns, (0, 0))
  return jnp.pad(x, widths, constant_values=value)
