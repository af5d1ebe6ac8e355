"""What is tried: tables of recipes, one question each."""

import dataclasses
import itertools
from collections.abc import Sequence

from fbq.ptq.recipes import Recipe
from fbq.quantizers import histogram_rules

NAMES = ("granularity", "widths", "weight_rules", "activation_rules", "steps")
WIDTHS = ((8, 8), (4, 8), (8, 4), (4, 4))
_WORDS = {True: "per channel", False: "per layer"}
BASE = Recipe(weight_rule="least_squares", activation_rule="least_squares")


@dataclasses.dataclass(frozen=True)
class RecipeTable:
  """A table whose cells are recipes.

  Attributes:
    title: the question.
    note: what to know when reading it.
    columns: headings.
    rows: (label, a recipe or None for each column).
  """

  title: str
  note: str
  columns: tuple[str, ...]
  rows: tuple[tuple[str, tuple[Recipe | None, ...]], ...]


def tables(names: Sequence[str], rounds: bool) -> tuple[RecipeTable, ...]:
  """Tables by name, with AdaRound if it `rounds`, which takes long."""
  made = {
    "granularity": _granularity,
    "widths": _widths,
    "weight_rules": _weight_rules,
    "activation_rules": _activation_rules,
    "steps": lambda: _steps(rounds),
  }
  return tuple(made[name]() for name in names)


def recipes(tables: Sequence[RecipeTable]) -> list[Recipe]:
  """Each recipe of the tables once, in their order."""
  cells = (cell for table in tables for _, row in table.rows for cell in row)
  return [*dict.fromkeys(cell for cell in cells if cell is not None)]


def _granularity() -> RecipeTable:
  """Weights alone, by the whitepaper's min/max (its table 2)."""
  forms = ("affine", "symmetric", "restricted")
  columns = [*itertools.product((8, 4), forms)]
  rows = []
  for folded, per_channel in itertools.product((False, True), repeat=2):
    when = "batch norms folded" if folded else "not folded"
    steps = ("fold",) if folded else ()
    row = tuple(
      Recipe(bits, None, form, per_channel=per_channel, steps=steps)
      for bits, form in columns
    )
    rows.append((f"{_WORDS[per_channel]}, {when}", row))
  return RecipeTable(
    "Weights alone: form and granularity, before and after folding",
    "Ranges by min/max, activations in float. Affine: codes with a zero-point; "
    "symmetric: all 2^b codes; restricted: as many codes below 0 as above, the "
    "whitepaper's symmetric weights. Per channel, the classifier still has one "
    "range.",
    tuple(f"W{bits} {form}" for bits, form in columns),
    tuple(rows),
  )


def _widths() -> RecipeTable:
  columns = (*WIDTHS, (8, None), (4, None), (None, 8), (None, 4))
  rows = []
  for name, base in (("min/max", Recipe()), ("least squares", BASE)):
    for per_channel in (True, False):
      row = tuple(
        _at(base, weights, activations, per_channel)
        if per_channel or weights is not None
        else None
        for weights, activations in columns
      )
      rows.append((f"{_WORDS[per_channel]}, {name}", row))
  return RecipeTable(
    "Bit-widths: weights, activations, both",
    "Restricted weights, batch norms folded. The image, adders and signed "
    "tensors keep their 8 bits. “-” is float; activations have one range each, "
    "so those alone know no granularity.",
    tuple(Recipe(*pair).widths for pair in columns),
    tuple(rows),
  )


def _weight_rules() -> RecipeTable:
  columns = [*itertools.product((8, 4), (True, False))]
  rows = tuple(
    (
      rule.replace("_", " "),
      tuple(
        Recipe(bits, None, per_channel=per_channel, weight_rule=rule)
        for bits, per_channel in columns
      ),
    )
    for rule in ("min_max", "percentile", "least_squares", "sawb")
  )
  return RecipeTable(
    "Ranges of weights",
    "Weights alone, restricted, batch norms folded.",
    tuple(f"W{bits} {_WORDS[channels]}" for bits, channels in columns),
    rows,
  )


def _activation_rules() -> RecipeTable:
  rows = tuple(
    (
      rule.replace("_", " "),
      tuple(Recipe(None, bits, activation_rule=rule) for bits in (8, 6, 4, 3)),
    )
    for rule in histogram_rules.RULES
  )
  return RecipeTable(
    "Ranges of activations",
    "Activations alone. The moving average is the only rule that depends on "
    "the order of the calibration batches.",
    ("A8", "A6", "A4", "A3"),
    rows,
  )


def _steps(rounds: bool) -> RecipeTable:
  tried: dict[str, tuple[str, ...]] = {
    "ranges alone": (),
    "+ equalization": ("equalize",),
    "+ bias correction": ("correct",),
    "+ both": ("equalize", "correct"),
  }
  rounded = {
    "+ AdaRound": ("round",),
    "+ AdaRound, bias correction": ("round", "correct"),
  }
  rows: list[tuple[str, tuple[Recipe | None, ...]]] = []
  for per_channel in (True, False):
    for label, more in tried.items():
      row = tuple(_at(BASE, *pair, per_channel, more) for pair in WIDTHS)
      rows.append((f"{_WORDS[per_channel]}, {label}", row))
  for label, more in rounded.items() if rounds else ():
    row = (_at(BASE, *w, True, more) if w[0] == 4 else None for w in WIDTHS)
    rows.append((f"{_WORDS[True]}, {label}", tuple(row)))
  return RecipeTable(
    "Further steps, each alone",
    "Least-squares ranges, restricted weights, batch norms folded.",
    tuple(Recipe(*pair).widths for pair in WIDTHS),
    tuple(rows),
  )


def _at(
  base: Recipe,
  weights: int | None,
  activations: int | None,
  per_channel: bool,
  more: Sequence[str] = (),
) -> Recipe:
  return dataclasses.replace(
    base,
    weight_bits=weights,
    activation_bits=activations,
    per_channel=per_channel,
    steps=("fold", *more),
  )
