"""Networks out of ONNX files that the tests make, beside ONNX Runtime."""

import deploy_cases
import numpy as np
import pytest
from onnx_cases import (
  SHAPE,
  clip,
  conv,
  expected,
  outputs,
  quantized,
  saved,
)
from onnx_writer import Style, Writer, write

from fbq import nets
from fbq.model import Model
from fbq.nets import from_onnx

NEWER = Style(opset=18, mean="ReduceMean", matmul=True, constants=True, batch=2)


@pytest.mark.parametrize(
  ("net", "style"),
  [
    (deploy_cases.MIX, Style()),
    (deploy_cases.MIX, NEWER),
    (deploy_cases.ZOO["resnet8"], NEWER),
    (nets.mobilenet_v1(1 / 16, 16, 10), Style(constants=True)),
    (nets.ds_cnn(1 / 16), Style(opset=13, mean="ReduceMean")),
  ],
  ids=lambda value: getattr(value, "name", ""),
)
def test_an_imported_network_is_the_built_one(net, style, tmp_path):
  variables = deploy_cases.variables(net)
  path = saved(write(net, variables, style), tmp_path)
  found = from_onnx.read(path)
  assert found.net.workload.macs == net.workload.macs
  assert found.net.parameter_count == net.parameter_count
  assert found.net.input_shape == net.input_shape
  assert [node.op for node in found.net.nodes] == [n.op for n in net.nodes]
  assert list(found.labels.values())[0] == f"/{net.nodes[0].name}"
  assert not found.notes

  # The same numbers in the same order: the same logits, bit for bit.
  x = deploy_cases.images(net, 2)
  logits = np.asarray(Model(net).apply(variables, x, False))
  np.testing.assert_array_equal(outputs(found, x), logits)
  # Norms of so few pixels make much of the last bit.
  np.testing.assert_allclose(
    expected(path, found, x), logits, rtol=0, atol=1e-4 * np.abs(logits).max()
  )


def test_a_clip_is_kept_as_a_range_and_shared_weights_are_read(tmp_path):
  w = Writer()
  clip(w, conv(w, "image", "a"), "b", 0.0, 6.0)
  out = w.node("Conv", ["b", "a.w"], "out")
  found = from_onnx.read(saved(w.model((4, 6, 6), out), tmp_path))
  first, second = found.net.nodes
  assert (first.activation, first.clip) == ("relu", 6.0)
  assert second.activation == "none" and not second.clip
  params = found.variables["params"]
  np.testing.assert_array_equal(params["conv1_kernel"], params["conv2_kernel"])


def test_ranges_and_notes_of_a_quantized_file(tmp_path):
  """As `V["quantized"]`: codes 0 to 65535 in steps of 2^-10."""
  w = Writer(Style(opset=21))
  found = from_onnx.read(saved(w.model(SHAPE, quantized(w, "image")), tmp_path))
  assert found.ranges == {"conv1.out": (0.0, 65535 / 1024)}
  node = found.net.nodes[0]
  assert (node.activation, node.clip) == ("relu", 65535 / 1024)


def test_a_normalization_of_the_image_is_told(tmp_path):
  """(x - 3) / 2 * 4 is (x - 3) / 0.5."""
  w = Writer()
  x = w.node("Sub", ["image", w.array("c", 3.0)], "a")
  x = w.node("Mul", [w.node("Div", [x, w.array("d", 2.0)], "b"),
                     w.array("e", 4.0)], "c1")  # fmt: skip
  found = from_onnx.read(saved(w.model(SHAPE, conv(w, x, "out")), tmp_path))
  mean, std = found.normalization
  np.testing.assert_allclose(mean, [3.0] * 4)
  np.testing.assert_allclose(std, [0.5] * 4)
  assert len(found.net.nodes) == 1
