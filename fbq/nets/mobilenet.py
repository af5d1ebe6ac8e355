"""MobileNetV1 (arXiv 1704.04861) and MobileNetV2 (arXiv 1801.04381)."""

import math

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

# (expansion, output channels at width 1, blocks, stride of the first of them)
_BOTTLENECKS = (
  (1, 16, 1, 1),
  (6, 24, 2, 2),
  (6, 32, 3, 2),
  (6, 64, 4, 2),
  (6, 96, 3, 1),
  (6, 160, 3, 2),
  (6, 320, 1, 1),
)


def mobilenet_v1(
  width: float = 1.0,
  resolution: int = 224,
  classes: int = 1000,
  in_channels: int = 3,
  stem_stride: int = 2,
  last_stride: int = 2,
) -> Net:
  """A 3x3 convolution, 13 depthwise separable blocks, mean, classifier.

  As the Free Bits authors train it: channels are `int(32 width)` times a power
  of two (docs/facts/quantization.md 3.1).

  Args:
    width: channel multiplier.
    resolution: height and width of the image in pixels.
    classes: outputs of the classifier.
    in_channels: channels of the image.
    stem_stride: stride of the first convolution; 1 is common below 64 pixels.
    last_stride: stride of block 12, the last one that has any; with 1, 32
      pixels end in maps of 4x4 and not of 2x2, which no kernel of PULP pads
      right (`fbq.deploy.dory_limits`).

  Raises:
    ValueError: a width that leaves no channel, a resolution too small.
  """
  # Every layer has a multiple of the stem's channels, as in the authors' code,
  # so a width that leaves none there leaves none anywhere.
  stem = int(32 * width)
  if stem < 1:
    raise ValueError(
      f"width is {width}, which leaves {stem} channels in the "
      "first convolution; expected at least 1/32"
    )

  # Batch norm and ReLU follow every convolution.
  conv = dict(norm=True, activation="relu")
  nodes = [
    Node("conv1", "conv", (INPUT,), stem, (3, 3), stem_stride, 1, **conv)
  ]
  for index, (channels, stride) in enumerate(_BLOCKS, start=1):
    before = nodes[-1].name
    stride = last_stride if index == 12 else stride
    nodes += [
      Node(f"dw{index}", "depthwise", (before,), 0, (3, 3), stride, 1, **conv),
      Node(
        f"pw{index}", "conv", (f"dw{index}",), stem * channels // 32, **conv
      ),
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


def mobilenet_v2(
  width: float = 1.0,
  resolution: int = 224,
  classes: int = 1000,
  in_channels: int = 3,
  stem_stride: int = 2,
  attention: str = "none",
) -> Net:
  """A 3x3 convolution, 17 inverted residuals, a 1x1 one, mean, classifier.

  An inverted residual expands (but for the first), convolves depthwise and
  projects without an activation function; blocks of equal input and output add
  their input. Outputs of projections and of adders are signed and keep 8 bits,
  as the Free Bits authors deploy them (docs/facts/pulp.md 4.6), so that the
  searched activations are those inside the blocks. Channels are rounded to
  multiples of 8 as in torchvision, and the last convolution is not narrowed
  below width 1.

  Args:
    width: channel multiplier.
    resolution: height and width of the image in pixels.
    classes: outputs of the classifier.
    in_channels: channels of the image.
    stem_stride: stride of the first convolution; 1 is common below 64 pixels.
    attention: "none", or efficient channel attention (ECA, arXiv 1910.03151)
      after every projection: "adaptive", over as many channels as the paper's
      formula says, or "released", over one channel up to 96 channels and over
      three above, as in the authors' ECA-MobileNetV2.

  Raises:
    ValueError: a width that is not positive, a resolution too small, an unknown
      attention.
  """
  # Said before any node is made.
  if width <= 0:
    raise ValueError(f"width is {width}, expected a positive multiplier")
  if attention not in _ATTENTION:
    raise ValueError(
      f"attention is {attention!r}, expected one of {tuple(_ATTENTION)}"
    )
  reach = _ATTENTION[attention]

  # Channels are multiples of 8, in the stem too.
  relu = dict(norm=True, activation="relu")
  channels = _divisible(32 * width)
  nodes = [
    Node("conv1", "conv", (INPUT,), channels, (3, 3), stem_stride, 1, **relu)
  ]

  # One row for each of the 17 blocks; the first of a group has its stride.
  plan = [
    (expansion, _divisible(features * width), stride if i == 0 else 1)
    for expansion, features, blocks, stride in _BOTTLENECKS
    for i in range(blocks)
  ]
  for index, (expansion, features, stride) in enumerate(plan, start=1):
    block, before = f"block{index}", nodes[-1].name
    wide = before
    if expansion > 1:
      wide = f"{block}.expand"
      nodes.append(Node(wide, "conv", (before,), expansion * channels, **relu))
    nodes += [
      Node(f"{block}.dw", "depthwise", (wide,), 0, (3, 3), stride, 1, **relu),
      Node(f"{block}.project", "conv", (f"{block}.dw",), features, norm=True),
    ]

    # Attention scales what the projection makes, before it is added.
    if reach is not None:
      nodes += _eca(block, reach(features))
    if stride == 1 and features == channels:
      nodes.append(Node(f"{block}.add", "add", (nodes[-1].name, before)))
    channels = features

  # Not narrowed below width 1, as in torchvision.
  last = _divisible(1280 * max(1.0, width))
  nodes += [
    Node("conv2", "conv", (nodes[-1].name,), last, **relu),
    Node("pool", "avg_pool", ("conv2",), kernel=None),
    Node("classifier", "linear", ("pool",), classes, bias=True, is_output=True),
  ]
  return Net(
    f"{'eca_' if reach else ''}mobilenet_v2-{width:g}-{resolution}",
    (resolution, resolution, in_channels),
    tuple(nodes),
  )


def _eca(block: str, kernel: int) -> list[Node]:
  """Scales the output of a block's projection: a gate for every channel."""
  project, mean, gate = f"{block}.project", f"{block}.mean", f"{block}.gate"
  return [
    Node(mean, "avg_pool", (project,), kernel=None),
    Node(
      gate, "channel_conv", (mean,), kernel=(1, kernel), activation="sigmoid"
    ),
    Node(f"{block}.scale", "scale", (project, gate)),
  ]


def _adaptive(channels: int) -> int:
  """Channels that a gate sees: (log2(channels) + 1) / 2, made odd.

  The paper's "nearest odd number" is in its code the whole part, plus one where
  that is even.
  """
  whole = int((math.log2(channels) + 1) / 2)
  return whole + 1 - whole % 2


# Name -> kernel size for a number of channels.
_ATTENTION = {
  "none": None,
  "adaptive": _adaptive,
  "released": lambda channels: 1 if channels <= 96 else 3,
}


def _divisible(channels: float) -> int:
  """The nearest multiple of 8 that loses at most a tenth (torchvision)."""
  rounded = max(8, int(channels + 4) // 8 * 8)
  return rounded + 8 * (rounded < 0.9 * channels)
