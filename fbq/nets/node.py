"""One row of a network's table: an operator, and its geometry."""

import dataclasses
import math

from hwsim.workload import WEIGHTED_OPS, Layer

# Activation function -> whether integer kernels have it for nothing, as the
# clip of their requantization.
ACTIVATIONS = {
  **{"relu": True, "none": True},
  **{"gelu": False, "sigmoid": False, "silu": False},
}
# Operators that read the rows of a tensor, one pixel wide, as tokens, or make
# these; (height, width, channels) are (tokens, 1 or heads, numbers of each).
_PLAIN = ("tokens", "maps", "select", "upsample", "softmax", "scores", "attend")


@dataclasses.dataclass(frozen=True)
class Node:
  """One operator with its batch norm and activation function.

  These three run as one kernel on the target and share one output quantizer, so
  they are one row of the table.

  Operators: "conv", "depthwise", "linear", "add", "avg_pool", "max_pool";
  "concat" of two or more tensors along the channels; "scale" of the first input
  by the second, a number per channel; "channel_conv", a convolution of one
  pixel's channels with each other, one kernel for all; "layer_norm" over the
  channels of each pixel, with a learned scale and offset. The last one computes
  its statistics at run time, so unlike batch norm it is a row of its own.

  Operators of dense prediction: "conv_transpose", which makes of every pixel a
  patch of its kernel's size, the stride's; "upsample" by the stride, a copy of
  the nearest pixel, or bilinear where `smooth`.

  Operators of attention: "tokens" reads the pixels of an image as the rows of
  one that is one pixel wide; "maps" reads them as an image of the kernel's size
  again; "embed" puts learned rows, as many as the padding's first number,
  before the tokens and adds a learned number to each; "select" takes the first
  token; "scores" of two tensors of tokens are the products of each query with
  each key, over the channels of each of `heads`, divided by the root of their
  number: (queries, heads, keys); "softmax" is over the last; "attend" is the
  sum of the values, its second input, by those weights. Linear layers and layer
  norms over tokens are a conv of one pixel and "layer_norm".

  Attributes:
    name: name of the node, unique; its tensor is called after it.
    op: operator, see above.
    inputs: names of the nodes read, or "input" for the image.
    features: output channels of conv and linear; others keep their input's.
    kernel: (height, width) in pixels; None on a pool means the whole image. Of
      a channel_conv (1, odd number of channels); zeros go around the channels.
      Of maps the height and width that they get.
    stride: pixels from one output to the next, on both axes.
    padding: pixels of zeros on all four sides, or (top, bottom, left, right).
    norm: whether batch norm follows.
    bias: whether a bias is added (where there is no batch norm).
    layer_scale: start of a learned factor per channel that comes after the
      bias, and is folded into both (ConvNeXt); 0 for none.
    activation: one of `ACTIVATIONS`; see `Net.is_signed`.
    clip: largest number that the node makes, as 6 of a ReLU6; 0 for none.
    is_output: whether the node makes the logits, or one of several outputs,
      none of which is quantized.
    heads: parts of the channels that scores are taken over.
    smooth: whether an upsample is bilinear (pixel centres at halves, as with
      PyTorch's align_corners=False).
  """

  name: str
  op: str
  inputs: tuple[str, ...]
  features: int = 0
  kernel: tuple[int, int] | None = (1, 1)
  stride: int = 1
  padding: int | tuple[int, int, int, int] = 0
  norm: bool = False
  bias: bool = False
  layer_scale: float = 0.0
  activation: str = "none"
  clip: float = 0.0
  is_output: bool = False
  heads: int = 1
  smooth: bool = False

  @property
  def has_weights(self) -> bool:
    return self.op in (*WEIGHTED_OPS, "channel_conv")


def problem(node: Node) -> str:
  """What is wrong with `node` whatever it reads; empty if nothing is."""
  two = ("add", "scale", "scores", "attend")
  expected = 2 if node.op in two else 1
  if node.op == "concat" and len(node.inputs) < 2:
    return f"(concat) reads {len(node.inputs)} tensors, expected two or more"
  if node.op != "concat" and len(node.inputs) != expected:
    return f"({node.op}) reads {len(node.inputs)} tensors, expected {expected}"
  if node.activation not in ACTIVATIONS:
    return (
      f"has activation {node.activation!r}, expected one of "
      f"{tuple(ACTIVATIONS)}"
    )
  if node.clip and not (
    node.activation in ("relu", "none") and 0 < node.clip < math.inf
  ):
    return (
      f"clips {node.activation!r} at {node.clip}, expected a positive number "
      "and 'relu' or 'none'"
    )
  if node.op == "concat" and (node.norm or node.activation != "none"):
    return (
      "(concat) has a norm or an activation function, expected neither: give "
      "them to the nodes it reads"
    )
  if node.op in _PLAIN and (node.norm or node.activation != "none"):
    return (
      f"({node.op}) has a norm or an activation function, expected neither: "
      "give them to the node that it reads"
    )
  if node.op in ("layer_norm", "embed") and node.norm:
    return f"({node.op}) has a batch norm, expected none"
  if (node.bias or node.layer_scale) and node.op not in WEIGHTED_OPS:
    return f"({node.op}) has a bias or a layer scale: expected {WEIGHTED_OPS}"
  return ""


def shape_of(node: Node, layer: Layer) -> tuple[int, int, int]:
  """(height, width, channels) of the tensor a node makes."""
  if node.op == "channel_conv":
    return 1, 1, layer.out_width
  if node.op == "attend":  # heads side by side
    return layer.out_height, 1, layer.out_width * layer.out_channels
  return layer.out_height, layer.out_width, layer.out_channels


def layer_of(net: str, node: Node, shapes: list[tuple[int, int, int]]) -> Layer:
  """The geometry of `node` on inputs of the given (H, W, C) shapes.

  A channel_conv is a convolution over an image of one channel, whose pixels are
  the channels: the same numbers at the same addresses.

  Raises:
    ValueError: shapes that do not fit the operator; names the net and the node.
  """
  # Said with the names of net and node, which `Layer` does not know.
  if wrong := _mismatch(node, shapes):
    raise ValueError(f"net {net!r}: node {node.name!r} {wrong}")
  height, width, channels = shapes[0]
  kernel_height, kernel_width = node.kernel or (height, width)

  # For the hardware it is a convolution along one row of pixels.
  if node.op == "channel_conv":
    return Layer(
      name=node.name,
      op="conv",
      in_channels=1,
      out_channels=1,
      in_width=channels,
      kernel_width=kernel_width,
      padding=(0, 0, kernel_width // 2, kernel_width // 2),
    )
  if node.op == "linear":  # flattens its input
    return Layer(
      name=node.name,
      op="linear",
      in_channels=height * width * channels,
      out_channels=node.features,
    )

  if node.op in ("scores", "attend"):
    heads = node.heads if node.op == "scores" else width
    tokens, _, others = shapes[1]
    return Layer(
      name=node.name,
      op="matmul",
      in_channels=channels // heads if node.op == "scores" else channels,
      out_channels=tokens if node.op == "scores" else others // heads,
      in_height=height,
      in_width=heads,
    )
  if node.op in ("tokens", "maps"):  # no number moves
    rows, columns = node.kernel or (height, width)
    sides = (height * width, 1) if node.op == "tokens" else (rows, columns)
    return Layer(node.name, "reshape", channels, channels, *sides)
  if node.op == "select":
    window = dict(kernel_height=height, kernel_width=width)
    return Layer(
      node.name, "select", channels, channels, height, width, **window
    )

  # The whole concatenated tensor is the input. The padding of an int is the
  # same on all sides.
  if node.op == "concat":
    channels = sum(shape[2] for shape in shapes)
  padding = node.padding
  if isinstance(padding, int):
    padding = (padding,) * 4
  return Layer(
    name=node.name,
    op=node.op,
    in_channels=channels,
    out_channels=node.features
    if node.op in ("conv", "conv_transpose")
    else channels,
    in_height=height,
    in_width=width,
    kernel_height=kernel_height,
    kernel_width=kernel_width,
    stride=node.stride,
    padding=padding,
  )


def _mismatch(node: Node, shapes: list[tuple[int, int, int]]) -> str:
  """Why `node` cannot read tensors of `shapes`; empty if it can."""
  height, width, channels = shapes[0]
  if node.op == "add" and len(set(shapes)) != 1:
    return f"adds tensors of shapes {shapes}, expected equal shapes"
  if node.op == "concat" and len({shape[:2] for shape in shapes}) != 1:
    return (
      f"concatenates tensors of shapes {shapes}, expected equal heights and "
      "widths"
    )
  if node.op == "scale" and shapes[1] != (1, 1, channels):
    return (
      f"scales a tensor of shape {shapes[0]} by one of shape {shapes[1]}, "
      f"expected {(1, 1, channels)}"
    )
  if wrong := _token_mismatch(node, shapes):
    return wrong
  if node.op == "channel_conv":
    kernel = node.kernel or (height, width)
    if (height, width) != (1, 1) or kernel[0] != 1 or not kernel[1] % 2:
      return (
        f"(channel_conv) reads shape {shapes[0]} with kernel {node.kernel}, "
        "expected one pixel and a kernel of (1, odd number)"
      )
  return ""


def _token_mismatch(node: Node, shapes: list[tuple[int, int, int]]) -> str:
  """What is wrong with the tokens that `node` reads; empty if nothing is."""
  height, width, channels = shapes[0]
  if node.op == "scores":
    is_even = node.heads >= 1 and channels % node.heads == 0
    if width != 1 or shapes[1][1:] != (1, channels) or not is_even:
      return (
        f"multiplies queries of shape {shapes[0]} by keys of {shapes[1]} for "
        f"{node.heads} heads, expected tokens of one width that these divide"
      )
  if node.op == "attend":
    keys, one, others = shapes[1]
    if (keys, one) != (channels, 1) or others % width:
      return (
        f"weights values of shape {shapes[1]} by {shapes[0]}, expected a row "
        f"for each of {channels} keys, one wide, that {width} heads divide"
      )
  if node.op == "maps":
    rows, columns = node.kernel or (height, width)
    if width != 1 or rows * columns != height:
      return (
        f"makes {node.kernel} pixels of shape {shapes[0]}, expected as many "
        "tokens"
      )
  if node.op in ("embed", "select") and width != 1:
    return f"({node.op}) reads shape {shapes[0]}, expected tokens, one wide"
  return ""


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
  """Zeros before and after an axis, for ceil(size / stride) outputs.

  TensorFlow's "same": an odd pixel goes after.
  """
  outputs = -(-size // stride)
  total = max(0, (outputs - 1) * stride + kernel - size)
  return total // 2, total - total // 2
