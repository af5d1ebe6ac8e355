"""Tables 2 to 6 of the whitepaper (arXiv 1806.08342): what stands in a cell.

A cell is a network after one recipe, a `Case`; tables share cases, as in the
paper, where table 6 repeats a column of table 5. Beside them stands what the
paper printed: top-1 accuracies on ImageNet, for the order of the recipes and
the size of what they lose.
"""

from typing import NamedTuple

PTQ, QAT = "ptq", "qat"


class Case(NamedTuple):
  """How a float network was quantized.

  Attributes:
    method: `PTQ` or `QAT`; "float" stays as it is.
    weight_bits: None leaves weights in float.
    activation_bits: None leaves activations in float.
    form: form of the weights' grids, see `fbq.quantizers.affine`; the paper's
      symmetric ones are restricted.
    per_channel: whether each output channel has a grid, else a layer has one.
    folded: whether batch norms are folded before weights are quantized.
  """

  method: str
  weight_bits: int | None = None
  activation_bits: int | None = None
  form: str = "restricted"
  per_channel: bool = True
  folded: bool = True

  @property
  def name(self) -> str:
    """Short and unique, for files."""
    if self == FLOAT:
      return "float"
    widths = f"w{self.weight_bits or 32}a{self.activation_bits or 32}"
    words = [self.method, widths]
    if self.weight_bits:
      words += [
        "asymmetric" if self.form == "affine" else "symmetric",
        "channel" if self.per_channel else "layer",
      ]
    return "-".join(words) + "-unfolded" * (not self.folded)


class CaseTable(NamedTuple):
  """One of the whitepaper's tables.

  Attributes:
    number: its number in the paper.
    title: what it shows.
    columns: (heading, case).
  """

  number: int
  title: str
  columns: tuple[tuple[str, Case], ...]


FLOAT = Case("float")
W8_LAYER = Case(PTQ, 8, None, "affine", False)
W8_SYMMETRIC = Case(PTQ, 8, None)
W8_CHANNEL = Case(PTQ, 8, None, "affine")
LAYER_8 = Case(PTQ, 8, 8, "affine", False)
SYMMETRIC_8 = Case(PTQ, 8, 8)
CHANNEL_8 = Case(PTQ, 8, 8, "affine")
LAYER_4 = Case(PTQ, 4, 8, "affine", False)
SYMMETRIC_4 = Case(PTQ, 4, 8)
CHANNEL_4 = Case(PTQ, 4, 8, "affine")
W8A4 = Case(PTQ, 8, 4)
TRAINED_LAYER_8 = Case(QAT, 8, 8, "affine", False)
TRAINED_8 = Case(QAT, 8, 8)
TRAINED_LAYER_4 = Case(QAT, 4, 8, "affine", False)
TRAINED_W4A8 = Case(QAT, 4, 8)
TRAINED_W8A4 = Case(QAT, 8, 4)
A8 = Case(PTQ, None, 8)
UNFOLDED = Case(PTQ, 8, 8, "affine", False, folded=False)

TABLES = (
  CaseTable(
    2,
    "8-bit weights, not trained",
    (
      ("asym. per layer", W8_LAYER),
      ("sym. per channel", W8_SYMMETRIC),
      ("asym. per channel", W8_CHANNEL),
    ),
  ),
  CaseTable(
    3,
    "8-bit weights and activations, not trained",
    (
      ("asym. per layer", LAYER_8),
      ("sym. per channel", SYMMETRIC_8),
      ("asym. per channel", CHANNEL_8),
      ("activations only", A8),
      ("asym. per layer, not folded", UNFOLDED),
    ),
  ),
  CaseTable(
    4,
    "8-bit weights and activations, trained quantized (QAT) or not (PTQ)",
    (
      ("PTQ asym. per layer", LAYER_8),
      ("PTQ sym. per channel", SYMMETRIC_8),
      ("QAT asym. per layer", TRAINED_LAYER_8),
      ("QAT sym. per channel", TRAINED_8),
    ),
  ),
  CaseTable(
    5,
    "4-bit weights, 8-bit activations",
    (
      ("PTQ asym. per layer", LAYER_4),
      ("PTQ sym. per channel", SYMMETRIC_4),
      ("PTQ asym. per channel", CHANNEL_4),
      ("QAT asym. per layer", TRAINED_LAYER_4),
      ("QAT sym. per channel", TRAINED_W4A8),
    ),
  ),
  CaseTable(
    6,
    "8-bit weights, 4-bit activations; symmetric per channel",
    (
      ("PTQ W8A4", W8A4),
      ("QAT W8A4", TRAINED_W8A4),
      ("QAT W4A8", TRAINED_W4A8),
    ),
  ),
)
CASES = tuple(dict.fromkeys(case for t in TABLES for _, case in t.columns))
BY_NAME = {case.name: case for case in (FLOAT, *CASES)}
# Of networks of several widths.
WIDTH_CASES = (SYMMETRIC_8, SYMMETRIC_4, TRAINED_8, TRAINED_W4A8)

# Builder -> network of the paper of the same family, in the order of columns.
FAMILIES = {
  "mobilenet_v1": "Mobilenet_v1_1_224",
  "mobilenet_v2": "Mobilenet_v2_1_224",
  "resnet8": "Resnet_v1_50",
  "inception_v3": "Inception_v3",
}
PUBLISHED = {
  FLOAT: (0.709, 0.719, 0.752, 0.78),
  W8_LAYER: (0.001, 0.001, 0.75, 0.78),
  W8_SYMMETRIC: (0.591, 0.698, 0.751, 0.78),
  W8_CHANNEL: (0.704, 0.698, 0.752, 0.78),
  LAYER_8: (0.001, 0.001, 0.75, 0.78),
  SYMMETRIC_8: (0.591, 0.698, 0.751, 0.78),
  CHANNEL_8: (0.703, 0.697, 0.751, 0.78),
  A8: (0.708, 0.7, 0.751, 0.78),
  TRAINED_LAYER_8: (0.7, 0.709, 0.75, 0.78),
  TRAINED_8: (0.707, 0.711, 0.75, 0.78),
  LAYER_4: (0.02, 0.001, 0.002, 0.5),
  SYMMETRIC_4: (0.001, 0.001, 0.54, 0.71),
  TRAINED_W4A8: (0.65, 0.62, 0.732, 0.76),
  W8A4: (0.48, 0.07, 0.36, 0.59),
  TRAINED_W8A4: (0.64, 0.58, 0.58, 0.74),
}


def published(builder: str, case: Case) -> float | None:
  """What the whitepaper printed for the family of a builder, if anything."""
  if builder not in FAMILIES or case not in PUBLISHED:
    return None
  return PUBLISHED[case][list(FAMILIES).index(builder)]
