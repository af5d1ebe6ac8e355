"""MLPerf Tiny's keyword spotting at weights of 8 to 2 bits, without training.

  python main.py --workdir=runs/kws \
    --config=configs/mlperf_kws.py:model=kws_ref_model.tflite,data=kws01

Both are of the benchmark: `kws_ref_model.tflite` of mlcommons/tiny
(benchmark/training/keyword_spotting/trained_models), the published int8 DS-CNN;
and a folder of its inputs (eembc/energyrunner, datasets/kws01): .bin files of
490 int8 and y_labels.csv, all 1,000 or some of them. Beside the table stand
GreenWaves' accuracies on GAP9 (MLPerf Tiny v1.0), where the first layer keeps 8
bits: here it has as few as the others. Roundings, biases and ranges are found
on a fifth of the inputs, without their labels; the others judge.

Takes 55 s of processor time. Obtained on 2026-11-27 (jax 0.10.2) on 500 of the
1,000 inputs, 400 of which judged; accuracy in percent, standard error 1.4:

  bits of weights                  8     7     6     5     4     3     2
  min/max                       91.5  91.5  91.5  90.8  83.0  53.8   8.5
  least squares, biases         91.5  91.0  91.5  90.2  88.0  73.2   8.8
  AdaRound, biases              91.5  91.5  91.0  91.2  90.5  91.2  79.2
  GreenWaves (1,000 inputs)     90.1  90.1  90.0  90.0  84.3  63.1   9.4

Float has 91.2. Bits by tensor in a third of the flash of 8 bits: 88.0, where
the best uniform network has 79.2; in half of it 90.2, and uniform 4 bits 90.5;
in a quarter all have 2 bits. Our integers of the file and LiteRT's: the same
class for 99.5 %, the same integer for 91.5 % of the outputs.
"""

from ml_collections import ConfigDict

from fbq.config import chosen, configured

# By NNTool, not retrained, on all 1,000 inputs: with the ranges of the file,
# and with its own (mlcommons tiny_results_v1.0,
# closed/greenwaves-technologies, accuracy/logs).
GREENWAVES = (
  {
    "name": "GreenWaves on GAP9",
    "accuracy": {
      **{"8": 90.1, "7": 90.1, "6": 90.0, "5": 90.0},
      **{"4": 84.3, "3": 63.1, "2": 9.4},
    },
  },
  {
    "name": "the same, calibrated by them",
    "accuracy": {
      **{"8": 90.0, "7": 90.5, "6": 90.2, "5": 89.8},
      **{"4": 84.3, "3": 62.6, "2": 8.9},
    },
  },
)


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  given = chosen(words, model="kws_ref_model.tflite", data="kws01")
  return configured(
    "ladder",
    net=dict(builder="tflite", arguments={"file": given["model"]}),
    float_checkpoint=given["model"],
    inputs=dict(
      path=given["data"],
      calibration_share=0.2,
      calibration=256,
      correction=64,
      sensitivity=64,
      batch=32,
    ),
    weight_bits=(8, 7, 6, 5, 4, 3, 2),
    methods=("min_max", "least_squares", "adaround"),
    mixed_by="adaround",
    targets={"gap9_ne16": {}, "xpulpnn_v2": {}},
    choices=(
      dict(
        target="gap9_ne16", cost="weight_bytes", shares=(1 / 2, 1 / 3, 1 / 4)
      ),
    ),
    published=GREENWAVES,
  )
