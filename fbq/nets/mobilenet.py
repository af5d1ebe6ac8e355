"""MobileNetV1 (arXiv 1704.04861), as the Free Bits authors train it."""

from fbq.nets.graph import INPUT, Net, Node

# (output channels at width 1, stride of the depthwise convolution)
_BLOCKS = (
  (64, 1),
  (128, 2),
  (128, 1),
  (256, 2),
  (256, 1),
  (512, 2),
  *((512, 1),) * 5,
  (1024, 2),
  (1024, 1),
)


def mobilenet_v1(
  width: float = 1.0,
  resolution: int = 224,
  classes: int = 1000,
  in_channels: int = 3,
  stem_stride: int = 2,
) -> Net:
  """A 3x3 convolution, 13 depthwise separable blocks, mean, classifier.

  Channels are `int(32 width)` times a power of two (quantization_facts.md 3.1).

  Args:
    width: channel multiplier.
    resolution: height and width of the image in pixels.
    classes: of the classifier.
    in_channels: of the image.
    stem_stride: of the first convolution; 1 is common below 64 pixels.

  Raises:
    ValueError: a width that leaves no channel, a resolution too small.
  """
  stem = int(32 * width)
  if stem < 1:
    raise ValueError(f"width is {width}, which leaves {stem} channels in the "
                     "first convolution; expected at least 1/32")
  conv = dict(norm=True, activation="relu")
  nodes = [
    Node("conv1", "conv", (INPUT,), stem, (3, 3), stem_stride, 1, **conv)
  ]
  for index, (channels, stride) in enumerate(_BLOCKS, start=1):
    before = nodes[-1].name
    nodes += [
      Node(
        f"dw{index}", "depthwise", (before,), 0, (3, 3), stride, 1, **conv
      ),
      Node(f"pw{index}", "conv", (f"dw{index}",), stem * channels // 32, **conv),
    ]
  nodes += [
    Node("pool", "avg_pool", (nodes[-1].name,), kernel=None),
    Node("classifier", "linear", ("pool",), classes, bias=True, is_output=True),
  ]
  return Net(
    f"mobilenet_v1-{width:g}-{resolution}",
    (resolution, resolution, in_channels),
    tuple(nodes),
  )
