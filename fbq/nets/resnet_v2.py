"""Residual networks with norms before convolutions (arXiv 1603.05027)."""

from fbq.nets.graph import INPUT, Net, Node

_RELU = dict(norm=True, activation="relu")


def resnet50_v2(
  width: float = 1.0,
  resolution: int = 224,
  classes: int = 1000,
  in_channels: int = 3,
) -> Net:
  """ResNet-v2-50: four stages of 3, 4, 6 and 3 bottlenecks.

  The form of TF-Slim, which the quantization whitepaper measured: a sum is
  passed on as it is, and normed and clipped at zero for the convolutions that
  read it; the last bottleneck of a stage has its stride. That norm has no
  convolution before it, since the sum is read without it too, so it is a 1x1
  depthwise layer of its own (`preact`), as in networks out of files: one weight
  a channel more than published, 15,168 of 25.6 million.

  Args:
    width: channel multiplier of the stages' 64 to 512 inner channels.
    resolution: height and width of the image in pixels.
    classes: outputs of the classifier.
    in_channels: channels of the image.
  """
  name = f"resnet50_v2-{width:g}-{resolution}"
  shape = resolution, resolution, in_channels
  return _preactivated(name, shape, width, classes, (3, 4, 6, 3))


def resnet152_v2(
  width: float = 1.0,
  resolution: int = 224,
  classes: int = 1000,
  in_channels: int = 3,
) -> Net:
  """ResNet-v2-152: as `resnet50_v2`, of 3, 8, 36 and 3 bottlenecks.

  Args:
    width: channel multiplier of the stages' 64 to 512 inner channels.
    resolution: height and width of the image in pixels.
    classes: outputs of the classifier.
    in_channels: channels of the image.
  """
  name = f"resnet152_v2-{width:g}-{resolution}"
  shape = resolution, resolution, in_channels
  return _preactivated(name, shape, width, classes, (3, 8, 36, 3))


def _preactivated(name, shape, width, classes, depths) -> Net:
  """A 7x7 convolution, a 3x3 maximum, stages of bottlenecks, mean, classifier.

  Args:
    depths: bottlenecks of each stage.
  """
  # Said before any node is made.
  if width <= 0:
    raise ValueError(f"width is {width}, expected a positive multiplier")

  # No norm yet: every reader but the first shortcut has its own.
  channels = max(1, round(64 * width))
  nodes = [
    Node("conv1", "conv", (INPUT,), channels, (7, 7), 2, 3, bias=True),
    Node("maxpool", "max_pool", ("conv1",), kernel=(3, 3), stride=2, padding=1),
  ]

  # The last block of a stage halves the image, but for the last stage.
  for stage, depth in enumerate(depths, start=1):
    inner = max(1, round(32 * 2**stage * width))
    for i in range(depth):
      stride = 2 if i == depth - 1 and stage < len(depths) else 1
      nodes += _bottleneck(
        f"stage{stage}.block{i}", nodes[-1].name, channels, inner, stride
      )
      channels = 4 * inner

  nodes += [
    Node("postnorm", "depthwise", (nodes[-1].name,), **_RELU),
    Node("pool", "avg_pool", ("postnorm",), kernel=None),
    Node("classifier", "linear", ("pool",), classes, bias=True, is_output=True),
  ]
  return Net(name, shape, tuple(nodes))


def _bottleneck(block, before, channels, inner, stride) -> list[Node]:
  """Nodes that add 1x1, 3x3 and 1x1 convolutions to what was before them.

  Args:
    before: the node that makes what the block reads, of `channels` channels.
    inner: channels within; four times as many come out.
  """
  preact, conv1, conv2 = (f"{block}.{x}" for x in ("preact", "conv1", "conv2"))
  conv3, shortcut = f"{block}.conv3", f"{block}.shortcut"
  nodes = [Node(preact, "depthwise", (before,), **_RELU)]

  # A projected shortcut reads what is normed; another one the sum itself, of
  # which a stride takes every second pixel.
  if channels != 4 * inner:
    nodes.append(
      Node(shortcut, "conv", (preact,), 4 * inner, (1, 1), stride, bias=True)
    )
  elif stride != 1:
    nodes.append(
      Node(shortcut, "max_pool", (before,), kernel=(1, 1), stride=stride)
    )
  else:
    shortcut = before

  # The last convolution has a bias and no norm: the next block's comes.
  nodes += [
    Node(conv1, "conv", (preact,), inner, **_RELU),
    Node(conv2, "conv", (conv1,), inner, (3, 3), stride, 1, **_RELU),
    Node(conv3, "conv", (conv2,), 4 * inner, bias=True),
    Node(f"{block}.add", "add", (conv3, shortcut)),
  ]
  return nodes
