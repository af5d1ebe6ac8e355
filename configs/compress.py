"""A network out of an .onnx or .tflite file in mixed precision, no training.

  python main.py --config=configs/compress.py:model=net.onnx \
    --config.calibration=photos/ --workdir=runs/mine

Inputs are a folder of pictures or of .bin files (MLPerf Tiny's form), a .npz
with "images" and, if there are labels, "labels", a .npy or a .bin file; see
docs/your_own.md. Without labels it tells agreement with the float network.

MLPerf Tiny's int8 keyword spotting with 500 of its inputs takes 27 s of
processor time on xpulpnn_v1, 57 s with target=gap9_ne16 (2026-11-26, jax
0.10.2). Expected: at 3 bits and more as accurate as in float within the error,
at 2 bits 10 points less. Obtained, uniform weights and 8-bit activations: 90.6,
90.6, 91.1, 80.6 % at 8, 4, 3 and 2 bits, float 91.1 (372 inputs, standard error
1.5).
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
