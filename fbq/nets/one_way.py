"""Dense networks of convolutions and sums alone, which any cluster here runs.

The kernels of `hwsim.pulp` and `hwsim.ne16` have convolutions, sums and pools
that end in a ReLU: no concatenation, no enlarging, no SiLU. So what is told of
pixels goes one way, from fine to coarse, as in FCN-32s (arXiv 1411.4038) and
SSD (arXiv 1512.02325), with residual blocks (arXiv 1512.03385) in between.
"""

from fbq.nets.graph import INPUT, Net, Node
from fbq.nets.yolov8 import BINS, SCALES, STRIDES

_RELU = dict(norm=True, activation="relu")


def fcn(
  width: int = 16,
  stride: int = 4,
  depth: int = 2,
  resolution: int = 64,
  classes: int = 11,
  in_channels: int = 3,
) -> Net:
  """A map of classes at 1 / stride of the image, for `segmentation`.

  Args:
    width: channels after the first halving, doubled at every further one.
    stride: pixels of the image for one of the map: 2, 4 or 8.
    depth: residual blocks after each halving.
    resolution: height and width of the image, a multiple of the stride.
    classes: classes of pixels.
    in_channels: channels of the image.

  Raises:
    ValueError: another stride, or a resolution that it does not divide.
  """
  if stride not in (2, 4, 8) or resolution < stride or resolution % stride:
    raise ValueError(
      f"stride is {stride} and resolution {resolution}, expected 2, 4 or 8 and "
      "a multiple of it"
    )
  halvings = stride.bit_length() - 1
  nodes: list[Node] = []
  x = INPUT
  for i in range(halvings):
    x = _stage(nodes, f"stage{i}", x, width << i, depth)
  nodes.append(
    Node("classes", "conv", (x,), classes, bias=True, is_output=True)
  )
  shape = resolution, resolution, in_channels
  return Net(f"fcn-{width}-{stride}-{resolution}", shape, tuple(nodes))


def ssd(
  width: int = 8,
  depth: int = 1,
  resolution: int = 64,
  classes: int = 10,
  in_channels: int = 3,
) -> Net:
  """Boxes and classes of three scales, with the outputs of `yolov8`.

  Each scale tells what its own resolution sees: no path goes back up.

  Args:
    width: channels after the first halving, doubled at every further one up to
      16 times.
    depth: residual blocks after each halving.
    resolution: height and width of the image, a multiple of 32.
    classes: classes of objects.
    in_channels: channels of the image.

  Raises:
    ValueError: a resolution that 32 does not divide.
  """
  if resolution < STRIDES[-1] or resolution % STRIDES[-1]:
    raise ValueError(
      f"resolution is {resolution}, expected a multiple of {STRIDES[-1]}, at "
      "which the scales fit together"
    )
  nodes: list[Node] = []
  x, told = INPUT, {}
  for i in range(STRIDES[-1].bit_length() - 1):
    features = width << min(i, 4)
    x = _stage(nodes, f"stage{i}", x, features, depth)
    if (stride := 2 << i) in STRIDES:
      told[SCALES[STRIDES.index(stride)]] = x, features
  for scale, (read, features) in told.items():
    for part, outputs in (("box", 4 * BINS), ("class", classes)):
      inside = f"{scale}.{part}.conv"
      window = (3, 3), 1, 1
      nodes += [
        Node(inside, "conv", (read,), features, *window, **_RELU),
        Node(
          f"{scale}.{part}",
          "conv",
          (inside,),
          outputs,
          bias=True,
          is_output=True,
        ),
      ]
  shape = resolution, resolution, in_channels
  return Net(f"ssd-{width}-{resolution}", shape, tuple(nodes))


def _stage(nodes, name, read, features, depth) -> str:
  """A convolution that halves the map, and residual blocks."""
  window = (3, 3), 2, 1
  nodes.append(Node(name, "conv", (read,), features, *window, **_RELU))
  x, same = name, ((3, 3), 1, 1)
  for i in range(depth):
    block = f"{name}.block{i}"
    nodes += [
      Node(f"{block}.conv1", "conv", (x,), features, *same, **_RELU),
      Node(
        *(f"{block}.conv2", "conv", (f"{block}.conv1",), features, *same),
        norm=True,
      ),
      Node(f"{block}.add", "add", (f"{block}.conv2", x), activation="relu"),
    ]
    x = f"{block}.add"
  return x
