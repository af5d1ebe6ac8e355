"""Vision transformers (arXiv 2010.11929), and one that segments."""

from fbq.nets.graph import INPUT, Net, Node


def vit(
  width: int = 192,
  depth: int = 12,
  heads: int = 3,
  patch: int = 16,
  resolution: int = 224,
  classes: int = 1000,
  in_channels: int = 3,
) -> Net:
  """Patches as tokens, a class token, pre-norm blocks, a linear classifier.

  The defaults are ViT-Ti/16; widths 384 and 768 with 6 and 12 heads are S and
  B. Tokens are an image one pixel wide. Queries, keys and values are layers of
  their own, of as many weights and products as one of three times the outputs.

  Args:
    width: numbers of a token.
    depth: blocks.
    heads: parts of a token that attention is taken over.
    patch: pixels on a side of a patch.
    resolution: height and width of the image in pixels.
    classes: outputs of the classifier.
    in_channels: channels of the image.

  Raises:
    ValueError: heads that do not divide the width, a patch that does not divide
      the image.
  """
  nodes, x = _encoder(width, depth, heads, patch, resolution, class_tokens=1)
  nodes += [
    Node("first", "select", (x,)),
    Node("norm", "layer_norm", ("first",)),
    Node("classifier", "linear", ("norm",), classes, bias=True, is_output=True),
  ]
  return Net(
    f"vit-{width}-{depth}-{patch}-{resolution}",
    (resolution, resolution, in_channels),
    tuple(nodes),
  )


def vit_segmenter(
  width: int = 64,
  depth: int = 4,
  heads: int = 2,
  patch: int = 8,
  resolution: int = 64,
  classes: int = 11,
  in_channels: int = 3,
) -> Net:
  """A ViT without a class token, and a class for every patch from its token.

  Segmenter with a linear decoder (arXiv 2105.05633). The output, a map of
  logits for each patch, is enlarged to the image by whoever scores it.

  Args:
    width, depth, heads, patch, resolution, in_channels: see `vit`.
    classes: classes of pixels.

  Raises:
    ValueError: as `vit`.
  """
  nodes, x = _encoder(width, depth, heads, patch, resolution, class_tokens=0)
  side = resolution // patch
  nodes += [
    Node("norm", "layer_norm", (x,)),
    Node("maps", "maps", ("norm",), kernel=(side, side)),
    Node("classes", "conv", ("maps",), classes, bias=True, is_output=True),
  ]
  return Net(
    f"vit-segmenter-{width}-{depth}-{patch}-{resolution}",
    (resolution, resolution, in_channels),
    tuple(nodes),
  )


def _encoder(width, depth, heads, patch, resolution, class_tokens):
  """(nodes, name of the last) from an image to tokens before the last norm."""
  if heads < 1 or width % heads:
    raise ValueError(f"heads are {heads}, expected a divisor of width {width}")
  if patch < 1 or resolution % patch or resolution < patch:
    raise ValueError(
      f"patch is {patch}, expected a divisor of resolution {resolution}"
    )
  nodes = [
    Node("patch", "conv", (INPUT,), width, (patch, patch), patch, bias=True),
    Node("tokens", "tokens", ("patch",)),
    Node("embed", "embed", ("tokens",), padding=(class_tokens, 0, 0, 0)),
  ]

  # A linear layer over tokens is a convolution of one pixel.
  def linear(name, read, features, **more):
    nodes.append(Node(name, "conv", (read,), features, bias=True, **more))

  before = "embed"
  for i in range(depth):
    b = f"block{i}"
    nodes.append(Node(f"{b}.norm1", "layer_norm", (before,)))
    for name in "qkv":
      linear(f"{b}.{name}", f"{b}.norm1", width)
    queries, weights = (f"{b}.q", f"{b}.k"), f"{b}.weights"
    nodes += [
      Node(f"{b}.scores", "scores", queries, heads=heads),
      Node(weights, "softmax", (f"{b}.scores",)),
      Node(f"{b}.attend", "attend", (weights, f"{b}.v")),
    ]
    linear(f"{b}.project", f"{b}.attend", width)
    nodes.append(Node(f"{b}.add1", "add", (f"{b}.project", before)))

    nodes.append(Node(f"{b}.norm2", "layer_norm", (f"{b}.add1",)))
    linear(f"{b}.expand", f"{b}.norm2", 4 * width, activation="gelu")
    linear(f"{b}.reduce", f"{b}.expand", width)
    nodes.append(Node(f"{b}.add2", "add", (f"{b}.reduce", f"{b}.add1")))
    before = f"{b}.add2"
  return nodes, before
