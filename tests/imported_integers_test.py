"""The integers of quantized files beside LiteRT."""

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")  # fbq[tflite]
from tflite_writer import Writer

from fbq.lab import imported_integers
from fbq.nets import from_tflite

RELU, SAME = 1, 0


def write(path, head=True):
  """An int8 convolution, a depthwise one, a mean, a classifier, a softmax."""
  random = np.random.default_rng(3)
  codes = lambda *shape: random.integers(-127, 128, shape)
  grid = lambda scale, zero=-128: dict(scale=[scale], zero=[zero])

  def widest(w, axis):  # as converters scale them: the largest is 127
    at = [0] * w.ndim
    for channel in range(w.shape[axis]):
      at[axis] = channel
      w[tuple(at)] = 127
    return w

  def weights(values, scales, axis):
    return w.array(
      values, np.int8, scale=scales, zero=[0] * len(scales), axis=axis
    )

  w = Writer((6, 5, 2), np.int8, **grid(0.04, 11))
  scales = random.uniform(1e-3, 3e-3, 4)
  x = w.node(
    "CONV_2D",
    [
      w.image,
      weights(widest(codes(4, 3, 3, 2), 0), scales, 0),
      w.array(random.integers(-300, 300, 4), np.int32, scale=scales * 0.04),
    ],
    *((1, 6, 5, 4), "Conv2DOptions", np.int8),
    **dict(fused=RELU, grid=grid(0.01), strideH=1, strideW=1, padding=SAME),
  )
  scales = random.uniform(2e-3, 8e-3, 4)
  x = w.node(
    "DEPTHWISE_CONV_2D",
    [
      x,
      weights(widest(codes(1, 3, 3, 4), 3), scales, 3),
      w.array(random.integers(-300, 300, 4), np.int32, scale=scales * 0.01),
    ],
    *((1, 6, 5, 4), "DepthwiseConv2DOptions", np.int8),
    **dict(fused=RELU, grid=grid(0.012), strideH=1, strideW=1),
    **dict(padding=SAME, depthMultiplier=1),
  )
  x = w.node(
    *("AVERAGE_POOL_2D", [x], (1, 1, 1, 4), "Pool2DOptions", np.int8),
    **dict(filterHeight=6, filterWidth=5, strideH=6, strideW=5, padding=1),
    grid=grid(0.012),
  )
  values = codes(3, 4)
  values[0, 0] = 127
  x = w.node(
    "FULLY_CONNECTED",
    [
      x,
      weights(values, [0.02], 0),
      w.array([40, -60, 10], np.int32, scale=[0.02 * 0.012]),
    ],
    *((1, 3), "FullyConnectedOptions", np.int8),
    grid=grid(0.05, 4),
  )
  if head:
    x = w.node(
      *("SOFTMAX", [x], (1, 3), "SoftmaxOptions", np.int8),
      grid=grid(1 / 256),
      beta=1.0,
    )
  path.write_bytes(w.bytes(x))
  return from_tflite.read(path)


@pytest.mark.parametrize("head", [True, False])
def test_integers_are_those_of_litert(tmp_path, head):
  """All but some that requantization rounds otherwise.

  LiteRT's softmax reads logits of 8 bits, in steps of 0.05 here, ours of 32: up
  to 3 / 256 of a probability.
  """
  path = tmp_path / "net.tflite"
  found = write(path, head)
  codes = np.random.default_rng(1).integers(-128, 128, (60, 6, 5, 2))
  labels = np.arange(60) % 3
  same = imported_integers.beside_runtime(found, path, codes, labels, 64)
  assert same.inputs == 60 and same.same_classes >= 0.95
  assert same.equal_codes > (0.4 if head else 0.9)
  assert same.largest_difference <= (3 if head else 1)
  assert same.accuracy == pytest.approx(same.runtime_accuracy, abs=0.05)
  short = imported_integers.beside_runtime(found, path, codes)
  assert short.accuracy is None and short.same_classes >= 0.9


def test_weights_are_the_codes_that_stand_in_the_file(tmp_path):
  found = write(tmp_path / "net.tflite")
  network = imported_integers.network_of(found)
  # Codes times their steps are the file's numbers, and the largest is 127
  for node in found.net.nodes:
    if not node.has_weights:
      continue
    codes = network.layers[node.name]["weight"].astype(np.float64)
    assert np.abs(codes).max() == 127
    kernel = np.asarray(found.variables["params"][f"{node.name}_kernel"])
    step = network.steps[f"{node.name}.weight"]
    if node.name == "conv1":  # reads images from 0 to 1
      step = step * found.for_images().std[0]
    np.testing.assert_allclose(codes * step, kernel, rtol=1e-4, atol=1e-7)
  assert network.net.image_zero == (139, 139)


def test_files_of_floats_are_refused(tmp_path):
  found = write(tmp_path / "net.tflite")._replace(codes=None)
  with pytest.raises(ValueError, match="its file reads floats; expected a qu"):
    imported_integers.network_of(found)
