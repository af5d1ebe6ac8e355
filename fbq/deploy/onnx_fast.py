"""The ONNX whose layers run on integer kernels, and how right it is.

Biases are whole steps of the sums there, so how far it is the trained network
is no matter of proof: it is counted on images.
"""

import functools
from pathlib import Path

import numpy as np

from fbq.deploy import onnx_qdq
from fbq.deploy.integer import IntegerNet
from fbq.files import write_atomically

FILE = "qdq_fast.onnx"


def write(
  network: IntegerNet, path: Path, images: np.ndarray, classes: np.ndarray
) -> dict[str, int]:
  """Writes the form for integer kernels, and runs it.

  Returns {"fast_same_class": images, "fast_saturates": 1 or 0}.

  Args:
    network: network in integers.
    path: file to write.
    images: [B, H, W, C], values in [0, 1].
    classes: int [B], the trained network's predictions.
  """
  model = onnx_qdq.build(network, fused_bias=True)
  write_atomically(path, model.SerializeToString())
  logits = onnx_qdq.run(onnx_qdq.session(model), images)
  return {
    "fast_same_class": int(np.sum(logits.argmax(-1) == classes)),
    "fast_saturates": int(saturates()),
  }


@functools.cache
def saturates() -> bool:
  """Whether integer kernels here add two products of 8 bits in 16.

  Those of ONNX Runtime do on x86 processors without VNNI: where weights are
  large, sums are cut off and layers compute something else (its documentation
  of quantization says so under "saturation").
  """
  import onnx
  import onnxruntime

  many, large = 64, 127
  kind, make = onnx.TensorProto, onnx.helper
  graph = make.make_graph(
    [make.make_node("MatMulInteger", ["x", "w"], ["y"])],
    "sums",
    [make.make_tensor_value_info("x", kind.UINT8, [1, many])],
    [make.make_tensor_value_info("y", kind.INT32, [1, 16])],
    [make.make_tensor("w", kind.INT8, [many, 16], [large] * many * 16)],
  )
  model = make.make_model(
    graph,
    opset_imports=[make.make_opsetid("", onnx_qdq.OPSET)],
    ir_version=onnx_qdq.IR_VERSION,
  )
  session = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"]
  )
  (sums,) = session.run(None, {"x": np.full((1, many), 255, np.uint8)})
  return bool(np.any(np.asarray(sums) != many * 255 * large))
