"""Speed of int8 against float32 in ONNX Runtime, on this CPU.

    python -m benchmarks.deploy [--quick]

Networks of random weights, 8 bits everywhere, one image, one thread. Float and
quantized sessions run in turn; CPU time of the process, median of the ratios of
the rounds. The whitepaper (arXiv 1806.08342, table 7) has 1.5 to 2.6 on the
CPUs of phones. "fused" has biases rounded for integer kernels: see
`fbq.deploy.onnx_qdq.build`.
"""

import argparse
import time

import numpy as np
from rich.console import Console

from benchmarks.timing import machine, new_table
from fbq import nets, precision
from fbq.deploy import lowering, onnx_qdq

NETS = {
  "MobileNetV1-0.25-32": nets.mobilenet_v1(0.25, 32, 10, 1, stem_stride=1),
  "ResNet-8-32": nets.resnet8(1.0, 32),
  "MobileNetV1-1.0-224": nets.mobilenet_v1(1.0, 224, 1000),
  "ResNet-18-224": nets.resnet18(1.0, 224, 1000),
}
QUICK = ("MobileNetV1-0.25-32", "ResNet-8-32")


def variables(net):
  """Random weights and ranges: speed does not depend on them."""
  random = np.random.default_rng(0)
  params, stats, ranges = {}, {}, {}
  for node, layer in zip(net.nodes, net.workload.layers, strict=True):
    if node.has_weights:
      inputs = 1 if node.op == "depthwise" else layer.in_channels
      window = (layer.kernel_height, layer.kernel_width)
      if node.op == "linear":
        window = ()
      channels = layer.out_channels
      shape = (*window, inputs, channels)
      kernel = random.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))
      params[f"{node.name}_kernel"] = kernel
      per_channel = () if node.op == "linear" else (channels,)
      ranges[f"{node.name}.weight"] = np.full(per_channel, np.abs(kernel).max())
      params[f"{node.name}_norm"] = dict(
        scale=np.ones(channels), bias=np.zeros(channels)
      )
      stats[f"{node.name}_norm"] = dict(
        mean=np.zeros(channels), var=np.ones(channels)
      )
      params[f"{node.name}_bias"] = np.zeros(channels)
  own = (x for x in net.is_signed if net.step_site.get(x, x) == x)
  ranges |= {site: np.float32(4) for site in own}
  return dict(params=params, batch_stats=stats, ranges=ranges)


def measure(net, rounds):
  """CPU seconds {session: [rounds]} of one image in each session."""
  network = lowering.lower(net, variables(net), precision.uniform(net, 8))
  models = {
    "float32": onnx_qdq.build_float(network),
    "int8": onnx_qdq.build(network),
    "int8, fused": onnx_qdq.build(network, fused_bias=True),
  }
  sessions = {
    name: onnx_qdq.session(model, threads=1) for name, model in models.items()
  }
  image = np.random.default_rng(0).uniform(size=(1, *net.input_shape))
  seconds = {name: [] for name in sessions}
  for i in range(rounds + 2):
    for name, session in sessions.items():
      start = time.process_time()
      onnx_qdq.run(session, image)
      if i >= 2:  # the first ones warm up
        seconds[name].append(time.process_time() - start)
  return seconds


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    "--quick", action="store_true", help="small nets, briefly"
  )
  quick = parser.parse_args().quick
  console = Console()
  console.print(machine())
  table = new_table("ONNX Runtime: float32 over int8, CPU time of one image")
  for name in ("float32 ms", "over int8", "over int8, fused"):
    table.add_column(name, justify="right")
  for name in QUICK if quick else NETS:
    seconds = measure(NETS[name], 10 if quick else 25)
    float_ = np.array(seconds["float32"])
    ratios = [
      np.median(float_ / seconds[key]) for key in ("int8", "int8, fused")
    ]
    table.add_row(
      name, f"{1e3 * np.median(float_):.2f}", *(f"{x:.2f}" for x in ratios)
    )
  console.print(table)


if __name__ == "__main__":
  main()
