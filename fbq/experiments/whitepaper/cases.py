"""Tables 2 to 6 of the whitepaper (arXiv 1806.08342): what stands in a cell.

A cell is a network after one recipe, whose name says it, as in
"qat-w4a8-symmetric-channel": trained or not, bits of weights and activations
(32: float), form and granularity of the weights' grids. Beside the tables and
what they claim, `paper.json` holds what the paper printed: top-1 accuracies on
ImageNet, for the order of the recipes and the size of what they lose.
"""

import re
from pathlib import Path
from typing import NamedTuple

import pydantic

FLOAT, PTQ, QAT = "float", "ptq", "qat"
# Of networks of several widths.
WIDTH_CASES = tuple(
  f"{method}-w{bits}a8-symmetric-channel"
  for method in (PTQ, QAT)
  for bits in (8, 4)
)
_NAME = re.compile(
  r"(float|ptq|qat)(?:-w(\d+)a(\d+))?"
  r"(?:-(asymmetric|symmetric)-(layer|channel))?(-unfolded)?"
)


class Case(NamedTuple):
  """How a float network was quantized.

  Attributes:
    method: `PTQ` or `QAT`; `FLOAT` stays as it is.
    weight_bits, activation_bits: None leaves them in float.
    form: form of the weights' grids, see `fbq.quantizers.affine`; the paper's
      symmetric ones are restricted.
    per_channel: whether each output channel has a grid, else a layer has one.
    folded: whether batch norms are folded before weights are quantized.
  """

  method: str
  weight_bits: int | None
  activation_bits: int | None
  form: str
  per_channel: bool
  folded: bool

  @property
  def heading(self) -> str:
    """Two lines above a column."""
    if self.method == FLOAT:
      return FLOAT
    form = {"affine": "asym.", "restricted": "sym."}[self.form]
    granularity = "channel" if self.per_channel else "layer"
    widths = f"W{self.weight_bits or '-'}A{self.activation_bits or '-'}"
    return (
      f"{self.method.upper()} {widths}"
      + f"\n{form} {granularity}" * (self.weight_bits is not None)
      + ", not folded" * (not self.folded)
    )


class CaseTable(NamedTuple):
  """One of the whitepaper's tables: its number, what it shows, its columns."""

  number: int
  title: str
  cases: tuple[str, ...]


class Claim(NamedTuple):
  """Accuracy of `left` minus that of `right` is above `bound`, or not.

  Attributes:
    title: what the difference is.
    bound: share of the test images. 1 and 2 points are those of the abstract:
      8 bits after training are within 2 % of float, trained quantized within
      about 1 %; table 4 has 1.0 points for MobileNetV2, hence 1.5.
    left, right: names of cases.
    above, below: what it means if the difference is above, and if it is not.
  """

  title: str
  bound: float
  left: str
  right: str
  above: str
  below: str


class Paper(NamedTuple):
  """What the whitepaper has.

  Attributes:
    families: {builder: network of the paper of the same family}.
    published: {name of a case: top-1 accuracy of each family, None where the
      paper printed none}.
    tables: tables 2 to 6.
    claims: what its tables say.
  """

  families: dict[str, str]
  published: dict[str, tuple[float | None, ...]]
  tables: tuple[CaseTable, ...]
  claims: tuple[Claim, ...]


PAPER = pydantic.TypeAdapter(Paper).validate_json(
  Path(__file__).with_name("paper.json").read_text()
)
CASES = tuple(dict.fromkeys(name for t in PAPER.tables for name in t.cases))


def case_of(name: str) -> Case:
  """The case of a name."""
  match = _NAME.fullmatch(name)
  if match is None:
    raise ValueError(f"{name!r} names no case")
  method, *widths, form, granularity, unfolded = match.groups()
  weights, activations = (
    None if bits in (None, "32") else int(bits) for bits in widths
  )
  form = "affine" if form == "asymmetric" else "restricted"
  per_channel = granularity != "layer"
  return Case(method, weights, activations, form, per_channel, not unfolded)


def published(builder: str, name: str) -> float | None:
  """What the whitepaper printed for the family of a builder, if anything."""
  if builder not in PAPER.families or name not in PAPER.published:
    return None
  return PAPER.published[name][[*PAPER.families].index(builder)]
