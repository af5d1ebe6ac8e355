"""Inception v3 (arXiv 1512.00567), with factorized convolutions."""

from fbq.nets.graph import INPUT, Net, Node

STAGES = (3, 4, 2)
# 1x1 convolutions before the 7-wide ones, and after the pool.
_SEVEN_CHANNELS = (128, 160, 160, 192)
_POOLED_CHANNELS = (32, 64, 64)


def inception_v3(
  width: float = 1.0,
  resolution: int = 299,
  classes: int = 1000,
  in_channels: int = 3,
  blocks: tuple[int, int, int] = STAGES,
  large_stem: bool = True,
) -> Net:
  """A stem, three stages of inception blocks with reductions between, mean.

  The form of torchvision: average pools in the blocks count zeros at the edges.
  Without dropout and the auxiliary classifier.

  Args:
    width: channel multiplier.
    resolution: height and width of the image in pixels.
    classes: outputs of the classifier.
    in_channels: channels of the image.
    blocks: blocks of each stage, (3, 4, 2) at most.
    large_stem: whether the stem is the published one, for images of 75 pixels
      or more. Else zeros go around its convolutions, the first one has stride 1
      and the first pool is left out, so that 32 pixels become 15 and not 1.

  Raises:
    ValueError: a width that is not positive, too many blocks or none.
  """
  # More blocks have no published channels.
  if width <= 0:
    raise ValueError(f"width is {width}, expected a positive multiplier")
  blocks = tuple(blocks)
  if len(blocks) != 3 or any(
    not 1 <= n <= most for n, most in zip(blocks, STAGES, strict=True)
  ):
    raise ValueError(f"blocks are {blocks}, expected 1 to {STAGES} of a stage")

  # The stem. Zeros around it keep the size of small images.
  table = _Table(width)
  around = 0 if large_stem else 1
  x = table.conv("conv1", INPUT, 32, 3, 2 if large_stem else 1, around)
  x = table.conv("conv2", x, 32, 3, 1, around)
  x = table.conv("conv3", x, 64, 3)
  if large_stem:
    x = table.pool("pool1", x)
  x = table.conv("conv4", x, 80)
  x = table.conv("conv5", x, 192, 3, 1, around)
  x = table.pool("pool2", x)

  # Stages of the published channels, cut to the number of blocks.
  for letter, pooled in zip("bcd", _POOLED_CHANNELS[: blocks[0]], strict=False):
    x = table.wide_block(f"mixed5{letter}", x, pooled)
  x = table.first_reduction("mixed6a", x)
  for letter, seven in zip("bcde", _SEVEN_CHANNELS[: blocks[1]], strict=False):
    x = table.seven_block(f"mixed6{letter}", x, seven)
  x = table.second_reduction("mixed7a", x)
  for letter in "bc"[: blocks[2]]:
    x = table.last_block(f"mixed7{letter}", x)

  # Any number of pixels may be left: the mean is over all.
  nodes = (
    *table.nodes,
    Node("pool", "avg_pool", (x,), kernel=None),
    Node("classifier", "linear", ("pool",), classes, bias=True, is_output=True),
  )
  name = f"inception_v3-{width:g}-{resolution}"
  return Net(name, (resolution, resolution, in_channels), nodes)


class _Table:
  """Collects nodes; every method gives the name of the last one it added."""

  def __init__(self, width: float):
    self.width = width
    self.nodes: list[Node] = []

  def conv(self, name, before, features, kernel=1, stride=1, padding=None):
    """A convolution of a square kernel or a (height, width) one."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    if padding is None:  # keeps the size
      padding = (height // 2,) * 2 + (width // 2,) * 2
    features = max(1, round(features * self.width))
    self.nodes.append(
      Node(
        name,
        "conv",
        (before,),
        features,
        (height, width),
        stride,
        padding,
        norm=True,
        activation="relu",
      )
    )
    return name

  def chain(self, name, before, *convolutions):
    """Convolutions (features, kernel) one after the other: NAME.1, ..."""
    for number, (features, kernel) in enumerate(convolutions, start=1):
      before = self.conv(f"{name}.{number}", before, features, kernel)
    return before

  def pool(self, name, before):
    """Maxima of stride 2."""
    self.nodes.append(
      Node(name, "max_pool", (before,), kernel=(3, 3), stride=2)
    )
    return name

  def pooled(self, name, before, features):
    """Means of 3x3 pixels and a 1x1 convolution."""
    pool = Node(f"{name}.pool", "avg_pool", (before,), kernel=(3, 3), padding=1)
    self.nodes.append(pool)
    return self.conv(f"{name}.pooled", pool.name, features)

  def concat(self, name, *parts):
    self.nodes.append(Node(name, "concat", parts))
    return name

  def wide_block(self, name, x, pooled):
    """Branches of 1x1, 5x5 and two 3x3 (figure 5)."""
    return self.concat(
      name,
      self.conv(f"{name}.1x1", x, 64),
      self.chain(f"{name}.5x5", x, (48, 1), (64, 5)),
      self.chain(f"{name}.3x3", x, (64, 1), (96, 3), (96, 3)),
      self.pooled(name, x, pooled),
    )

  def first_reduction(self, name, x):
    """Half the pixels (figure 10)."""
    deep = self.chain(f"{name}.deep", x, (64, 1), (96, 3))
    return self.concat(
      name,
      self.conv(f"{name}.3x3", x, 384, 3, 2, 0),
      self.conv(f"{name}.deep.3", deep, 96, 3, 2, 0),
      self.pool(f"{name}.pool", x),
    )

  def seven_block(self, name, x, seven):
    """Branches of 7x7 as 1x7 and 7x1 (figure 6)."""
    flat, tall = (1, 7), (7, 1)
    return self.concat(
      name,
      self.conv(f"{name}.1x1", x, 192),
      self.chain(f"{name}.7x7", x, (seven, 1), (seven, flat), (192, tall)),
      self.chain(
        f"{name}.deep",
        x,
        (seven, 1),
        (seven, tall),
        (seven, flat),
        (seven, tall),
        (192, flat),
      ),
      self.pooled(name, x, 192),
    )

  def second_reduction(self, name, x):
    """Half the pixels again, after 1x7 and 7x1 in one branch."""
    short = self.conv(f"{name}.3x3.1", x, 192)
    deep = self.chain(f"{name}.deep", x, (192, 1), (192, (1, 7)), (192, (7, 1)))
    return self.concat(
      name,
      self.conv(f"{name}.3x3.2", short, 320, 3, 2, 0),
      self.conv(f"{name}.deep.4", deep, 192, 3, 2, 0),
      self.pool(f"{name}.pool", x),
    )

  def last_block(self, name, x):
    """Branches that end in 1x3 beside 3x1 (figure 7)."""
    flat, tall = (1, 3), (3, 1)
    short = self.conv(f"{name}.3x3", x, 384)
    deep = self.chain(f"{name}.deep", x, (448, 1), (384, 3))
    return self.concat(
      name,
      self.conv(f"{name}.1x1", x, 320),
      self.conv(f"{name}.3x3.flat", short, 384, flat),
      self.conv(f"{name}.3x3.tall", short, 384, tall),
      self.conv(f"{name}.deep.flat", deep, 384, flat),
      self.conv(f"{name}.deep.tall", deep, 384, tall),
      self.pooled(name, x, 192),
    )
