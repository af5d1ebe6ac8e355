"""Small networks of dense prediction and attention, for tests."""

from fbq.nets import Net, Node


def attention(tokens_side=3, channels=8, heads=2, first=1) -> Net:
  """One block of attention over the pixels of an image."""
  conv = lambda name, read, **more: Node(
    name, "conv", (read,), channels, bias=True, **more
  )
  return Net(
    "attention",
    (tokens_side, tokens_side, 3),
    (
      conv("patch", "input"),
      Node("tokens", "tokens", ("patch",)),
      Node("embed", "embed", ("tokens",), padding=(first, 0, 0, 0)),
      Node("norm", "layer_norm", ("embed",)),
      conv("q", "norm"),
      conv("k", "norm"),
      conv("v", "norm"),
      Node("qk", "scores", ("q", "k"), heads=heads),
      Node("weights", "softmax", ("qk",)),
      Node("av", "attend", ("weights", "v")),
      conv("project", "av"),
      Node("add", "add", ("project", "embed")),
      Node("first", "select", ("add",)),
      Node("fc", "linear", ("first",), 5, bias=True, is_output=True),
    ),
  )


def pyramid() -> Net:
  """Two scales with an output each, one enlarged by each kind of upsampling."""
  return Net(
    "pyramid",
    (8, 8, 2),
    (
      Node(
        "a", "conv", ("input",), 4, (3, 3), 2, 1, norm=True, activation="silu"
      ),
      Node("b", "conv", ("a",), 6, (3, 3), 2, 1, norm=True, activation="silu"),
      Node("near", "upsample", ("b",), stride=2),
      Node("both", "concat", ("near", "a")),
      Node("up", "conv_transpose", ("both",), 3, (2, 2), 2, bias=True),
      Node("smooth", "upsample", ("up",), stride=2, smooth=True),
      Node("large", "conv", ("smooth",), 2, bias=True, is_output=True),
      Node("small", "conv", ("b",), 2, bias=True, is_output=True),
    ),
  )
