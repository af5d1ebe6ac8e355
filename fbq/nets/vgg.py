"""VGG-9 for CIFAR-sized images, in the form of quantlab."""

from fbq.nets.graph import INPUT, Net, Node


def vgg9(
  width: float = 1.0,
  resolution: int = 32,
  classes: int = 10,
  in_channels: int = 3,
) -> Net:
  """Six 3x3 convolutions with three maxima between, three linear layers.

  quantlab's form (docs/facts/quantization.md 2): 128, 128, M, 256, 256, M, 512,
  512, M, then 8192-1024-1024-10 at 32 pixels. Every layer but the classifier is
  followed by batch norm, so none has a bias. Convolutions of 256 and more input
  channels need more L1 than a default PULP target has, for their patch buffers.

  Args:
    width: channel multiplier, of the hidden linear layers as well.
    resolution: height and width of the image in pixels; at least 8.
    classes: outputs of the classifier.
    in_channels: channels of the image.
  """
  # Batch norm and ReLU follow every layer but the classifier.
  hidden = dict(norm=True, activation="relu")
  nodes: list[Node] = []
  before = INPUT
  for stage, channels in enumerate((128, 256, 512), start=1):
    features = max(1, round(channels * width))
    for i in (1, 2):
      name = f"conv{2 * (stage - 1) + i}"
      nodes.append(
        Node(name, "conv", (before,), features, (3, 3), 1, 1, **hidden)
      )
      before = name
    nodes.append(
      Node(f"pool{stage}", "max_pool", (before,), kernel=(2, 2), stride=2)
    )
    before = f"pool{stage}"

  # The first linear layer flattens what is left of the image.
  features = max(1, round(1024 * width))
  nodes += [
    Node("linear1", "linear", (before,), features, **hidden),
    Node("linear2", "linear", ("linear1",), features, **hidden),
    Node(
      "classifier", "linear", ("linear2",), classes, bias=True, is_output=True
    ),
  ]
  return Net(
    f"vgg9-{width:g}-{resolution}",
    (resolution, resolution, in_channels),
    tuple(nodes),
  )
