"""ConvNeXt (arXiv 2201.03545)."""

from collections.abc import Sequence

from fbq.nets.graph import INPUT, Net, Node


def convnext(
  width: float = 1.0,
  resolution: int = 224,
  classes: int = 1000,
  in_channels: int = 3,
  depths: Sequence[int] = (3, 3, 9, 3),
  patch: int = 4,
  kernel: int = 7,
  layer_scale: float = 1e-6,
) -> Net:
  """Patches, stages of 7x7 depthwise blocks, mean, layer norm, classifier.

  The defaults are ConvNeXt-T. Width 1 and depths (3, 3, 27, 3) are S, 4/3 and
  those B, 2 and those L. Without stochastic depth.

  A block convolves depthwise, normalizes, expands to four times the channels,
  applies a GELU, projects back, scales by channel and adds its input. All its
  tensors are signed; `Net.fixed_bits` keeps such ones at 8 bits.

  Args:
    width: channel multiplier of the stages' 96, 192, 384, ... channels.
    resolution: height and width of the image in pixels.
    classes: outputs of the classifier.
    in_channels: channels of the image.
    depths: blocks of each stage; stages after the first halve the image.
    patch: pixels on a side of the patches that the stem makes of the image.
    kernel: height and width of the depthwise kernels, odd.
    layer_scale: start of the factor per channel at the end of a block.

  Raises:
    ValueError: a width that is not positive, an even kernel, an image too
      small for its stages.
  """
  # Each stage but the first halves what the patches leave.
  if width <= 0:
    raise ValueError(f"width is {width}, expected a positive multiplier")
  if kernel % 2 != 1:
    raise ValueError(f"kernel is {kernel}, expected an odd number")
  smallest = patch << (len(depths) - 1)
  if resolution < smallest:
    raise ValueError(
      f"resolution is {resolution}, but {len(depths)} stages after patches of "
      f"{patch} need at least {smallest}"
    )

  # Convolutions without overlap: kernel and stride are the same.
  nodes: list[Node] = []

  def conv(name, before, features, size=1, **more):
    nodes.append(
      Node(
        name, "conv", (before,), features, (size, size), size, bias=True, **more
      )
    )

  # Channels double from stage to stage. Between stages a layer norm comes
  # before the convolution that halves the image, in the first stage after the
  # stem.
  for stage, depth in enumerate(depths, start=1):
    features = max(1, round(96 * width)) << (stage - 1)
    if stage == 1:
      conv("stem", INPUT, features, patch)
      nodes.append(Node("stem.norm", "layer_norm", ("stem",)))
    else:
      norm, before = f"stage{stage}.norm", nodes[-1].name
      nodes.append(Node(norm, "layer_norm", (before,)))
      conv(f"stage{stage}.down", norm, features, 2)

    # Blocks of one width and size.
    for i in range(depth):
      b, before = f"stage{stage}.block{i}", nodes[-1].name
      nodes += [
        Node(
          f"{b}.dw",
          "depthwise",
          (before,),
          0,
          (kernel, kernel),
          1,
          kernel // 2,
          bias=True,
        ),
        Node(f"{b}.norm", "layer_norm", (f"{b}.dw",)),
      ]
      conv(f"{b}.expand", f"{b}.norm", 4 * features, activation="gelu")
      conv(f"{b}.project", f"{b}.expand", features, layer_scale=layer_scale)
      nodes.append(Node(f"{b}.add", "add", (f"{b}.project", before)))

  # The norm comes after the mean, as in the paper.
  nodes += [
    Node("pool", "avg_pool", (nodes[-1].name,), kernel=None),
    Node("norm", "layer_norm", ("pool",)),
    Node("classifier", "linear", ("norm",), classes, bias=True, is_output=True),
  ]
  return Net(
    f"convnext-{width:g}-{'.'.join(map(str, depths))}-{resolution}",
    (resolution, resolution, in_channels),
    tuple(nodes),
  )
