"""DS-CNN for keyword spotting (arXiv 1711.07128), as in MLPerf Tiny."""

from fbq.nets.graph import INPUT, Net, Node
from fbq.nets.node import same_padding


def ds_cnn(
  width: float = 1.0,
  frames: int = 49,
  coefficients: int = 10,
  classes: int = 12,
) -> Net:
  """A 10x4 convolution, 4 depthwise separable blocks of 64, mean, classifier.

  From the reference model (mlcommons/tiny, keyword_spotting/keras_model.py):
  - "same" padding is TensorFlow's: the output has ceil(size / stride) pixels,
    and an odd pixel of padding goes below and to the right. For 49x10 inputs
    that is 4 rows above, 5 below and 1 column on either side.
  - Its convolutions have biases before batch norm, which take them out again;
    they are left out here: 9 times 64 parameters fewer.
  - It averages the first 24 of 25 rows (`int(49 / 2)`); here all of them.

  Args:
    width: channel multiplier of the 64 channels.
    frames, coefficients: height and width of the spectrogram, which has one
      channel.
    classes: outputs of the classifier.
  """
  # "same" padding depends on the size of the image, so it is worked out here.
  features = max(1, round(64 * width))
  relu = dict(norm=True, activation="relu")
  kernel, stride = (10, 4), 2
  padding = (
    *same_padding(frames, kernel[0], stride),
    *same_padding(coefficients, kernel[1], stride),
  )
  nodes = [
    Node("conv1", "conv", (INPUT,), features, kernel, stride, padding, **relu)
  ]

  # Blocks of one width; a depthwise convolution keeps its input's channels.
  for index in range(1, 5):
    before = nodes[-1].name
    nodes += [
      Node(f"dw{index}", "depthwise", (before,), 0, (3, 3), 1, 1, **relu),
      Node(f"pw{index}", "conv", (f"dw{index}",), features, **relu),
    ]

  # The mean is over all that is left, whatever the size of the spectrogram.
  nodes += [
    Node("pool", "avg_pool", (nodes[-1].name,), kernel=None),
    Node("classifier", "linear", ("pool",), classes, bias=True, is_output=True),
  ]
  return Net(
    f"ds_cnn-{width:g}-{frames}x{coefficients}",
    (frames, coefficients, 1),
    tuple(nodes),
  )
