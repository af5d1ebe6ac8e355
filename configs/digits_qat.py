"""How much of a network's accuracy quantization-aware training keeps.

  python main.py --config=configs/digits_qat.py --workdir=runs/digits_qat
  python main.py --workdir=runs/digits_qat_lsq4 \
    --config=configs/digits_qat.py:method=lsq,bits=4
  python main.py --workdir=runs/rules \
    --config=configs/digits_qat.py:bits=2,compare=all,net=resnet8

Rules: log_lsq, lsq, tqt, pact, min_max (fbq/quantizers/qat_rules.py says what
each does); bits and activation_bits: 2, 4 or 8; compare=all adds the others.
"""

from ml_collections import ConfigDict

from configs import digits_free_bits

RULES = ("log_lsq", "lsq", "tqt", "pact", "min_max")
NETS = {
  **digits_free_bits.NETS,
  "mobilenet_v2": dict(
    width=0.25, resolution=32, classes=10, in_channels=1, stem_stride=1
  ),
}


def get_config(arguments: str = "") -> ConfigDict:
  """Values only; see fbq/experiments/qat.py for what they do."""
  chosen = dict(
    method=RULES[0],
    bits="4",
    activation_bits="",
    compare="",
    net="mobilenet_v1",
  )
  for part in filter(None, arguments.split(",")):
    key, _, value = part.partition("=")
    if key not in chosen or not value:
      raise ValueError(
        f"{part!r}: expected some of {list(chosen)}, as key=value"
      )
    chosen[key] = value
  if chosen["net"] not in NETS:
    raise ValueError(f"net is {chosen['net']!r}, expected one of {list(NETS)}")
  if chosen["compare"] not in ("", "all"):
    raise ValueError(f"compare is {chosen['compare']!r}, expected 'all'")
  others = [rule for rule in RULES if rule != chosen["method"]]
  base = digits_free_bits.get_config().to_dict()
  tuning = dict(base["fine_tuning"])
  del tuning["range_learning_rate"]
  return ConfigDict(
    dict(
      experiment="qat",
      seeds=(0, 1, 2),
      net=dict(builder=chosen["net"], arguments=NETS[chosen["net"]]),
      data=base["data"],
      bits=int(chosen["bits"]),  # of weights
      activation_bits=int(chosen["activation_bits"] or chosen["bits"]),
      compare=tuple(others) if chosen["compare"] else (),
      start="float",  # or "scratch": all steps quantized
      float_training=base["float_training"],
      calibration_images=256,
      fine_tuning=tuning,
      range_learning_rates=dict.fromkeys(RULES, 1e-2),
      qat=dict(
        base["qat"],
        method=chosen["method"],
        weights="symmetric",  # "restricted", "affine": by min_max alone
        activations="symmetric",  # "affine": by min_max alone
        per_channel=True,
        quantizes="both",  # "weights", "activations"
        average_decay=0.99,  # of min_max's ranges of activations
        batch_norm="absorb",  # or "correct_then_freeze"
        freeze_share=0.5,  # of the steps, after which batch norms stand still
      ),
      checkpoint_every=200,
      log_every=25,
    )
  )
