"""Doors: names in a config become what a user brings, without an edit of fbq.

Everything that comes from outside has a short name, if fbq ships it, or is
named by "package.module:attribute". `KNOWN` lists the short names; nothing is
imported before it is asked for.
"""

import difflib
import importlib
import operator
from typing import Any

_NETS = "fbq.nets"
_STRATEGIES = "fbq.lab.strategies"
_RULES = "fbq.quantizers.qat_rules"

# Kind -> short name -> where it is. What stands behind a name of each kind:
#   experiment   `fbq.lab.experiment.Experiment`
#   net          a function (**net.arguments) -> `fbq.nets.Net`
#   data         `fbq.lab.data.DataSet`
#   layout       a function (net) -> {node: its module in a checkpoint}, see
#                `fbq.train.layouts.layout_of`
#   target       one of `hwsim.targets.Target`
#   mx_target    `hwsim.mx.Target`, whose unit multiplies blocks
#   rule         `fbq.quantizers.qat_rules.Rule`
#   strategy     `fbq.lab.strategies.Search`, `Valuation` or `Order`
KNOWN: dict[str, dict[str, str]] = {
  "experiment": {
    name: f"fbq.experiments.{name}:EXPERIMENT"
    for name in (
      *("bitq", "compress", "design_space", "exact", "export", "free_bits"),
      *("ladder", "measure", "profile", "ptq", "qat"),
      *("shootout", "whitepaper"),
    )
  },
  "net": {
    **{
      name: f"{_NETS}:{name}"
      for name in (
        *("convnext", "ds_cnn", "efficientnet_lite0", "fcn", "googlenet"),
        *("inception_v3", "mobilenet_v1", "mobilenet_v2", "nasnet_mobile"),
        *("resnet8", "resnet18", "resnet50", "resnet50_v2"),
        *("resnet152", "resnet152_v2", "ssd", "unet", "vgg9"),
        *("vit", "vit_segmenter", "yolov8"),
      )
    },
    "onnx": f"{_NETS}.from_onnx:net",
    "tflite": f"{_NETS}.from_tflite:net",
  },
  "data": {
    "ade20k": "fbq.lab.data:ADE20K",
    "cifar10": "fbq.lab.data:CIFAR",
    "cifar100": "fbq.lab.data:CIFAR",
    "coco": "fbq.lab.data:COCO",
    "digits": "fbq.lab.data:DIGITS",
    "idx": "fbq.lab.data:IDX",
    "imagenet": "fbq.lab.data:IMAGENET",
    "scenes": "fbq.lab.data:SCENES",
  },
  "layout": {
    "fbq": "fbq.train.layouts:fbq",
    "flax": "fbq.train.layouts:flax",
    "torch": "fbq.train.layouts:torch",
    "torchvision": "fbq.train.torch_names:layout",
  },
  "rule": {
    name: f"{_RULES}:{name.upper()}"
    for name in ("log_lsq", "lsq", "tqt", "pact", "min_max")
  },
  "strategy": {
    name: f"{_STRATEGIES}:{name.upper().replace('-', '_')}"
    for name in (
      *("free-bits", "free-bits-locked", "bayesian-bits", "bb-deterministic"),
      *("bb-post-training", "latency", "latency-budget", "softmax", "gumbel"),
      *("fractional", "fractional-budget", "gates-exact", "hessian-exact"),
      *("kl-exact", "loss-exact", "free-bits-tensors", "by-macs", "random"),
    )
  },
  "mx_target": {
    "mxdotp": "hwsim.mx:MXDOTP",
    "vmxdotp": "hwsim.mx:VMXDOTP",
  },
  "target": {
    "gap9_ne16": "hwsim.ne16:GAP9_NE16",
    "xpulp_v2": "hwsim.pulp:XPULP_V2",
    "xpulpnn_v1": "hwsim.pulp:XPULPNN_V1",
    "xpulpnn_v2": "hwsim.pulp:XPULPNN_V2",
    "xpulp_v2_iss": "hwsim.pulp:XPULP_V2_ISS",
    "xpulpnn_v1_iss": "hwsim.pulp:XPULPNN_V1_ISS",
    "xpulpnn_v2_iss": "hwsim.pulp:XPULPNN_V2_ISS",
  },
}
# Kind -> class of what stands behind its names, where that is one class.
_CLASSES = {
  "data": "fbq.lab.data:DataSet",
  "experiment": "fbq.lab.experiment:Experiment",
  "mx_target": "hwsim.mx:Target",
  "rule": f"{_RULES}:Rule",
  "target": "hwsim.targets:Target",
}


class DoorError(ValueError):
  """A name that leads to nothing; the message says what would."""


def resolve(kind: str, name: str) -> Any:
  """What a name of this kind stands for.

  Args:
    kind: key of `KNOWN`.
    name: short name, or "package.module:attribute"; attributes of attributes
      are joined by dots.

  Raises:
    DoorError: an unknown short name, a module that cannot be imported, an
      attribute that it does not have, or one of another kind.
  """
  place = KNOWN[kind].get(str(name), str(name))
  name = str(name)[:200]  # for messages
  module, colon, attribute = place.partition(":")
  if not (colon and module and attribute):
    raise DoorError(f"{kind} {name!r} is not known{_hint(kind, name)}")
  try:
    found = _load(place)
  except (ImportError, AttributeError, ValueError, TypeError) as error:
    raise DoorError(
      f"{kind} {name!r} cannot be loaded: {error}{_hint(kind, name)}"
    ) from error
  if kind in _CLASSES and not isinstance(found, _load(_CLASSES[kind])):
    raise DoorError(
      f"{kind} {name!r} is of type {type(found).__name__}, expected an object "
      f"of class {_CLASSES[kind].replace(':', '.')}"
    )
  return found


def _load(place):
  """The attribute that "package.module:attribute" names."""
  module, _, attribute = place.partition(":")
  return operator.attrgetter(attribute)(importlib.import_module(module))


def _hint(kind, name):
  names = list(KNOWN[kind])
  close = [] if name in names else difflib.get_close_matches(name, names, 1)
  meant = f"; did you mean {close[0]!r}?" if close else ";"
  return (
    f"{meant} expected one of {', '.join(names)}, or your own as "
    "'package.module:attribute'"
  )
