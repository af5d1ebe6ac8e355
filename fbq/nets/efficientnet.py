"""EfficientNet-Lite0 (arXiv 1905.11946, without its attention and Swish)."""

from fbq.nets.graph import INPUT, Net, Node
from fbq.nets.node import same_padding

# (kernel, stride, expansion, output channels, blocks); the first of a group has
# its stride. EfficientNet-B0's table, whose stem and head Lite0 keeps.
_GROUPS = (
  (3, 1, 1, 16, 1),
  (3, 2, 6, 24, 2),
  (5, 2, 6, 40, 2),
  (3, 2, 6, 80, 3),
  (5, 1, 6, 112, 3),
  (5, 2, 6, 192, 4),
  (3, 1, 6, 320, 1),
)
_RELU6 = dict(norm=True, activation="relu", clip=6.0)

# Images x in [0, 1] are read as (x - mean) / std, that is (pixel - 127) / 128.
NORMALIZED = ((127 / 255,) * 3, (128 / 255,) * 3)


def efficientnet_lite0(
  width: float = 1.0,
  resolution: int = 224,
  classes: int = 1000,
  in_channels: int = 3,
  groups: int = len(_GROUPS),
) -> Net:
  """A 3x3 convolution, 16 inverted residuals, a 1x1 one, mean, classifier.

  As released for TensorFlow Lite: ReLU6, no squeeze and excitation, padding as
  TensorFlow's "same" (an odd pixel goes below and to the right), images padded
  with their mean colour, 127. Its weights for ImageNet are in a package, see
  `configs/photos_lite0.py`.

  Args:
    width: channel multiplier.
    resolution: height and width of the image in pixels.
    classes: outputs of the classifier.
    in_channels: channels of the image.
    groups: groups of blocks of equal channels, 7 as released; fewer make a
      smaller network.

  Raises:
    ValueError: a width that is not positive, no groups or too many.
  """
  # Said before any node is made.
  if width <= 0:
    raise ValueError(f"width is {width}, expected a positive multiplier")
  if not 1 <= groups <= len(_GROUPS):
    raise ValueError(f"groups is {groups}, expected 1 to {len(_GROUPS)}")
  features = lambda count: max(1, round(count * width))

  # What "same" pads depends on the size of the image, so it is kept beside.
  size, channels = -(-resolution // 2), features(32)
  padding = 2 * same_padding(resolution, 3, 2)
  nodes = [
    Node("conv1", "conv", (INPUT,), channels, (3, 3), 2, padding, **_RELU6)
  ]

  plan = [
    (kernel, stride if i == 0 else 1, expansion, features(outputs))
    for kernel, stride, expansion, outputs, blocks in _GROUPS[:groups]
    for i in range(blocks)
  ]
  for index, (kernel, stride, expansion, outputs) in enumerate(plan, start=1):
    block, before = f"block{index}", nodes[-1].name
    wide = before
    if expansion > 1:
      wide = f"{block}.expand"
      nodes.append(
        Node(wide, "conv", (before,), expansion * channels, **_RELU6)
      )
    padding = 2 * same_padding(size, kernel, stride)
    window = (kernel, kernel)
    nodes += [
      Node(
        *(f"{block}.dw", "depthwise", (wide,), 0, window, stride, padding),
        **_RELU6,
      ),
      Node(f"{block}.project", "conv", (f"{block}.dw",), outputs, norm=True),
    ]
    size = -(-size // stride)

    # Blocks of equal input and output add their input.
    if stride == 1 and outputs == channels:
      nodes.append(Node(f"{block}.add", "add", (f"{block}.project", before)))
    channels = outputs

  nodes += [
    Node("conv2", "conv", (nodes[-1].name,), features(1280), **_RELU6),
    Node("pool", "avg_pool", ("conv2",), kernel=None),
    Node("classifier", "linear", ("pool",), classes, bias=True, is_output=True),
  ]
  return Net(
    f"efficientnet_lite0-{width:g}-{resolution}",
    (resolution, resolution, in_channels),
    tuple(nodes),
    image_zero=(127,) * in_channels,
  )
