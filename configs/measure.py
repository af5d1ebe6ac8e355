"""The loop closed on this machine's ONNX Runtime: measure, choose, measure.

  python main.py --config=configs/measure.py --workdir=runs/measure
  for net in mobilenet_v1 mobilenet_v2 resnet18 efficientnet_lite0; do
    python main.py --config=configs/measure.py:$net --workdir=runs/measure/$net
  done

Times every layer in int8 and in float on one core, and every conversion between
unlike neighbours; lets the Free Bits pass and an exact choice pick by layer;
writes the networks that were picked as ONNX files and times them whole, beside
int8 and float throughout. latency_table.csv is a target for other experiments,
of 1 GHz: --config.target= --config.measured_latency=.../latency_table.csv.

Run it while nothing else runs: it says so if something did, and what it then
measured is not to be relied on. Takes a minute or so of processor time for each
network, two for ResNet-18. Weights are random, which changes no times; with
--config.float_checkpoint and --config.images noise is that of your network.

Obtained with others at work (2026-11-26, onnxruntime 1.31.1, an AMD EPYC with
VNNI, processor time): in MobileNetV1 and V2 the first convolution and the first
depthwise one are faster in float, together; the whole network takes 4.51 ms and
not 4.69 (predicted 4.43), and 3.85 ms and not 4.10 (predicted 3.84), with 0.9
and 0.8 times the noise of int8.
"""

from ml_collections import ConfigDict

from fbq.config import chosen, configured

NETS = {
  "mobilenet_v1": dict(width=1.0, resolution=224, classes=1000),
  "mobilenet_v2": dict(width=1.0, resolution=224, classes=1000),
  "resnet18": dict(width=1.0, resolution=224, classes=1000),
  "efficientnet_lite0": dict(width=1.0, resolution=224, classes=1000),
  "resnet8": dict(width=1.0, resolution=32, classes=10),
}


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  found = chosen(words, net=tuple(NETS))
  return configured(
    "measure",
    net=dict(builder=found["net"], arguments=NETS[found["net"]]),
  )
