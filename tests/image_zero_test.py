"""Images whose padding is a colour: in floating point and in integers."""

import dataclasses
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from deploy_cases import CONV, images, variables

from fbq import precision
from fbq.deploy import (
  artifact,
  c_code,
  dory_limits,
  faithful,
  integer,
  lowering,
  onnx_qdq,
)
from fbq.model import Model
from fbq.nets import Net, Node
from fbq.nets.graph import INPUT
from fbq.ptq import rounding
from fbq.schemes import gridded
from fbq.train import image_norm
from hwsim.pulp import XPULPNN_V1

ZERO = (211, 5)
NET = Net(
  "padded",
  (6, 5, 2),
  (
    Node("a", "conv", (INPUT,), 8, (3, 3), 2, (0, 1, 1, 1), **CONV),
    Node("b", "conv", ("a",), 8, (3, 3), 1, 1, **CONV),
    Node("fc", "linear", ("b",), 3, bias=True, is_output=True),
  ),
  image_zero=ZERO,
)
BLACK = dataclasses.replace(NET, image_zero=())
BITS = precision.uniform(NET, 8)


def logits(net, given, x):
  return np.asarray(Model(net).apply(given, jnp.asarray(x), False))


def framed(x):
  """Images with a frame of the colour, wider than any window."""
  frame = np.broadcast_to(np.array(ZERO, np.float32) / 255, (4, 10, 9, 2))
  frame = frame.copy()
  frame[:, 2:-2, 2:-2] = x
  return frame


def test_padding_has_the_colour_of_the_zero():
  """The first layer of a wide frame, in which no zero is padded."""
  x = images(NET)
  (first,) = [dataclasses.replace(NET.nodes[0], is_output=True)]
  net = dataclasses.replace(NET, nodes=(first,))
  found = logits(net, variables(BLACK), x)
  wide = dataclasses.replace(first, padding=(0, 0, 0, 0))
  outside = Net("frame", (10, 9, 2), (wide,), image_zero=ZERO)
  around = framed(x)[:, 2:-1, 1:-1]
  expected = logits(
    dataclasses.replace(outside, input_shape=around.shape[1:]),
    variables(BLACK),
    around,
  )
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_normalization_by_the_zero_is_exact_at_the_border():
  """As the network on (x - mean) / std, padded with zeros there."""
  mean, std = np.array(ZERO) / 255, np.array([0.3, 0.2])
  given = {k: variables(BLACK)[k] for k in ("params", "batch_stats")}
  x = images(NET)
  found = logits(NET, image_norm.folded(NET, given, mean, std), x)
  expected = logits(BLACK, given, (x - mean) / std)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
  black = logits(BLACK, image_norm.folded(BLACK, given, mean, std), x)
  assert np.abs(black - expected).max() > 0.1


def test_integers_onnx_and_files_have_it_too(tmp_path):
  given = variables(NET)
  network = lowering.lower(NET, given, BITS)
  low, high = network.codes[INPUT]
  np.testing.assert_array_equal(low, -np.array(ZERO))
  np.testing.assert_array_equal(high, 255 - np.array(ZERO))
  report = faithful.compare(network, given, jnp.asarray(images(NET)))
  assert report.same_class == report.images
  assert not report.layers[0].off_by
  assert max(report.layers[1].off_by, default=0) <= 1

  codes = integer.quantize_images(jnp.asarray(images(NET)))
  expected = np.asarray(integer.integer_apply(network, codes))
  step = float(network.steps["fc"])
  # A code of the layer before is worth 0.02, another padding more than 1.
  found = onnx_qdq.run(onnx_qdq.session(onnx_qdq.build(network)), images(NET))
  np.testing.assert_allclose(found, expected * step, atol=0.1)

  # Without quantizers: as the network without a zero, given what it takes off.
  black = lowering.lower(BLACK, given, BITS)
  found, expected_float = (
    onnx_qdq.run(onnx_qdq.session(onnx_qdq.build_float(x)), image)
    for x, image in (
      (network, images(NET)),
      (black, images(NET) - np.array(ZERO) / 255),
    )
  )
  np.testing.assert_allclose(found, expected_float, rtol=1e-4, atol=1e-4)

  artifact.save(network, tmp_path)
  again = artifact.load(tmp_path)
  assert again.net == NET
  np.testing.assert_array_equal(integer.integer_apply(again, codes), expected)


def test_kernels_that_pad_with_0_are_not_given_it():
  network = lowering.lower(NET, variables(NET), BITS)
  with pytest.raises(lowering.UnsupportedError, match=r"zero \(211, 5\)"):
    dory_limits.check_supported(network, XPULPNN_V1)


def test_c_pads_with_it(tmp_path):
  """It checks itself on golden logits of the integer network."""
  network = lowering.lower(NET, variables(NET), BITS)
  codes = np.asarray(integer.quantize_images(jnp.asarray(images(NET)[:3])))
  c_code.write(network, tmp_path, codes)
  text = (tmp_path / "network.c").read_text()
  assert "image_zero[] = {211, 5}" in text
  assert c_code.check(tmp_path) == bool(shutil.which("cc"))
  black = lowering.lower(BLACK, variables(NET), BITS)
  c_code.write(black, tmp_path / "black", codes)
  assert "image_zero" not in (tmp_path / "black/network.c").read_text()


def test_adaround_reads_what_the_first_layer_reads():
  net = dataclasses.replace(
    NET,
    nodes=tuple(dataclasses.replace(n, norm=False) for n in NET.nodes),
  )
  given = {"params": variables(NET)["params"]}
  x = jnp.asarray(images(NET))
  read, _ = rounding.tensors(net)(given, x, gridded.data(net, {}))["a"]
  np.testing.assert_allclose(read, x - np.array(ZERO) / 255, atol=1e-6)


@pytest.mark.parametrize(
  ("zero", "op", "message"),
  [((1,), "conv", "a code of 0 to 255 for each of 2"),
   ((1, 256), "conv", "a code of 0 to 255"),
   ((1, 2), "max_pool", "'a' .max_pool. reads an image with image_zero")],
)  # fmt: skip
def test_a_zero_is_a_code_that_layers_with_weights_read(zero, op, message):
  nodes = (
    Node("a", op, (INPUT,), 2 if op == "conv" else 0),
    Node("b", "linear", ("a",), 3, is_output=True),
  )
  with pytest.raises(ValueError, match=message):
    Net("bad", (4, 4, 2), nodes, image_zero=zero)
