"""A point of a run, fine-tuned or rounded, as integers for others to run.

  python main.py --config=configs/export.py --workdir=runs/export
  python main.py --workdir=runs/export_88 \
    --config=configs/export.py:from=runs/digits_free_bits,point=8/8
  python main.py --workdir=runs/export_exact \
    --config=configs/export.py:from=runs/digits_exact,point=exact-90%
  python main.py --workdir=runs/export_bitq \
    --config=configs/export.py:from=runs/digits_bitq,point=best
  python main.py --workdir=runs/mine-export \
    --config=configs/export.py:from=runs/mine,point=flash-50%

The last is of a run of compress. That of a BitQ run gives packed codes and
exponents; a point is a name, or that of a word. It takes 20 s; of ResNet-8 at 8
bits all 14,400 test logits were those of the trained network, bit for bit, and
79.2 kB became 9.3 kB.

Takes a minute on two cores. Expected: with 64-bit requantization every channel
proven equal to the trained network, and the same predicted class on all 1,440
test images, in integers and in ONNX Runtime. Obtained on 2026-11-21 (jax
0.10.2, onnxruntime 1.31.1) for the recommended point: 1,440 of 1,440 in both;
with 32-bit requantization 1,428, at 96.67 % instead of 96.74 %.
"""

from ml_collections import ConfigDict

from fbq.config import chosen, configured


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  given = chosen(words, **{"from": "runs/digits_free_bits", "point": "best"})
  return configured("export", source=given["from"], point=given["point"])
