"""U-Net (arXiv 1505.04597) with padded convolutions and batch norm."""

from fbq.nets.graph import INPUT, Net, Node

_RELU = dict(norm=True, activation="relu")


def unet(
  width: int = 64,
  levels: int = 4,
  resolution: int = 512,
  classes: int = 2,
  in_channels: int = 3,
) -> Net:
  """Pairs of 3x3 convolutions down and up again, joined at every level.

  The defaults have the paper's channels, 64 to 1,024. Its convolutions are not
  padded and have no norm; these keep the image's size, so that the output is a
  class map of it.

  Args:
    width: channels at full resolution, doubled at every level.
    levels: times that the image is halved.
    resolution: height and width of the image, a multiple of 2^levels.
    classes: classes of pixels.
    in_channels: channels of the image.

  Raises:
    ValueError: no level, or a resolution that 2^levels does not divide.
  """
  if levels < 1:
    raise ValueError(f"levels is {levels}, expected at least 1")
  if resolution < 1 << levels or resolution % (1 << levels):
    raise ValueError(
      f"resolution is {resolution}, expected a multiple of {1 << levels}, as "
      f"{levels} levels halve it"
    )
  nodes: list[Node] = []

  def pair(name, read, features):
    for i, before in ((1, read), (2, f"{name}.conv1")):
      window = (3, 3), 1, 1
      conv = f"{name}.conv{i}", "conv", (before,), features, *window
      nodes.append(Node(*conv, **_RELU))
    return f"{name}.conv2"

  # Down: what each level ends in is kept for the way up.
  kept = [pair("down0", INPUT, width)]
  for level in range(1, levels + 1):
    pool = f"down{level}.pool"
    nodes.append(Node(pool, "max_pool", (kept[-1],), 0, (2, 2), 2))
    kept.append(pair(f"down{level}", pool, width << level))

  # Up: half the channels at twice the size, beside those of the way down.
  x = kept.pop()
  for level in reversed(range(levels)):
    up, features = f"up{level}", width << level
    nodes += [
      Node(up, "conv_transpose", (x,), features, (2, 2), 2, bias=True),
      Node(f"{up}.concat", "concat", (kept.pop(), up)),
    ]
    x = pair(up, f"{up}.concat", features)
  nodes.append(
    Node("classes", "conv", (x,), classes, bias=True, is_output=True)
  )
  return Net(
    f"unet-{width}-{levels}-{resolution}",
    (resolution, resolution, in_channels),
    tuple(nodes),
  )
