"""Small networks with variables that look trained, and numpy oracles of them.

`exact` is the fake-quantized network in float64; `integers` runs the constants
of an integer network in int64, where nothing overflows.
"""

import functools

import jax
import numpy as np
from model_cases import correlate

from fbq import nets
from fbq.nets import Node
from fbq.nets.graph import INPUT, INPUT_SITE, Net
from fbq.quantizers import shared_steps

CONV = dict(norm=True, activation="relu")
# Every kind of layer, an odd kernel, means of 4 pixels, which tie often.
MIX = Net(
  "mix",
  (9, 8, 2),
  (
    Node("a", "conv", (INPUT,), 8, (3, 2), 1, (1, 1, 1, 0), **CONV),
    Node("half", "max_pool", ("a",), kernel=(3, 3), stride=2, padding=1),
    Node("b", "depthwise", ("half",), 0, (3, 3), 1, 1, **CONV),
    Node("c", "conv", ("b",), 8, (1, 1), norm=True),
    Node("sum", "add", ("c", "half"), activation="relu"),
    Node("mean", "avg_pool", ("sum",), kernel=(2, 2), stride=2),
    Node("d", "conv", ("mean",), 6, (2, 2), bias=True, activation="relu"),
    Node("e", "linear", ("d",), 4, **CONV),
    Node("fc", "linear", ("e",), 3, bias=True, is_output=True),
  ),
)
ZOO = {
  "mobilenet_v1": nets.mobilenet_v1(1 / 16, 16, 10, 1, stem_stride=1),
  "mobilenet_v2": nets.mobilenet_v2(0.1, 16, 10, 1, stem_stride=1),
  "resnet8": nets.resnet8(0.25, 8, in_channels=1),
  "resnet18": nets.resnet18(1 / 16, 32, 10, 1),
  "vgg9": nets.vgg9(1 / 32, 8, in_channels=1),
}


def images(net: Net, count: int = 4) -> np.ndarray:
  random = np.random.default_rng(3)
  contrast = np.linspace(0.2, 1.0, count).reshape(-1, 1, 1, 1)
  noise = random.uniform(size=(count, *net.input_shape))
  return np.asarray(noise * contrast, np.float32)


@functools.cache
def variables(net: Net, seed: int = 0):
  """Random weights, batch norm that normalizes, ranges of the float tensors.

  Some of batch norm's scales are negative: codes fall where sums rise.
  """
  random = np.random.default_rng(seed)
  params, stats, ranges = {}, {}, {}
  single = functools.partial(np.asarray, dtype=np.float32)
  tensors = {INPUT: np.asarray(images(net), np.float64)}
  for node, layer in zip(net.nodes, net.workload.layers, strict=True):
    inputs = [tensors[name] for name in node.inputs]
    kernel = None
    if node.has_weights:
      window = (layer.kernel_height, layer.kernel_width)
      fan_in = 1 if node.op == "depthwise" else layer.in_channels
      shape = (
        *(() if node.op == "linear" else window),
        fan_in,
        layer.out_channels,
      )
      kernel = single(random.normal(0, 1, shape))
      params[f"{node.name}_kernel"] = kernel
      axes = None if node.op == "linear" else tuple(range(kernel.ndim - 1))
      ranges[f"{node.name}.weight"] = 0.9 * np.abs(kernel).max(axes)
    x = combine(node, inputs, kernel)
    channels = x.shape[-1:]
    if node.bias:
      bias = single(random.normal(0, x.std(), channels))
      params[f"{node.name}_bias"], x = bias, x + bias
    if node.norm:
      axes = tuple(range(x.ndim - 1))
      mean, var = single(x.mean(axes)), single(x.var(axes) + 0.01)
      scale = single(
        random.uniform(0.5, 1.5, channels) * random.choice([1, 1, -1], channels)
      )
      offset = single(random.normal(0.3, 0.4, channels))
      params[f"{node.name}_norm"] = {"scale": scale, "bias": offset}
      stats[f"{node.name}_norm"] = {"mean": mean, "var": var}
      x = (x - mean) / np.sqrt(var + 1e-5) * scale + offset
    x = np.maximum(x, 0) if node.activation == "relu" else x
    tensors[node.name] = x
    site = net.site_of[node.name]
    if site == f"{node.name}.out":
      ranges[site] = 0.7 * max(np.abs(x).max(), 0.01)
  shared = shared_steps.of_step_sites(
    net,
    {site: ranges.pop(site) for site in net.is_signed if site in ranges},
    net.fixed_bits,
  )
  return {
    "params": params,
    "batch_stats": stats,
    "ranges": jax.tree.map(single, ranges | shared),
  }


def assignments(net: Net, count: int, seed: int = 0):
  """Random complete assignments."""
  random = np.random.default_rng(seed)
  for _ in range(count):
    yield {
      site: net.fixed_bits.get(site, int(random.choice([2, 4, 8])))
      for site in net.workload.sites
    }


def combine(node, inputs, kernel=None, padding_value=0):
  """Sums, means or maxima of a node's inputs, in their own numbers."""
  x = inputs[0]
  if node.op == "add":
    return x + inputs[1]
  if node.op == "linear":
    return x.reshape(len(x), -1) @ kernel
  pads = node.padding
  top, bottom, left, right = pads if isinstance(pads, tuple) else (pads,) * 4
  x = np.pad(
    x,
    ((0, 0), (top, bottom), (left, right), (0, 0)),
    constant_values=padding_value,
  )
  if node.op in ("conv", "depthwise"):
    y = correlate(x, kernel, node.stride, 0, node.op == "depthwise")
    return y
  windows = np.lib.stride_tricks.sliding_window_view(
    x, node.kernel or x.shape[1:3], (1, 2)
  )[:, :: node.stride, :: node.stride]
  pool = np.mean if node.op == "avg_pool" else np.max
  return pool(windows, (-2, -1))


def exact(net, variables, bits, images):
  """Codes of every tensor of the fake-quantized network in float64; logits."""
  params, stats = variables["params"], variables["batch_stats"]
  ranges = {INPUT_SITE: np.float32(1), **variables["ranges"]}

  def grid(site, signed):
    steps = np.float32(2 ** (bits[site] - 1) if signed else 2 ** bits[site] - 1)
    ends = (-steps, steps - 1) if signed else (0, steps)
    owner = net.step_site.get(site, site)
    if owner != site:
      return grid(owner, net.is_signed[owner])[0], ends
    return (ranges[site] / steps).astype(np.float64), ends

  codes, steps = {}, {}
  for node in (Node(INPUT, "", ()), *net.nodes):
    site = net.site_of[node.name]
    inputs = [codes[name] for name in node.inputs]
    scales = [steps[name] for name in node.inputs]
    if node.name == INPUT:
      value = np.asarray(images, np.float64)
    elif node.op == "max_pool":
      codes[node.name] = combine(node, inputs, None, -999)
      steps[node.name] = scales[0]
      continue
    elif node.op == "add":
      assert scales[0] == scales[1]
      value = (inputs[0] + inputs[1]) * scales[0]
    elif node.op == "avg_pool":  # the sum decides ties, not the mean's noise
      count = np.prod(node.kernel or inputs[0].shape[1:3])
      total = np.rint(combine(node, inputs) * count)
      codes[node.name] = np.floor((2 * total + count) / (2 * count))
      steps[node.name] = scales[0]
      continue
    else:
      kernel = params[f"{node.name}_kernel"]
      step, ends = grid(f"{node.name}.weight", True)
      weight = np.clip(np.rint(kernel.astype(np.float64) / step), *ends)
      unit = step * scales[0]
      value = combine(node, inputs, weight)
      if node.is_output:  # sums and bias of integers
        value = value + np.rint(params[f"{node.name}_bias"] / unit)
      value = value * unit
      if node.bias and not node.is_output:
        value = value + params[f"{node.name}_bias"]
      if node.norm:
        norm, stat = params[f"{node.name}_norm"], stats[f"{node.name}_norm"]
        slope = norm["scale"] / np.sqrt(stat["var"].astype(np.float64) + 1e-5)
        value = (value - stat["mean"]) * slope + norm["bias"]
    if site is None:
      codes[node.name] = value
      continue
    steps[node.name], ends = grid(site, net.is_signed[site])
    codes[node.name] = np.clip(np.rint(value / steps[node.name]), *ends)
  return codes


def integers(network, codes):
  """(codes of every tensor, largest magnitude met), in int64."""
  tensors, met = {INPUT: np.asarray(codes, np.int64)}, [0]
  for node in network.net.nodes:
    inputs = [tensors[name] for name in node.inputs]
    tensors[node.name] = one_layer(network, node, inputs, met)
  return tensors, max(met)


def one_layer(network, node, inputs, met):
  """Codes that a node makes of codes; magnitudes met are added to `met`."""
  part = network.layers[node.name]
  inputs = [np.asarray(x, np.int64) for x in inputs]

  def requantize(x, constants):
    mul, add, shift, low, high = (np.int64(value) for value in constants)
    met.extend(int(np.abs(each).max()) for each in (x, x * mul, x * mul + add))
    return np.clip((x * mul + add) >> shift, low, high)

  keys = ("mul", "add", "shift", "low", "high")
  weight = part["weight"].astype(np.int64) if "weight" in part else None
  x = combine(node, inputs, weight, -999 if node.op == "max_pool" else 0)
  if node.op == "avg_pool":
    count = np.prod(node.kernel or inputs[0].shape[1:3])
    x = np.rint(x * count).astype(np.int64)
  if "bias" in part:
    x = x + part["bias"]
    met.append(int(np.abs(x).max()))
  return requantize(x, [part[key] for key in keys]) if "mul" in part else x
