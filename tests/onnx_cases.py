"""Operators of ONNX files that tests make, and what is made of them."""

import jax
import numpy as np
import onnxruntime

from fbq.model import Model
from fbq.nets.imported import Imported

RANDOM = np.random.default_rng(0)
SHAPE = (4, 6, 5)  # channels, height, width


def normal(*shape):
  return RANDOM.normal(size=shape)


def saved(model, folder):
  path = folder / "net.onnx"
  path.write_bytes(model.SerializeToString())
  return path


def outputs(found: Imported, x: np.ndarray) -> np.ndarray:
  """What the network makes of [B, H, W, C], as the file lays it out."""
  x = np.asarray((x - found.mean) / found.std, np.float32)
  made = np.asarray(Model(found.net).apply(found.variables, x, False))
  made = made.reshape(len(x), *found.net.shapes[found.net.nodes[-1].name])
  made = found.output_axes.from_images(made)
  return np.asarray(jax.nn.softmax(made, 1)) if found.head else made


def expected(path, found, x) -> np.ndarray:
  """What ONNX Runtime makes of the same."""
  session = onnxruntime.InferenceSession(
    path, providers=["CPUExecutionProvider"]
  )
  x = found.input_axes.from_images(x).astype(np.float32)
  return session.run(None, {session.get_inputs()[0].name: x})[0]


def conv(w, x, out, outputs=4, inputs=4, kernel=(3, 3), bias=True, **more):
  weight = w.array(f"{out}.w", normal(outputs, inputs, *kernel))
  biases = [w.array(f"{out}.b", normal(outputs))] * bias
  return w.node("Conv", [x, weight, *biases], out, **more)


def norm(w, x, out, channels=4, epsilon=1e-3):
  arrays = [normal(channels) for _ in range(3)] + [
    RANDOM.uniform(0.5, 2, channels)
  ]
  names = [w.array(f"{out}.{i}", array) for i, array in enumerate(arrays)]
  return w.node("BatchNormalization", [x, *names], out, epsilon=epsilon)


def clip(w, x, out, *bounds):
  names = [
    "" if bound is None else w.array(f"{out}.{i}", bound)
    for i, bound in enumerate(bounds)
  ]
  return w.node("Clip", [x, *names], out)


def quantized(w, x):
  """QuantizeLinear and DequantizeLinear; zero point 0 in a ReLU's place."""
  codes = RANDOM.integers(-127, 128, (4, 4, 3, 3))
  zeros = w.array("zeros", [0] * 4, np.int8)
  weight = w.node(
    "DequantizeLinear",
    [
      w.array("codes", codes, np.int8),
      w.array("s", [0.01, 0.02, 0.03, 0.04]),
      zeros,
    ],
    "weight",
    axis=0,
  )
  scale, zero = w.array("scale", 2.0**-10), w.array("zero", 0, np.uint16)
  x = w.node("Conv", [x, weight], "a")
  x = w.node("QuantizeLinear", [x, scale, zero], "q")
  x = w.node("Identity", [x], "p")
  x = w.node("DequantizeLinear", [x, scale, zero], "d")
  return conv(w, x, "out")
