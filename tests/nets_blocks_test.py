"""GoogLeNet, ConvNeXt and ECA-MobileNetV2: counts, values, training."""

import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fbq import nets
from fbq.model import Model
from fbq.quantizers import calibration, shared_steps
from fbq.schemes.fixed import Fixed
from fbq.schemes.free_bits import FreeBits
from fbq.schemes.groups import gate_groups
from fbq.schemes.ranges import weight_range

# ---- counts ------------------------------------------------------------------

# Parameters and 1e9 MACs at 224 pixels from torchvision's model documentation
# (num_params and GFLOPS of the default weights).
PUBLISHED = [
  ("googlenet", {}, 6_624_904, 1.498),
  ("convnext", {}, 28_589_128, 4.456),
  ("convnext", dict(depths=(3, 3, 27, 3)), 50_223_688, 8.684),
  ("convnext", dict(width=4 / 3, depths=(3, 3, 27, 3)), 88_591_464, 15.355),
  ("convnext", dict(width=2, depths=(3, 3, 27, 3)), 197_767_336, 34.361),
]


@pytest.mark.parametrize("builder, settings, count, gmacs", PUBLISHED)
def test_equals_the_published_counts(builder, settings, count, gmacs):
  net = nets.build(builder, **settings)
  assert net.parameter_count == count
  assert round(net.workload.macs / 1e9, 3) == gmacs


def test_googlenet_has_the_sizes_of_the_papers_table_1():
  net = nets.googlenet()
  expected = {
    "conv1": (112, 112, 64),
    "pool1": (56, 56, 64),
    "conv3": (56, 56, 192),
    "pool2": (28, 28, 192),
    "inception3a": (28, 28, 256),
    "inception3b": (28, 28, 480),
    "pool3": (14, 14, 480),
    "inception4a": (14, 14, 512),
    "inception4d": (14, 14, 528),
    "inception4e": (14, 14, 832),
    "pool4": (7, 7, 832),
    "inception5a": (7, 7, 832),
    "inception5b": (7, 7, 1024),
  }
  assert {name: net.shapes[name] for name in expected} == expected
  # The 5x5 branch of 3a: 12.8 M of the paper's "ops" are its own.
  wide = nets.googlenet(wide_kernel=5)
  layers = {layer.name: layer for layer in wide.workload.layers}
  assert layers["inception3a.wide"].macs == 28 * 28 * 25 * 16 * 32
  assert wide.shapes == net.shapes


@pytest.mark.parametrize("resolution", [15, 16, 17, 29, 32, 33, 224, 225])
def test_maxima_keep_a_last_incomplete_window(resolution):
  """torch's ceil_mode: every window that begins inside the image counts."""
  net = nets.googlenet(0.1, resolution)
  for layer in net.workload.layers:
    if layer.stride == 2 and layer.op == "max_pool":
      size, kernel = layer.in_height, layer.kernel_height
      starts = [0]
      while starts[-1] + kernel < size:
        starts.append(starts[-1] + 2)
      assert (layer.out_height, layer.out_width) == (len(starts),) * 2


def test_convnext_has_the_sizes_of_the_paper():
  net = nets.convnext()
  for stage, (size, features) in enumerate(
    [(56, 96), (28, 192), (14, 384), (7, 768)], start=1
  ):
    assert net.shapes[f"stage{stage}.block0.add"] == (size, size, features)
  assert net.shapes["stage1.block0.expand"] == (56, 56, 384)
  assert sum(node.op == "layer_norm" for node in net.nodes) == 18 + 1 + 3 + 1


@pytest.mark.parametrize(
  "attention, kernels",
  [("adaptive", [3] * 13 + [5] * 4), ("released", [1] * 13 + [3] * 4)],
)
def test_attention_costs_what_its_kernels_do(attention, kernels):
  """The authors' 3.34 M parameters (README of ECANet) are multiples of 2^20."""
  plain, eca = nets.mobilenet_v2(), nets.mobilenet_v2(attention=attention)
  gates = [node for node in eca.nodes if node.op == "channel_conv"]
  assert [node.kernel for node in gates] == [(1, k) for k in kernels]
  assert eca.parameter_count == plain.parameter_count + sum(kernels)
  assert round(eca.parameter_count / 2**20, 2) == 3.34
  channels = [eca.shapes[node.name][2] for node in gates]
  assert channels == [16, *[24] * 2, *[32] * 3, *[64] * 4, *[96] * 3,
                      *[160] * 3, 320]  # fmt: skip
  more = sum(k * c for k, c in zip(kernels, channels, strict=True))
  assert eca.workload.macs == plain.workload.macs + more
  scaled = [node for node in eca.nodes if node.op == "scale"]
  assert [node.inputs[0] for node in scaled] == [
    f"block{i}.project" for i in range(1, 18)
  ]
  adds = [node.inputs[0] for node in eca.nodes if node.op == "add"]
  assert len(adds) == 10 and all(name.endswith(".scale") for name in adds)


# ---- values, against numpy in float64 ----------------------------------------


def windows(x, kernel, stride, pads, fill):
  """[B, H', W', C, k, k] of x [B, H, W, C]; pads (top, bottom)."""
  x = np.pad(x, ((0, 0), pads, pads, (0, 0)), constant_values=fill)
  view = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), (1, 2))
  return view[:, ::stride, ::stride]


def convolved(x, kernel, stride=1, pad=0):
  return np.einsum(
    "bhwcij,ijco->bhwo",
    windows(x, kernel.shape[0], stride, (pad, pad), 0.0),
    kernel,
  )


def largest(x, kernel, stride, pads):
  return windows(x, kernel, stride, pads, -np.inf).max((-1, -2))


class Reference:
  """Parameters of a model by name, in float64."""

  def __init__(self, variables):
    tree = jax.tree.map(lambda a: np.asarray(a, np.float64), dict(variables))
    self.params, self.stats = tree["params"], tree.get("batch_stats", {})

  def kernel(self, name):
    return self.params[f"{name}_kernel"]

  def batch_norm(self, name, x):
    norm, stat = self.params[f"{name}_norm"], self.stats[f"{name}_norm"]
    x = (x - stat["mean"]) / np.sqrt(stat["var"] + 1e-5)
    return x * norm["scale"] + norm["bias"]

  def unit(self, name, x, stride=1, pad=0):
    """Convolution, batch norm, ReLU."""
    x = convolved(x, self.kernel(name), stride, pad)
    return np.maximum(self.batch_norm(name, x), 0.0)

  def layer_norm(self, name, x):
    norm = self.params[f"{name}_norm"]
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    return x * norm["scale"] + norm["bias"]

  def dense(self, name, x):
    """A 1x1 convolution with bias."""
    x = x @ self.params[f"{name}_kernel"].reshape(x.shape[-1], -1)
    return x + self.params[f"{name}_bias"]

  def depthwise(self, name, x):
    kernel = self.kernel(name)[:, :, 0]
    side = kernel.shape[0] // 2
    view = windows(x, kernel.shape[0], 1, (side, side), 0.0)
    return np.einsum("bhwcij,ijc->bhwc", view, kernel)

  def inception(self, b, x):
    small = self.unit(f"{b}.3x3_reduce", x)
    smaller = self.unit(f"{b}.wide_reduce", x)
    return np.concatenate(
      [
        self.unit(f"{b}.1x1", x),
        self.unit(f"{b}.3x3", small, pad=1),
        self.unit(f"{b}.wide", smaller, pad=1),
        self.unit(f"{b}.pooled", largest(x, 3, 1, (1, 1))),
      ],
      axis=-1,
    )

  def googlenet(self, x):
    x = largest(self.unit("conv1", x, 2, 3), 3, 2, (0, 1))  # 20 -> 10 -> 5
    x = self.unit("conv3", self.unit("conv2", x), pad=1)
    x = largest(x, 3, 2, (0, 0))  # 5 -> 2
    x = self.inception("inception3a", x)
    x = largest(x, 3, 2, (0, 1))  # 2 -> 1
    return self.dense("classifier", x.mean((1, 2)))

  def convnext(self, x):
    b, size, _, c = x.shape
    x = x.reshape(b, size // 4, 4, size // 4, 4, c).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(b, size // 4, size // 4, -1)
    x = self.layer_norm("stem.norm", self.dense("stem", x))
    x = self.convnext_block("stage1.block0", x)
    x = self.layer_norm("stage2.norm", x)
    x = convolved(x, self.kernel("stage2.down"), 2)
    x = x + self.params["stage2.down_bias"]
    x = self.convnext_block("stage2.block0", x)
    x = self.layer_norm("norm", x.mean((1, 2)))
    return self.dense("classifier", x)

  def convnext_block(self, b, x):
    y = self.depthwise(f"{b}.dw", x) + self.params[f"{b}.dw_bias"]
    y = self.dense(f"{b}.expand", self.layer_norm(f"{b}.norm", y))
    y = y / 2 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
    y = self.dense(f"{b}.project", y)
    return x + self.params[f"{b}.project_scale"] * y

  def eca(self, b, x):
    """Channels gated by their means and those of their neighbours."""
    kernel = self.kernel(f"{b}.gate").ravel()
    side = len(kernel) // 2
    means = np.pad(x.mean((1, 2)), ((0, 0), (side, side)))
    mixed = np.stack([np.correlate(row, kernel, "valid") for row in means])
    return x / (1 + np.exp(-mixed))[:, None, None]


# Builder -> arguments of a narrow net, and what is kept of it.
SMALL = {
  "googlenet": (
    dict(width=0.2, resolution=20),
    r"(conv|pool)\d|inception3a.*",
  ),
  "convnext": (
    dict(width=0.06, resolution=16, depths=(1, 1), layer_scale=0.5),
    ".*",
  ),
  "mobilenet_v2": (
    dict(width=0.1, resolution=12, attention="adaptive"),
    r"conv1|block[13]\..*",
  ),
}


@functools.cache
def small(builder):
  """(net, images, variables that no default hides)."""
  arguments, keep = SMALL[builder]
  net = nets.build(builder, **arguments, classes=4, in_channels=2)
  kept, instead = [], {}
  for node in net.nodes:
    if re.fullmatch(keep, node.name) or node.is_output:
      inputs = tuple(instead.get(name, name) for name in node.inputs)
      kept.append(dataclasses.replace(node, inputs=inputs))
    else:
      instead[node.name] = kept[-1].name
  net = dataclasses.replace(net, nodes=tuple(kept))
  images = jax.random.uniform(jax.random.key(0), (3, *net.input_shape))
  shapes = jax.eval_shape(
    lambda x: Model(net).init(jax.random.key(0), x, train=False), images
  )
  random = np.random.default_rng(1)

  def fill(path, x):
    name = jax.tree_util.keystr(path)
    draw = random.uniform(0.6, 1.4, x.shape)  # norms and layer scales
    if "_kernel" in name:
      fan_in = max(1, math.prod(x.shape[:-1]))
      draw = random.normal(0, math.sqrt(2 / fan_in), x.shape)
    elif re.search("bias|mean", name):
      draw = random.normal(0, 0.2, x.shape)
    return draw.astype(np.float32)

  variables = jax.tree_util.tree_map_with_path(fill, dict(shapes))
  variables.pop("intermediates", None)
  return net, images, variables


@functools.cache
def float_pass(builder):
  """Logits and every tensor in floating point."""
  net, images, variables = small(builder)
  run = jax.jit(
    lambda v, x: Model(net).apply(v, x, False, mutable="intermediates")
  )
  logits, updates = run(variables, images)
  return logits, {k: v[0] for k, v in updates["intermediates"].items()}


@pytest.mark.parametrize("builder", ["googlenet", "convnext"])
def test_equals_the_network_written_down(builder):
  _, images, variables = small(builder)
  reference = getattr(Reference(variables), builder)
  expected = reference(np.asarray(images, np.float64))
  assert np.ptp(expected, axis=0).max() > 0.1  # the images do differ
  np.testing.assert_allclose(
    float_pass(builder)[0], expected, rtol=1e-4, atol=1e-4
  )


def test_equals_channel_attention_written_down():
  _, _, variables = small("mobilenet_v2")
  seen = float_pass("mobilenet_v2")[1]
  reference = Reference(variables)
  for block in (1, 3):
    project = np.asarray(seen[f"block{block}.project"], np.float64)
    expected = reference.eca(f"block{block}", project)
    assert np.abs(expected / project - 0.5).max() > 0.02  # not all gates 0.5
    np.testing.assert_allclose(
      seen[f"block{block}.scale"], expected, rtol=1e-4, atol=1e-5
    )


def test_gelu_is_the_exact_one():
  """Its usual approximation by a tanh is off by up to 5e-4."""
  _, _, variables = small("convnext")
  seen, b = float_pass("convnext")[1], "stage2.block0"
  x = np.asarray(seen[f"{b}.norm"], np.float64)
  x = Reference(variables).dense(f"{b}.expand", x)
  expected = [0.5 * v * math.erfc(-v / math.sqrt(2)) for v in x.ravel()]
  assert min(expected) < -0.15
  np.testing.assert_allclose(
    np.ravel(seen[f"{b}.expand"]), expected, rtol=0, atol=2e-5
  )


# ---- quantized, and trained --------------------------------------------------


@functools.cache
def calibrated(builder, bits):
  """(data, ranges) of fixed mode at `bits` for all sites, adders too."""
  net, _, variables = small(builder)
  seen = float_pass(builder)[1]
  tensors = {
    f"{node.name}.out": np.asarray(seen[node.name])
    for node in net.nodes
    if net.site_of[node.name] == f"{node.name}.out"
  }
  assert {"input.out", *tensors} == set(net.is_signed)
  found = calibration.activation_ranges(tensors, net.is_signed, (bits,))
  ranges = shared_steps.of_step_sites(
    net,
    {site: by_bits[bits] for site, by_bits in found.items()},
    dict.fromkeys(found, bits),
  )
  for node in net.nodes:
    if node.has_weights:
      kernel = variables["params"][f"{node.name}_kernel"]
      ranges[f"{node.name}.weight"] = weight_range(kernel, node)
  return jnp.full(len(net.workload.sites), bits, jnp.int32), ranges


@pytest.mark.parametrize("builder", SMALL)
def test_calibrated_8_bits_are_close_to_float_and_fewer_are_farther(builder):
  net, images, variables = small(builder)
  exact = float_pass(builder)[0]

  @jax.jit
  def run(data, ranges):
    return Model(net, Fixed()).apply(
      {**variables, "ranges": ranges}, images, False, data
    )

  errors = [
    np.abs(run(*calibrated(builder, bits)) - exact).max() / np.abs(exact).max()
    for bits in (8, 4, 2)
  ]
  assert 0 < errors[0] < 0.1
  assert 3 * errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize(
  "builder, mode",
  [
    *((builder, mode) for builder in SMALL for mode in ("float", "fixed")),
    ("googlenet", "search"),  # one is enough: it takes 3 s
  ],
)
def test_learns(builder, mode):
  """Every variable has a finite gradient, and a step along it helps."""
  net, images, variables = small(builder)
  search = FreeBits(gate_groups(net, locked=True))
  scheme = {"float": None, "fixed": Fixed(), "search": search}[mode]
  model, arguments = Model(net, scheme), {}
  trained = {"params": variables["params"]}
  if mode != "float":
    arguments["data"], trained["ranges"] = calibrated(builder, 8)
  if mode == "search":
    del arguments["data"]
    trained["gates"] = search.start()
    arguments["noise"] = search.noise(jax.random.key(3), len(images))

  @jax.jit
  def step(trained, rate):
    def loss(trained):
      logits, _ = model.apply(
        {**variables, **trained},
        images,
        train=True,
        mutable=["batch_stats", "intermediates"],
        **arguments,
      )
      labels = jnp.arange(len(images))
      return -jnp.mean(jax.nn.log_softmax(logits)[labels, labels])

    value, gradients = jax.value_and_grad(loss)(trained)
    return (
      value,
      gradients,
      jax.tree.map(lambda v, g: v - rate * g, trained, gradients),
    )

  value, gradients, better = step(trained, 1e-3)
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
    name = jax.tree_util.keystr(path)
    assert np.all(np.isfinite(leaf)), name
    if name.endswith(("_kernel']", "_scale']", "['scale']")):
      assert np.any(leaf), name
  if mode == "float":  # else rounding hides a small step
    assert step(better, 1e-3)[0] < value
