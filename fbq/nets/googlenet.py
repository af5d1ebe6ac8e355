"""GoogLeNet, or Inception v1 (arXiv 1409.4842), with batch norm."""

from fbq.nets.graph import INPUT, Net, Node

_RELU = dict(norm=True, activation="relu")

# Stage -> blocks (1x1; reduction, 3x3; reduction, wide; after the pool).
_STAGES = (
  ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
  (
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
  ),
  ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


def googlenet(
  width: float = 1.0,
  resolution: int = 224,
  classes: int = 1000,
  in_channels: int = 3,
  stem_stride: int = 2,
  wide_kernel: int = 3,
) -> Net:
  """A stem, nine inception blocks of four branches, mean, classifier.

  The form of torchvision: batch norm after every convolution, maxima that keep
  a last incomplete window, and 3x3 convolutions in the branch for which the
  paper has 5x5. Without dropout and the two auxiliary classifiers.

  Args:
    width: channel multiplier.
    resolution: height and width of the image in pixels.
    classes: outputs of the classifier.
    in_channels: channels of the image.
    stem_stride: stride of the first convolution; 1 is common below 64 pixels.
    wide_kernel: height and width of the kernel of the third branch, odd; 5 in
      the paper.

  Raises:
    ValueError: a width that is not positive, an even wide_kernel.
  """
  # An even kernel would shift the branch against the others.
  if width <= 0:
    raise ValueError(f"width is {width}, expected a positive multiplier")
  if wide_kernel % 2 != 1:
    raise ValueError(f"wide_kernel is {wide_kernel}, expected an odd number")

  def conv(name, before, features, kernel=1, stride=1):
    return Node(
      name,
      "conv",
      (before,),
      max(1, round(features * width)),
      (kernel, kernel),
      stride,
      kernel // 2,
      **_RELU,
    )

  # Pools pad by the size of what they read, so sizes are kept beside the nodes.
  size = (resolution - 1) // stem_stride + 1
  nodes = [conv("conv1", INPUT, 64, 7, stem_stride)]
  size = _halve(nodes, "pool1", size)
  nodes += [
    conv("conv2", "pool1", 64),
    conv("conv3", "conv2", 192, 3),
  ]
  size = _halve(nodes, "pool2", size)

  # Four branches of every block read the same tensor. The pool before stage 5
  # has a smaller window, as in torchvision.
  for stage, blocks in enumerate(_STAGES, start=3):
    if stage > 3:
      size = _halve(nodes, f"pool{stage - 1}", size, 3 if stage == 4 else 2)
    for letter, (one, reduce3, three, reduce5, five, pooled) in zip(
      "abcde", blocks, strict=False
    ):
      b, before = f"inception{stage}{letter}", nodes[-1].name
      nodes += [
        conv(f"{b}.1x1", before, one),
        conv(f"{b}.3x3_reduce", before, reduce3),
        conv(f"{b}.3x3", f"{b}.3x3_reduce", three, 3),
        conv(f"{b}.wide_reduce", before, reduce5),
        conv(f"{b}.wide", f"{b}.wide_reduce", five, wide_kernel),
        Node(f"{b}.pool", "max_pool", (before,), kernel=(3, 3), padding=1),
        conv(f"{b}.pooled", f"{b}.pool", pooled),
        Node(b, "concat", (f"{b}.1x1", f"{b}.3x3", f"{b}.wide", f"{b}.pooled")),
      ]

  nodes += [
    Node("pool", "avg_pool", (nodes[-1].name,), kernel=None),
    Node("classifier", "linear", ("pool",), classes, bias=True, is_output=True),
  ]
  return Net(
    f"googlenet-{width:g}-{resolution}",
    (resolution, resolution, in_channels),
    tuple(nodes),
  )


def _halve(nodes: list[Node], name: str, size: int, kernel: int = 3) -> int:
  """Appends a maximum of stride 2 after the last node; its output's pixels.

  A last window that the image does not fill counts: zeros go after it.
  """
  outputs = max(0, -(-(size - kernel) // 2)) + 1
  missing = max(0, 2 * (outputs - 1) + kernel - size)
  nodes.append(
    Node(
      name,
      "max_pool",
      (nodes[-1].name,),
      kernel=(kernel, kernel),
      stride=2,
      padding=(0, missing, 0, missing),
    )
  )
  return outputs
