"""Residual networks (arXiv 1512.03385)."""

from fbq.nets.graph import INPUT, Net, Node


def resnet8(
  width: float = 1.0,
  resolution: int = 32,
  classes: int = 10,
  in_channels: int = 3,
) -> Net:
  """ResNet-8 for CIFAR-sized images: three stages of one basic block.

  The form of quantlab (quantization_facts.md 2): no biases before batch norm, a
  1x1 convolution with batch norm on the shortcuts of stages 1 and 2.

  Args:
    width: channel multiplier of the stages' 16, 32 and 64 channels.
    resolution: height and width of the image in pixels.
    classes: of the classifier.
    in_channels: of the image.
  """
  channels = [max(1, round(c * width)) for c in (16, 32, 64)]
  relu = dict(norm=True, activation="relu")
  nodes = [Node("conv1", "conv", (INPUT,), channels[0], (3, 3), 1, 1, **relu)]
  for stage, features in enumerate(channels):
    block, before = f"stage{stage}", nodes[-1].name
    stride = 1 if stage == 0 else 2
    nodes += [
      Node(f"{block}.conv1", "conv", (before,), features, (3, 3), stride, 1,
           **relu),
      Node(f"{block}.conv2", "conv", (f"{block}.conv1",), features, (3, 3), 1,
           1, norm=True),
    ]
    shortcut = before
    if stage:
      shortcut = f"{block}.shortcut"
      nodes.append(
        Node(shortcut, "conv", (before,), features, (1, 1), stride, norm=True))
    nodes.append(
      Node(f"{block}.add", "add", (f"{block}.conv2", shortcut),
           activation="relu"))
  nodes += [
    Node("pool", "avg_pool", (nodes[-1].name,), kernel=None),
    Node("classifier", "linear", ("pool",), classes, bias=True, is_output=True),
  ]
  return Net(
    f"resnet8-{width:g}-{resolution}",
    (resolution, resolution, in_channels),
    tuple(nodes),
  )
