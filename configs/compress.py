"""A network out of an .onnx or .tflite file in mixed precision, no training.

  python main.py --config=configs/compress.py:model=net.onnx \
    --config.calibration=photos/ --workdir=runs/mine

Inputs are a folder of pictures or of .bin files (MLPerf Tiny's form), a .npz
with "images" and, if there are labels, "labels", a .npy or a .bin file; see
docs/your_own.md. Without labels it tells agreement with the float network.
"""

from ml_collections import ConfigDict

from fbq.config import chosen, configured


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  given = chosen(words, model="", target="xpulpnn_v1")
  return configured(
    "compress",
    model=given["model"],
    calibration="",
    target=given["target"],
  )
