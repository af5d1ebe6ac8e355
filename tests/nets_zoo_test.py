"""The builders against public counts, and that every net trains."""

import dataclasses
import json
import os
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import timeline_referee

from fbq import nets, ops, precision
from fbq.model import Model
from fbq.schemes.fixed import Fixed
from fbq.schemes.free_bits import FreeBits
from fbq.schemes.groups import gate_groups
from hwsim import proxies
from hwsim.pulp import XPULPNN_V1, simulate

COUNTS = json.loads(
  (pathlib.Path(__file__).parent / "golden/bops_counts.json").read_text()
)
ZOO = {
  "MobileNetV1-0.75-224": ("mobilenet_v1", dict(width=0.75)),
  "MobileNetV1-1.0-224": ("mobilenet_v1", {}),
  "MobileNetV2-1.0-224": ("mobilenet_v2", {}),
  "ResNet18-224": ("resnet18", {}),
  "ResNet50-224": ("resnet50", {}),
  "VGG9-CIFAR: 8192-1024-1024-10": ("vgg9", {}),
  "ResNet8-CIFAR(quantlab)": ("resnet8", {}),
}
# Builder -> arguments of a narrow net, and one block of each kind of it.
TINY = {
  "ds_cnn": (dict(width=0.05, frames=13, coefficients=6), r"conv1|dw1|pw1"),
  "mobilenet_v2": (
    dict(width=0.1, resolution=16),
    r"conv1|block1\..*|block3\..*",
  ),
  "resnet18": (
    dict(width=0.06, resolution=32),
    r"conv1|maxpool|stage[12]\.block0\..*",
  ),
  "resnet50": (
    dict(width=0.06, resolution=32),
    r"conv1|maxpool|stage1\.block0\..*",
  ),
  "vgg9": (dict(width=0.03, resolution=8), r"conv1|conv2|pool1|linear1"),
}


@pytest.mark.parametrize("name", ZOO)
def test_equals_public_counts(name):
  """Layer by layer; parameters and MACs; BOPs at 8, 4 and 2 bits."""
  builder, arguments = ZOO[name]
  net, count = nets.build(builder, **arguments), COUNTS[name]
  assert net.workload.macs == count["macs"]
  assert net.parameter_count == count["params_total"]
  weighted = [layer for layer in net.workload.layers if layer.has_weights]
  found = sorted(
    (
      layer.in_channels,
      layer.out_channels,
      layer.kernel_height,
      layer.kernel_width,
      layer.stride,
      layer.in_height,
      layer.out_height,
      layer.op == "depthwise",
      layer.macs,
    )
    for layer in weighted
  )
  assert found == sorted(
    (
      row["cin"],
      row["cout"],
      row["k"],
      row["k"],
      row["stride"],
      row["hin"],
      row["hout"],
      row["type"] == "dw",
      row["macs"],
    )
    for row in count["layer_list"]
  )
  # The counts have only the image at 8 bits, no adders.
  free = dataclasses.replace(
    net.workload, fixed_bits=(("input.out", nets.graph.INPUT_BITS),)
  )
  for bits, key in ((8, "8_8"), (4, "4_4_input8"), (2, "2_2_input8")):
    assignment = dict.fromkeys(free.free_sites, bits)
    assert proxies.bops(free, assignment) == count[f"BOPs_{key}"]


def test_layers_run_in_the_order_of_the_public_list():
  """Shortcuts aside, whose place in a list is free."""
  for name in ("MobileNetV2-1.0-224", "VGG9-CIFAR: 8192-1024-1024-10"):
    net = nets.build(ZOO[name][0])
    ours = [x.macs for x in net.workload.layers if x.has_weights]
    assert ours == [row["macs"] for row in COUNTS[name]["layer_list"]]


def test_mobilenet_v2_keeps_8_bits_where_deployment_does():
  """Projections and adders are signed, 8 bits; what is inside is free."""
  net = nets.mobilenet_v2()
  for node in net.nodes:
    site = net.site_of[node.name]
    linear = node.op == "add" or node.name.endswith(".project")
    if not node.is_output:
      assert net.is_signed[site] == linear
      assert (net.fixed_bits.get(site) == 8) == linear
  assert sum(node.op == "add" for node in net.nodes) == 10


@pytest.mark.parametrize(
  ("width", "channels"), [(0.35, 16), (0.5, 16), (0.75, 24), (1.4, 48)]
)
def test_mobilenet_v2_widths(width, channels):
  """First convolution and last one as in torchvision."""
  net = nets.mobilenet_v2(width)
  assert net.node["conv1"].features == channels
  assert net.node["conv2"].features == (1792 if width == 1.4 else 1280)


def test_mobilenet_v2_refuses_no_width():
  with pytest.raises(ValueError, match="width is 0"):
    nets.build("mobilenet_v2", width=0)


def test_ds_cnn_is_mlperf_tinys():
  """Parameters of the reference model but for the biases batch norm removes.

  The reference has 23756 trained parameters, 9 x 64 of them such biases
  (mlcommons/tiny, keyword_spotting, Keras summary).
  """
  net = nets.ds_cnn()
  assert net.input_shape == (49, 10, 1)
  assert net.parameter_count == 23_756 - 9 * 64
  assert net.shapes["conv1"] == (25, 5, 64)
  assert net.workload.layers[0].padding == (4, 5, 1, 1)
  macs = 125 * (40 * 64 + 4 * (9 * 64 + 64 * 64)) + 64 * 12
  assert net.workload.macs == macs


def test_ds_cnn_takes_the_referees_time():
  """Its first layer is neither square nor evenly padded."""
  work = nets.ds_cnn().workload
  for layer, site in zip(work.layers, work.output_sites, strict=True):
    for bits in ((8, 8), (4, 4), (8, 2), (2, 2)):
      out_bits = 8 if site else 32
      cycles = simulate(layer, *bits, out_bits, XPULPNN_V1).total
      referee = timeline_referee.simulate(layer, *bits, out_bits, XPULPNN_V1)
      assert cycles == pytest.approx(referee, rel=0.02), (layer, bits)


@pytest.mark.parametrize("op", ["conv", "depthwise"])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_may_differ_by_side(op, stride):
  """Equal to zeros put around by hand, values and gradients."""
  keys = jax.random.split(jax.random.key(0))
  padding, kernel = (2, 3, 1, 0), (4, 3)
  x = jax.random.normal(keys[0], (2, 9, 6, 5))
  inputs = 5 if op == "conv" else 1
  k = jax.random.normal(keys[1], (*kernel, inputs, 5))
  function = getattr(ops, op)

  def by_hand(x, k):
    x = jnp.pad(x, ((0, 0), padding[:2], padding[2:], (0, 0)))
    return jnp.sum(jnp.sin(function(x, k, stride, 0)))

  def ours(x, k):
    return jnp.sum(jnp.sin(function(x, k, stride, padding)))

  expected = jax.value_and_grad(by_hand, (0, 1))(x, k)
  found = jax.value_and_grad(ours, (0, 1))(x, k)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4),
    found,
    expected,
  )


def tiny(builder):
  """A net of the chosen blocks in a row, and the classifier behind them."""
  arguments, keep = TINY[builder]
  net = nets.build(builder, **arguments, classes=3)
  kept, instead = [], {}
  for node in net.nodes:
    if re.fullmatch(keep, node.name) or node.is_output:
      inputs = tuple(instead.get(name, name) for name in node.inputs)
      kept.append(dataclasses.replace(node, inputs=inputs))
    else:
      instead[node.name] = kept[-1].name
  return nets.Net(net.name, net.input_shape, tuple(kept))


@pytest.mark.parametrize("builder", TINY)
def test_the_model_has_the_parameters_of_the_table(builder):
  net = nets.build(builder)
  images = jax.ShapeDtypeStruct((2, *net.input_shape), jnp.float32)
  variables = jax.eval_shape(
    lambda x: Model(net).init(jax.random.key(0), x, train=True),
    images,
  )
  count = sum(x.size for x in jax.tree.leaves(variables["params"]))
  assert count == net.parameter_count


# A quantizer sees a tensor, not the network around it: one with all kinds of
# layers is enough, and FBQ_SLOW asks for the others.
QUANTIZED = TINY if os.environ.get("FBQ_SLOW") else ["mobilenet_v2"]


@pytest.mark.parametrize(
  ("builder", "mode"),
  [
    *((builder, "float") for builder in TINY),
    *((b, mode) for b in QUANTIZED for mode in ("fixed", "search")),
  ],
)
def test_trains(builder, mode):
  """One forward and backward pass: finite, and every kernel has a gradient."""
  net = tiny(builder)
  search = FreeBits(gate_groups(net, locked=False))
  scheme = {"float": None, "fixed": Fixed(), "search": search}[mode]
  model = Model(net, scheme)
  key = jax.random.key(0)
  images = jax.random.uniform(key, (4, *net.input_shape))
  arguments = {}
  if mode == "fixed":
    assignment = precision.uniform(net, 8)
    arguments["data"] = jnp.asarray(precision.to_array(net, assignment))
  if mode == "search":
    arguments["noise"] = search.noise(key, len(images))

  shapes = jax.eval_shape(
    lambda x: model.init(key, x, train=True, **arguments), images
  )
  rest = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes)
  random = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: random.normal(0, 0.3, x.shape).astype(x.dtype),
    rest.pop("params"),
  )

  @jax.jit
  def step(params, rest, images, arguments):
    def loss(params):
      logits, _ = model.apply(
        {"params": params, **rest},
        images,
        train=True,
        mutable=["batch_stats", "intermediates"],
        **arguments,
      )
      return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - logits[:, 0])

    return jax.value_and_grad(loss)(params)

  value, gradients = step(params, rest, images, arguments)
  assert np.isfinite(value)
  for name, gradient in gradients.items():
    for leaf in jax.tree.leaves(gradient):
      assert np.all(np.isfinite(leaf)), name
    if name.endswith("_kernel"):
      assert np.any(gradient), name


def test_inception_v3_is_torchvisions():
  """Its published 27,161,264 parameters, less 3,326,696 of a classifier aside.

  And 5.71 G multiplications (torchvision's table of weights).
  """
  net = nets.inception_v3()
  assert net.parameter_count == 27_161_264 - 3_326_696
  macs = sum(x.macs for x in net.workload.layers if x.has_weights)
  assert round(macs / 1e9, 2) == 5.71
  # The sizes of table 1 of the paper, but for its stem.
  assert net.shapes["conv5"] == (71, 71, 192)
  assert net.shapes["mixed5d"] == (35, 35, 288)
  assert net.shapes["mixed6e"] == (17, 17, 768)
  assert net.shapes["mixed7c"] == (8, 8, 2048)


def test_inception_v3_for_small_images():
  net = nets.inception_v3(0.25, 32, 10, 1, (1, 1, 1), large_stem=False)
  assert net.shapes["mixed5b"] == (15, 15, 64)
  assert net.shapes["mixed7b"] == (3, 3, 512)
  for blocks in ((0, 1, 1), (3, 5, 2), (1, 1)):
    with pytest.raises(ValueError, match="blocks are"):
      nets.inception_v3(blocks=blocks)
  with pytest.raises(ValueError, match="width is -1"):
    nets.inception_v3(-1)
