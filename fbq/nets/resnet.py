"""Residual networks (arXiv 1512.03385)."""

from fbq.nets.graph import INPUT, Net, Node

_RELU = dict(norm=True, activation="relu")


def resnet8(
  width: float = 1.0,
  resolution: int = 32,
  classes: int = 10,
  in_channels: int = 3,
) -> Net:
  """ResNet-8 for CIFAR-sized images: three stages of one basic block.

  The form of quantlab (docs/facts/quantization.md 2): no biases before batch
  norm, a 1x1 convolution with batch norm on the shortcuts of stages 1 and 2.

  Args:
    width: channel multiplier of the stages' 16, 32 and 64 channels.
    resolution: height and width of the image in pixels.
    classes: outputs of the classifier.
    in_channels: channels of the image.
  """
  # At least one channel, however narrow.
  channels = [max(1, round(c * width)) for c in (16, 32, 64)]
  nodes = [Node("conv1", "conv", (INPUT,), channels[0], (3, 3), 1, 1, **_RELU)]
  for stage, features in enumerate(channels):
    block, before = f"stage{stage}", nodes[-1].name
    stride = 1 if stage == 0 else 2

    # The ReLU comes after the sum, so the second convolution has none.
    nodes += [
      Node(
        f"{block}.conv1",
        "conv",
        (before,),
        features,
        (3, 3),
        stride,
        1,
        **_RELU,
      ),
      Node(
        f"{block}.conv2",
        "conv",
        (f"{block}.conv1",),
        features,
        (3, 3),
        1,
        1,
        norm=True,
      ),
    ]

    # A convolution on the shortcut only where the shape changes.
    shortcut = before
    if stage:
      shortcut = f"{block}.shortcut"
      nodes.append(
        Node(shortcut, "conv", (before,), features, (1, 1), stride, norm=True)
      )
    nodes.append(
      Node(
        f"{block}.add", "add", (f"{block}.conv2", shortcut), activation="relu"
      )
    )

  nodes += [
    Node("pool", "avg_pool", (nodes[-1].name,), kernel=None),
    Node("classifier", "linear", ("pool",), classes, bias=True, is_output=True),
  ]
  return Net(
    f"resnet8-{width:g}-{resolution}",
    (resolution, resolution, in_channels),
    tuple(nodes),
  )


def resnet18(
  width: float = 1.0,
  resolution: int = 224,
  classes: int = 1000,
  in_channels: int = 3,
) -> Net:
  """ResNet-18: four stages of two basic blocks (two 3x3 convolutions each).

  Args:
    width: channel multiplier of the stages' 64 to 512 channels.
    resolution: height and width of the image in pixels.
    classes: outputs of the classifier.
    in_channels: channels of the image.
  """

  def basic(block, before, features, stride):
    """Nodes of the residual branch, and its output channels."""
    conv1 = f"{block}.conv1"
    return [
      Node(conv1, "conv", (before,), features, (3, 3), stride, 1, **_RELU),
      Node(
        f"{block}.conv2", "conv", (conv1,), features, (3, 3), 1, 1, norm=True
      ),
    ], features

  name = f"resnet18-{width:g}-{resolution}"
  shape = resolution, resolution, in_channels
  return _imagenet(name, shape, width, classes, basic, (2, 2, 2, 2))


def resnet50(
  width: float = 1.0,
  resolution: int = 224,
  classes: int = 1000,
  in_channels: int = 3,
) -> Net:
  """ResNet-50 v1.5: four stages of 3, 4, 6 and 3 bottlenecks.

  A bottleneck is a 1x1, a 3x3 and a 1x1 convolution to four times the channels.
  "v1.5": the 3x3 convolution carries the stride, not the first 1x1.

  Args:
    width: channel multiplier of the stages' 64 to 512 inner channels.
    resolution: height and width of the image in pixels.
    classes: outputs of the classifier.
    in_channels: channels of the image.
  """

  name = f"resnet50-{width:g}-{resolution}"
  shape = resolution, resolution, in_channels
  return _imagenet(name, shape, width, classes, _bottleneck, (3, 4, 6, 3))


def resnet152(
  width: float = 1.0,
  resolution: int = 224,
  classes: int = 1000,
  in_channels: int = 3,
) -> Net:
  """ResNet-152 v1.5: as `resnet50`, of 3, 8, 36 and 3 bottlenecks.

  Args:
    width: channel multiplier of the stages' 64 to 512 inner channels.
    resolution: height and width of the image in pixels.
    classes: outputs of the classifier.
    in_channels: channels of the image.
  """
  name = f"resnet152-{width:g}-{resolution}"
  shape = resolution, resolution, in_channels
  return _imagenet(name, shape, width, classes, _bottleneck, (3, 8, 36, 3))


def _bottleneck(block, before, features, stride):
  """Nodes of the residual branch, and its output channels."""
  conv1, conv2 = f"{block}.conv1", f"{block}.conv2"
  return [
    Node(conv1, "conv", (before,), features, **_RELU),
    Node(conv2, "conv", (conv1,), features, (3, 3), stride, 1, **_RELU),
    Node(f"{block}.conv3", "conv", (conv2,), 4 * features, norm=True),
  ], 4 * features


def _imagenet(name, shape, width, classes, branch, depths) -> Net:
  """A 7x7 convolution, a 3x3 maximum, four stages, mean, classifier.

  Args:
    branch: (block name, node before, features, stride) -> (nodes of the
      residual branch, output channels of the branch).
    depths: blocks of each stage.
  """
  # The stem and its pool leave a quarter of the rows and columns.
  stem = max(1, round(64 * width))
  nodes = [
    Node("conv1", "conv", (INPUT,), stem, (7, 7), 2, 3, **_RELU),
    Node("maxpool", "max_pool", ("conv1",), kernel=(3, 3), stride=2, padding=1),
  ]
  channels = stem

  # Each stage after the first halves the image in its first block.
  for stage, depth in enumerate(depths, start=1):
    features = max(1, round(32 * 2**stage * width))
    for i in range(depth):
      block, before = f"stage{stage}.block{i}", nodes[-1].name
      stride = 2 if i == 0 and stage > 1 else 1
      residual, out_channels = branch(block, before, features, stride)
      nodes += residual

      # A convolution on the shortcut only where the shape changes.
      shortcut = before
      if stride != 1 or out_channels != channels:
        shortcut = f"{block}.shortcut"
        nodes.append(
          Node(
            shortcut, "conv", (before,), out_channels, (1, 1), stride, norm=True
          )
        )

      # The ReLU comes after the sum, so branches end without one.
      nodes.append(
        Node(
          f"{block}.add",
          "add",
          (residual[-1].name, shortcut),
          activation="relu",
        )
      )
      channels = out_channels

  nodes += [
    Node("pool", "avg_pool", (nodes[-1].name,), kernel=None),
    Node("classifier", "linear", ("pool",), classes, bias=True, is_output=True),
  ]
  return Net(name, shape, tuple(nodes))
