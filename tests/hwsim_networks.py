"""Networks of the golden layer lists as workloads, for tests of `hwsim`."""

import functools
import json
import pathlib

from hwsim.workload import Layer, Workload

GOLDEN = pathlib.Path(__file__).parent / "golden"


def golden(name):
  return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


def chain(name, layers):
  """Layers one after the other: an 8-bit image in, logits out."""
  made = [f"{layer.name}.out" for layer in layers]
  return Workload(
    name,
    tuple(layers),
    tuple((i - 1,) for i in range(len(layers))),
    tuple((site,) for site in ("image.out", *made[:-1])),
    (*made[:-1], None),
    (("image.out", 8),),
  )


@functools.cache
def network(name):
  """The weighted layers of a network of `bops_counts.json`, as a chain."""
  layers = []
  for row in golden("bops_counts.json")[name]["layer_list"]:
    op = {"pw": "conv", "dw": "depthwise"}.get(row["type"], row["type"])
    if op not in ("conv", "depthwise"):
      layers.append(Layer(row["name"], "linear", row["cin"], row["cout"]))
      continue
    size, k = row["hin"], row["k"]
    layers.append(
      Layer(
        row["name"],
        op,
        row["cin"],
        row["cout"],
        size,
        size,
        k,
        k,
        row["stride"],
        (k // 2,) * 4,
      )  # fmt: skip
    )
  return chain(name, layers)


def mobilenet_v1():
  return network("MobileNetV1-0.75-224")
