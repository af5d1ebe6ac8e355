"""A tiny network with calibrated ranges, and its arithmetic in integers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from fbq import precision
from fbq.model import Model
from fbq.nets import Net, Node
from fbq.nets.graph import INPUT_SITE
from fbq.quantizers import shared_steps
from fbq.schemes import ranges as range_lib
from fbq.schemes.fixed import Fixed

CONV = dict(norm=True, activation="relu")
# Both kinds of convolution and a shortcut; the mean of 9 pixels never ties.
NET = Net(
  "tiny",
  (6, 6, 2),
  (
    Node("a", "conv", ("input",), 4, (3, 3), 2, 1, **CONV),
    Node("b", "depthwise", ("a",), 0, (3, 3), 1, 1, **CONV),
    Node("c", "conv", ("b",), 4, (1, 1), norm=True),
    Node("sum", "add", ("c", "a"), activation="relu"),
    Node("d", "conv", ("sum",), 5, (1, 1), **CONV),
    Node("pool", "avg_pool", ("d",), kernel=None),
    Node("fc", "linear", ("pool",), 3, bias=True, is_output=True),
  ),
)
# Of rising contrast: what noise has in common must not hide it.
IMAGES = jax.random.uniform(jax.random.key(0), (8, 6, 6, 2)) * jnp.linspace(
  0.1, 1.0, 8
).reshape(8, 1, 1, 1)
MIXED = precision.uniform(NET, 4) | {
  **{"a.weight": 8, "b.weight": 2, "b.out": 8, "c.weight": 8},
  **{"d.weight": 4, "d.out": 4, "fc.weight": 2},
}


def randomize(tree, key):
  """Values that no default hides: offsets not 0, scales and variances not 1."""
  leaves, structure = jax.tree.flatten(tree)
  keys = jax.random.split(key, len(leaves))
  return structure.unflatten(
    leaf + 0.2 * jax.random.uniform(k, leaf.shape)
    for leaf, k in zip(leaves, keys, strict=True)
  )


@functools.cache
def calibrated(share=1.0):
  """Variables of fixed mode with ranges from the float network's tensors.

  Activations are clipped at `share` of their largest value.
  """
  init = jax.jit(Model(NET, Fixed()).init, static_argnums=2)
  bits = precision.to_array(NET, precision.uniform(NET, 8))
  variables = dict(init(jax.random.key(1), IMAGES, False, bits))
  for kind in ("params", "batch_stats"):
    variables[kind] = randomize(variables[kind], jax.random.key(2))
  _, seen = jax.jit(
    lambda v: Model(NET).apply(v, IMAGES, False, mutable="intermediates")
  )(variables)
  ranges = {}
  for site, signed in NET.is_signed.items():
    if site != INPUT_SITE:
      tensor = seen["intermediates"][site.split(".")[0]][0]
      tensor = tensor if signed else jax.nn.relu(tensor)
      ranges[site] = share * jnp.abs(tensor).max()
  ranges = shared_steps.of_step_sites(NET, ranges, NET.fixed_bits)
  for node in NET.nodes:
    if node.has_weights:
      kernel = variables["params"][f"{node.name}_kernel"]
      ranges[f"{node.name}.weight"] = range_lib.weight_range(kernel, node)
  return {**variables, "ranges": ranges}


@jax.jit
def _fixed(variables, bits):
  return Model(NET, Fixed()).apply(variables, IMAGES, False, bits)


def fixed(assignment, share=1.0):
  bits = precision.to_array(NET, assignment)
  return _fixed(calibrated(share), bits)


def integers(x, range_, bits, signed):
  """(codes int64, step): round to nearest, ends clipped."""
  steps = 2 ** (bits - 1) if signed else 2**bits - 1
  step = np.asarray(range_, np.float64) / steps
  low, high = (-steps, steps - 1) if signed else (0, steps)
  return np.clip(np.rint(x / step), low, high).astype(np.int64), step


def correlate(codes, kernel, stride, padding, depthwise):
  """Integer convolution, pixel by pixel."""
  p = padding
  padded = np.pad(codes, ((0, 0), (p, p), (p, p), (0, 0)))
  height, width = kernel.shape[:2]
  rows = (padded.shape[1] - height) // stride + 1
  columns = (padded.shape[2] - width) // stride + 1
  out = np.zeros(
    (len(codes), rows, columns, kernel.shape[-1]),
    np.result_type(codes, kernel),
  )
  for i, j in np.ndindex(rows, columns):
    y, x = i * stride, j * stride
    window = padded[:, y : y + height, x : x + width]
    if depthwise:
      out[:, i, j] = np.einsum("bhwc,hwc->bc", window, kernel[:, :, 0])
    else:
      out[:, i, j] = np.einsum("bhwc,hwco->bo", window, kernel)
  return out


def interpret(net, variables, bits, images):
  """The network in integers: accumulate, scale, shift, round to codes."""
  tree = jax.tree.map(lambda x: np.asarray(x, np.float64), variables)
  params, stats, ranges = (
    tree[kind] for kind in ("params", "batch_stats", "ranges")
  )
  image = np.asarray(images, np.float64)
  tensors = {"input": integers(image, 1.0, bits["input.out"], False)}
  for node in net.nodes:
    codes, step = tensors[node.inputs[0]]
    if node.op == "add":
      other, other_step = tensors[node.inputs[1]]
      value = codes * step + other * other_step
    elif node.op == "avg_pool":
      value = codes.sum((1, 2), keepdims=True) / codes[0, :, :, 0].size * step
    else:
      weight, weight_step = integers(
        params[f"{node.name}_kernel"],
        ranges[f"{node.name}.weight"],
        bits[f"{node.name}.weight"],
        True,
      )
      if node.op == "linear":
        sums = codes.reshape(len(codes), -1) @ weight
      else:
        sums = correlate(
          codes, weight, node.stride, node.padding, node.op == "depthwise"
        )
      value = sums * (step * weight_step)
    if node.norm:
      norm, stat = params[f"{node.name}_norm"], stats[f"{node.name}_norm"]
      slope = norm["scale"] / np.sqrt(stat["var"] + 1e-5)
      value = (value - stat["mean"]) * slope + norm["bias"]
    site = net.site_of[node.name]
    if site is None:  # integers' bias is one
      unit = step * weight_step
      return (sums + np.rint(params[f"{node.name}_bias"] / unit)) * unit
    if node.bias:
      value = value + params[f"{node.name}_bias"]
    signed, range_ = net.is_signed[site], ranges[net.step_site[site]]
    if signed and not net.is_signed[net.step_site[site]]:
      range_ = range_ / 255 * 128  # adders have 8 bits
    tensors[node.name] = integers(value, range_, bits[site], signed)
