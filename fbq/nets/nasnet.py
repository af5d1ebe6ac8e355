"""NASNet-A (arXiv 1707.07012), found by search, of separable convolutions."""

from fbq.nets.graph import INPUT, Net, Node
from fbq.nets.node import same_padding


def nasnet_mobile(
  width: float = 1.0,
  resolution: int = 224,
  classes: int = 1000,
  in_channels: int = 3,
  cells: int = 4,
  stem_stride: int = 2,
) -> Net:
  """NASNet-A (4 @ 1056): two reduction cells, then three stages of four cells.

  Every cell reads the two tensors made before it (figure 4 of the paper). The
  form of TF-Slim and Keras, but in three things that a table has no row for and
  that cost nothing: average pools count zeros at the edges; where a cell reads
  a tensor of twice its pixels, both halves of its channels are made of the same
  pixels, not one of those below and to the right; no auxiliary classifier and
  no dropped paths. A ReLU of what is read without it too is a 1x1 maximum of
  its own; in the other places the layer before has it, which is the same.

  Args:
    width: channel multiplier of the stages' 44, 88 and 176 channels a branch.
    resolution: height and width of the image in pixels.
    classes: outputs of the classifier.
    in_channels: channels of the image.
    cells: cells of each stage, beside the reductions.
    stem_stride: stride of the first convolution; 1 is common below 64 pixels.

  Raises:
    ValueError: a width that is not positive, no cells, too small a resolution.
  """
  # A tensor of twice the pixels needs at least one to give to every cell.
  if width <= 0:
    raise ValueError(f"width is {width}, expected a positive multiplier")
  if cells < 1:
    raise ValueError(f"cells is {cells}, expected at least 1 of each stage")
  if (resolution - 3) // stem_stride + 1 < 1:
    raise ValueError(
      f"resolution is {resolution}, expected at least 3 pixels of an image"
    )

  # The stem's reductions have a quarter and half of the channels, whose halves
  # are made apart: hence multiples of 4. Nothing reads the stem without a ReLU.
  features, stem = 4 * max(1, round(11 * width)), max(1, round(32 * width))
  table = _Table(resolution, in_channels)
  x = table.conv("conv1", INPUT, stem, 3, stem_stride, relu=True)
  before, x = x, table.reduction("stem1", x, x, features // 4)
  before, x = x, table.reduction("stem2", x, before, features // 2)

  # A reduction reads the two before it, and the cell after it what the
  # reduction and the last cell made.
  for stage in range(1, 4):
    if stage > 1:
      features *= 2
      before, x = x, table.reduction(f"reduce{stage}", x, before, features)
    for number in range(1, cells + 1):
      name = f"stage{stage}.cell{number}"
      before, x = x, table.normal(name, x, before, features)

  nodes = (
    *table.nodes,
    Node("pool", "avg_pool", (x,), kernel=None),
    Node("classifier", "linear", ("pool",), classes, bias=True, is_output=True),
  )
  name = f"nasnet_mobile-{width:g}-{resolution}"
  return Net(name, (resolution, resolution, in_channels), nodes)


class _Table:
  """Collects nodes; every method gives the name of the last one it added.

  Cells end behind their ReLU, which all that read them have.
  """

  def __init__(self, resolution: int, channels: int):
    self.nodes: list[Node] = []
    self.sizes = {INPUT: (resolution, channels)}  # (height, channels)

  def add(self, name, op, inputs, size, channels, **more):
    self.nodes.append(Node(name, op, inputs, **more))
    self.sizes[name] = size, channels
    return name

  def conv(self, name, before, features, kernel=1, stride=1, relu=False):
    """A convolution without zeros around, and its norm."""
    return self.add(
      *(name, "conv", (before,)),
      (self.sizes[before][0] - kernel) // stride + 1,
      *(features,),
      features=features,
      kernel=(kernel, kernel),
      stride=stride,
      norm=True,
      activation="relu" if relu else "none",
    )

  def relu(self, before):
    return self.add(
      f"{before}.relu",
      "max_pool",
      (before,),
      *self.sizes[before],
      kernel=(1, 1),
      activation="relu",
    )

  def windows(self, name, op, before, kernel, stride=1):
    """A depthwise convolution or a pool, with TensorFlow's zeros around."""
    size, channels = self.sizes[before]
    return self.add(
      *(name, op, (before,)),
      -(-size // stride),
      *(channels,),
      kernel=(kernel, kernel),
      stride=stride,
      padding=2 * same_padding(size, kernel, stride),
    )

  def separable(self, name, before, features, kernel, stride=1):
    """Twice a depthwise and a 1x1 convolution, of what is behind its ReLU."""
    x = self.windows(f"{name}.dw1", "depthwise", before, kernel, stride)
    x = self.conv(f"{name}.pw1", x, features, relu=True)
    x = self.windows(f"{name}.dw2", "depthwise", x, kernel)
    return self.conv(f"{name}.pw2", x, features)

  def sum(self, name, one, other, relu=True):
    return self.add(
      *(name, "add", (one, other)),
      *self.sizes[one],
      activation="relu" if relu else "none",
    )

  def concat(self, name, parts):
    size, _ = self.sizes[parts[0]]
    channels = sum(self.sizes[part][1] for part in parts)
    return self.add(name, "concat", parts, size, channels)

  def fitted(self, cell, x, before, features):
    """The tensor before the last one, of the last one's pixels."""
    name = f"{cell}.before"
    if self.sizes[before][0] == self.sizes[x][0]:
      return self.conv(name, before, features)
    parts = [
      self.conv(f"{name}{i}", before, features // 2, stride=2) for i in (1, 2)
    ]
    return self.concat(name, tuple(parts))

  def normal(self, cell, x, before, features):
    """Five sums, beside what was before: as many pixels as the last tensor."""
    b = self.fitted(cell, x, before, features)
    h = self.conv(f"{cell}.last", x, features)
    b_relu, h_relu = self.relu(b), self.relu(h)
    sep = lambda name, *rest: self.separable(f"{cell}.{name}", *rest)
    mean = lambda name, y: self.windows(f"{cell}.{name}", "avg_pool", y, 3)
    sums = [
      (sep("1a", h_relu, features, 5), sep("1b", b_relu, features, 3)),
      (sep("2a", b_relu, features, 5), sep("2b", b_relu, features, 3)),
      (mean("3a", h), b),
      (mean("4a", b), mean("4b", b)),
      (sep("5a", h_relu, features, 3), h),
    ]
    parts = [self.sum(f"{cell}.{i}", *two) for i, two in enumerate(sums, 1)]
    return self.concat(cell, (b_relu, *parts))

  def reduction(self, cell, x, before, features):
    """Five sums of which four are kept: half the pixels.

    The first cell reads the stem's convolution twice, without one of its own.
    """
    b = before
    if before != x:
      b = self.relu(self.fitted(cell, x, before, features))
    h = self.conv(f"{cell}.last", x, features)
    sep = lambda name, *rest: self.separable(f"{cell}.{name}", *rest)
    pool = lambda name, op, y, stride=2: self.windows(
      f"{cell}.{name}", f"{op}_pool", y, 3, stride
    )
    one = self.sum(
      f"{cell}.1",
      sep("1a", self.relu(h), features, 5, 2),
      sep("1b", b, features, 7, 2),
      relu=False,
    )
    two = self.sum(
      f"{cell}.2",
      pool("2a", "max", h),
      sep("2b", b, features, 7, 2),
      relu=False,
    )
    three = self.sum(
      f"{cell}.3", pool("3a", "avg", h), sep("3b", b, features, 5, 2)
    )
    four = self.sum(f"{cell}.4", two, pool("4a", "avg", one, 1))
    five = self.sum(
      f"{cell}.5",
      sep("5a", self.relu(one), features, 3),
      pool("5b", "max", h),
    )
    return self.concat(cell, (self.relu(two), three, four, five))
