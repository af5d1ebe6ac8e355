"""YOLOv8 for detection and instance segmentation (Ultralytics, 2023)."""

from fbq.nets.graph import INPUT, Net, Node

BINS = 16  # distances that each side's distribution has (DFL)
STRIDES = (8, 16, 32)  # pixels of the image for one of a scale
SCALES = ("p3", "p4", "p5")
_MASKS = 32  # prototypes
_SILU = dict(norm=True, activation="silu")


def yolov8(
  width: float = 0.25,
  depth: float = 1 / 3,
  resolution: int = 640,
  classes: int = 80,
  in_channels: int = 3,
  masks: bool = False,
) -> Net:
  """Backbone of C2f blocks, a path up and one down, a decoupled head.

  The defaults are YOLOv8n; with masks YOLOv8n-seg. Outputs are `SCALE.box`, 16
  logits for each of four sides, and `SCALE.class`, of the scales p3, p4 and p5,
  whose pixels lie 8, 16 and 32 apart; with masks `SCALE.mask` and `prototypes`
  too. Expectation over the bins, boxes and suppression are no part of the
  network and stay in float, and so do the outputs.

  The convolution at the start of a C2f whose halves go different ways is two
  convolutions here, of as many weights and products together.

  Args:
    width: multiplier of 64, 128, 256, 512 and 1024 channels, each rounded up to
      a multiple of 8.
    depth: multiplier of 3, 6, 6 and 3 bottlenecks.
    resolution: height and width of the image, a multiple of 32.
    classes: classes of objects.
    in_channels: channels of the image.
    masks: whether objects have masks.

  Raises:
    ValueError: a width or depth that is not positive, a resolution that 32 does
      not divide.
  """
  if width <= 0 or depth <= 0:
    raise ValueError(
      f"width is {width} and depth {depth}, expected positive multipliers"
    )
  if resolution < 32 or resolution % 32:
    raise ValueError(
      f"resolution is {resolution}, expected a multiple of 32, at which the "
      "scales fit together"
    )
  net = _Builder()
  c1, c2, c3, c4, c5 = (
    -(-int(n * width) // 8) * 8 for n in (64, 128, 256, 512, 1024)
  )
  few, many = max(1, round(3 * depth)), max(1, round(6 * depth))

  # ---- Backbone: halved five times
  x = net.conv("b0", INPUT, c1, 3, 2)
  x = net.c2f("b2", net.conv("b1", x, c2, 3, 2), c2, few, True)
  p3 = net.c2f("b4", net.conv("b3", x, c3, 3, 2), c3, many, True)
  p4 = net.c2f("b6", net.conv("b5", p3, c4, 3, 2), c4, many, True)
  x = net.c2f("b8", net.conv("b7", p4, c5, 3, 2), c5, few, True)
  p5 = net.pyramid("b9", x, c5)

  # ---- Up, from coarse to fine, and down again
  up4 = net.c2f("n12", net.joined("n11", net.up("n10", p5), p4), c4, few)
  out3 = net.c2f("n15", net.joined("n14", net.up("n13", up4), p3), c3, few)
  x = net.joined("n17", net.conv("n16", out3, c3, 3, 2), up4)
  out4 = net.c2f("n18", x, c4, few)
  x = net.joined("n20", net.conv("n19", out4, c4, 3, 2), p5)
  out5 = net.c2f("n21", x, c5, few)

  # ---- Head: branches of boxes, classes and coefficients at every scale
  branches = {
    "box": (max(16, c3 // 4, 4 * BINS), 4 * BINS),
    "class": (max(c3, min(classes, 100)), classes),
  }
  if masks:
    branches["mask"] = max(c3 // 4, _MASKS), _MASKS
    net.prototypes(out3, -(-int(256 * width) // 8) * 8)
  for scale, x in zip(SCALES, (out3, out4, out5), strict=True):
    for name, (inside, outputs) in branches.items():
      net.branch(f"{scale}.{name}", x, inside, outputs)
  return Net(
    f"yolov8-{width:g}-{resolution}{'-seg' if masks else ''}",
    (resolution, resolution, in_channels),
    tuple(net.nodes),
  )


class _Builder:
  """Appends nodes; what makes a tensor returns its name."""

  def __init__(self):
    self.nodes: list[Node] = []

  def _add(self, *args, **more) -> str:
    self.nodes.append(Node(*args, **more))
    return self.nodes[-1].name

  def conv(self, name, read, features, size=1, stride=1) -> str:
    """Convolution, batch norm and SiLU, as large as its input."""
    window = (size, size), stride, size // 2
    return self._add(name, "conv", (read,), features, *window, **_SILU)

  def up(self, name, read) -> str:
    return self._add(name, "upsample", (read,), stride=2)

  def joined(self, name, *reads) -> str:
    return self._add(name, "concat", reads)

  def c2f(self, name, read, features, count, shortcut=False) -> str:
    """Two halves, bottlenecks after each other, and all of them joined."""
    half = features // 2
    parts = [self.conv(f"{name}.{part}", read, half) for part in ("a", "b")]
    for i in range(count):
      before = parts[-1]
      x = self.conv(f"{name}.m{i}.conv1", before, half, 3)
      x = self.conv(f"{name}.m{i}.conv2", x, half, 3)
      if shortcut:
        x = self._add(f"{name}.m{i}.add", "add", (before, x))
      parts.append(x)
    x = self.joined(f"{name}.concat", *parts)
    return self.conv(f"{name}.out", x, features)

  def pyramid(self, name, read, features) -> str:
    """SPPF: a tensor and its maxima over 5, 9 and 13 pixels, joined."""
    parts = [self.conv(f"{name}.in", read, features // 2)]
    for i in range(3):
      pool = f"{name}.pool{i}", "max_pool", (parts[-1],)
      parts.append(self._add(*pool, kernel=(5, 5), padding=2))
    x = self.joined(f"{name}.concat", *parts)
    return self.conv(f"{name}.out", x, features)

  def branch(self, name, read, inside, outputs) -> None:
    """Two convolutions of 3x3, and a linear one that is an output."""
    x = self.conv(f"{name}.conv1", read, inside, 3)
    x = self.conv(f"{name}.conv2", x, inside, 3)
    self._add(name, "conv", (x,), outputs, bias=True, is_output=True)

  def prototypes(self, read, inside) -> None:
    """Masks of the whole image, at twice the finest scale's resolution."""
    x = self.conv("proto.conv1", read, inside, 3)
    up = "proto.up", "conv_transpose", (x,), inside, (2, 2), 2
    x = self.conv("proto.conv2", self._add(*up, bias=True), inside, 3)
    last = "prototypes", "conv", (x,), _MASKS
    self._add(*last, **_SILU, is_output=True)
