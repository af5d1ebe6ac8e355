"""What Krishnamoorthi's whitepaper (arXiv 1806.08342) printed, for comparison.

Top-1 accuracies on ImageNet, as shares, of tables 2 to 6, of those networks
that have one of the same family here. They stand beside ours on another task
for the order of the recipes and the size of what they lose.
"""

FAMILIES = {  # builder of ours -> its network
  "mobilenet_v1": "Mobilenet_v1_1_224",
  "mobilenet_v2": "Mobilenet_v2_1_224",
  "resnet8": "Resnet_v1_50",
  "inception_v3": "Inception_v3",
}
FLOAT = {
  "Mobilenet_v1_1_224": 0.709,
  "Mobilenet_v2_1_224": 0.719,
  "Resnet_v1_50": 0.752,
  "Inception_v3": 0.78,
}
# Table -> network -> column -> accuracy.
TABLES = {
  2: {
    "Mobilenet_v1_1_224": {
      "asymmetric_per_layer": 0.001,
      "symmetric_per_channel": 0.591,
      "asymmetric_per_channel": 0.704,
    },
    "Mobilenet_v2_1_224": {
      "asymmetric_per_layer": 0.001,
      "symmetric_per_channel": 0.698,
      "asymmetric_per_channel": 0.698,
    },
    "Resnet_v1_50": {
      "asymmetric_per_layer": 0.75,
      "symmetric_per_channel": 0.751,
      "asymmetric_per_channel": 0.752,
    },
    "Inception_v3": {
      "asymmetric_per_layer": 0.78,
      "symmetric_per_channel": 0.78,
      "asymmetric_per_channel": 0.78,
    },
  },
  3: {
    "Mobilenet_v1_1_224": {
      "asymmetric_per_layer": 0.001,
      "symmetric_per_channel": 0.591,
      "asymmetric_per_channel": 0.703,
      "activation_only": 0.708,
    },
    "Mobilenet_v2_1_224": {
      "asymmetric_per_layer": 0.001,
      "symmetric_per_channel": 0.698,
      "asymmetric_per_channel": 0.697,
      "activation_only": 0.7,
    },
    "Resnet_v1_50": {
      "asymmetric_per_layer": 0.75,
      "symmetric_per_channel": 0.751,
      "asymmetric_per_channel": 0.751,
      "activation_only": 0.751,
    },
    "Inception_v3": {
      "asymmetric_per_layer": 0.78,
      "symmetric_per_channel": 0.78,
      "asymmetric_per_channel": 0.78,
      "activation_only": 0.78,
    },
  },
  4: {
    "Mobilenet_v1_1_224": {
      "ptq_asymmetric_per_layer": 0.001,
      "ptq_symmetric_per_channel": 0.591,
      "qat_asymmetric_per_layer": 0.7,
      "qat_symmetric_per_channel": 0.707,
    },
    "Mobilenet_v2_1_224": {
      "ptq_asymmetric_per_layer": 0.001,
      "ptq_symmetric_per_channel": 0.698,
      "qat_asymmetric_per_layer": 0.709,
      "qat_symmetric_per_channel": 0.711,
    },
    "Resnet_v1_50": {
      "ptq_asymmetric_per_layer": 0.75,
      "ptq_symmetric_per_channel": 0.751,
      "qat_asymmetric_per_layer": 0.75,
      "qat_symmetric_per_channel": 0.75,
    },
    "Inception_v3": {
      "ptq_asymmetric_per_layer": 0.78,
      "ptq_symmetric_per_channel": 0.78,
      "qat_asymmetric_per_layer": 0.78,
      "qat_symmetric_per_channel": 0.78,
    },
  },
  5: {
    "Mobilenet_v1_1_224": {
      "ptq_asymmetric_per_layer": 0.02,
      "ptq_symmetric_per_channel": 0.001,
      "qat_symmetric_per_channel": 0.65,
    },
    "Mobilenet_v2_1_224": {
      "ptq_asymmetric_per_layer": 0.001,
      "ptq_symmetric_per_channel": 0.001,
      "qat_symmetric_per_channel": 0.62,
    },
    "Resnet_v1_50": {
      "ptq_asymmetric_per_layer": 0.002,
      "ptq_symmetric_per_channel": 0.54,
      "qat_symmetric_per_channel": 0.732,
    },
    "Inception_v3": {
      "ptq_asymmetric_per_layer": 0.5,
      "ptq_symmetric_per_channel": 0.71,
      "qat_symmetric_per_channel": 0.76,
    },
  },
  6: {
    "Mobilenet_v1_1_224": {
      "ptq_w8a4": 0.48,
      "qat_w8a4": 0.64,
      "qat_w4a8": 0.65,
    },
    "Mobilenet_v2_1_224": {
      "ptq_w8a4": 0.07,
      "qat_w8a4": 0.58,
      "qat_w4a8": 0.62,
    },
    "Resnet_v1_50": {
      "ptq_w8a4": 0.36,
      "qat_w8a4": 0.58,
      "qat_w4a8": 0.732,
    },
    "Inception_v3": {
      "ptq_w8a4": 0.59,
      "qat_w8a4": 0.74,
      "qat_w4a8": 0.76,
    },
  },
}


def accuracy(builder: str, table: int, column: str) -> float | None:
  """What the whitepaper printed for the family of a builder; None if nothing.

  Args:
    builder: of our network.
    table: 2 to 6.
    column: of it.
  """
  network = FAMILIES.get(builder, "")
  return TABLES[table].get(network, {}).get(column)


def in_float(builder: str) -> float | None:
  """The accuracy of the family's network before quantization."""
  return FLOAT.get(FAMILIES.get(builder, ""))
