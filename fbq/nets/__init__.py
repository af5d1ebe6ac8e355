"""Networks as tables of layers: one builder file per family.

A fork adds a network by writing one builder and passing it by its dotted path
(`config.net.builder = "my_package.my_net:build"`).
"""

import importlib

from fbq.nets.convnext import convnext
from fbq.nets.ds_cnn import ds_cnn
from fbq.nets.efficientnet import efficientnet_lite0
from fbq.nets.googlenet import googlenet
from fbq.nets.graph import Net, Node
from fbq.nets.inception import inception_v3
from fbq.nets.mobilenet import mobilenet_v1, mobilenet_v2
from fbq.nets.nasnet import nasnet_mobile
from fbq.nets.one_way import fcn, ssd
from fbq.nets.resnet import resnet8, resnet18, resnet50, resnet152
from fbq.nets.resnet_v2 import resnet50_v2, resnet152_v2
from fbq.nets.unet import unet
from fbq.nets.vgg import vgg9
from fbq.nets.vit import vit, vit_segmenter
from fbq.nets.yolov8 import yolov8

BUILDERS = {
  "convnext": convnext,
  "ds_cnn": ds_cnn,
  "efficientnet_lite0": efficientnet_lite0,
  "fcn": fcn,
  "googlenet": googlenet,
  "inception_v3": inception_v3,
  "mobilenet_v1": mobilenet_v1,
  "mobilenet_v2": mobilenet_v2,
  "nasnet_mobile": nasnet_mobile,
  "resnet8": resnet8,
  "resnet18": resnet18,
  "resnet50": resnet50,
  "resnet50_v2": resnet50_v2,
  "resnet152": resnet152,
  "resnet152_v2": resnet152_v2,
  "ssd": ssd,
  "unet": unet,
  "vgg9": vgg9,
  "vit": vit,
  "vit_segmenter": vit_segmenter,
  "yolov8": yolov8,
}

__all__ = [
  "BUILDERS",
  "Net",
  "Node",
  "build",
  "convnext",
  "ds_cnn",
  "efficientnet_lite0",
  "fcn",
  "googlenet",
  "inception_v3",
  "mobilenet_v1",
  "mobilenet_v2",
  "nasnet_mobile",
  "resnet8",
  "resnet18",
  "resnet50",
  "resnet50_v2",
  "resnet152",
  "resnet152_v2",
  "ssd",
  "unet",
  "vgg9",
  "vit",
  "vit_segmenter",
  "yolov8",
]


def build(builder: str, **settings) -> Net:
  """The network that `builder` makes from `settings`.

  Args:
    builder: a name in `BUILDERS`, or "package.module:function" of a fork.
    **settings: arguments of the builder, such as width, resolution, classes.

  Raises:
    ValueError: unknown builder, or settings it does not take.
  """
  if ":" in builder:
    module, function = builder.split(":", 1)
    make = getattr(importlib.import_module(module), function)
  elif builder in BUILDERS:
    make = BUILDERS[builder]
  else:
    raise ValueError(
      f"net.builder is {builder!r}, expected one of {sorted(BUILDERS)} or "
      "'package.module:function'"
    )
  try:
    return make(**settings)
  except TypeError as error:
    raise ValueError(f"net.builder {builder!r}: {error}") from error
