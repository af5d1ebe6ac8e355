"""The ONNX whose layers run on integer kernels, and how right it is.

Biases are whole steps of the sums there, so how far it is the trained network
is no matter of proof: it is counted on images.
"""

from pathlib import Path

import numpy as np

from fbq.deploy import onnx_qdq
from fbq.deploy.integer import IntegerNet
from fbq.files import write_atomically

FILE = "qdq_fast.onnx"


def write(
  network: IntegerNet, path: Path, images: np.ndarray, classes: np.ndarray
) -> dict[str, int]:
  """Writes the form for integer kernels; {"fast_same_class": images}.

  Args:
    network: network in integers.
    path: file to write.
    images: [B, H, W, C], values in [0, 1].
    classes: int [B], the trained network's predictions.
  """
  model = onnx_qdq.build(network, fused_bias=True)
  write_atomically(path, model.SerializeToString())
  logits = onnx_qdq.run(onnx_qdq.session(model), images)
  return {"fast_same_class": int(np.sum(logits.argmax(-1) == classes))}
