"""What is tried: tables of recipes, one question each."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from fbq.ptq.recipes import Recipe
from fbq.quantizers import histogram_rules

Changes = Mapping[str, dict[str, Any]]  # label -> fields of a recipe

WIDTHS = ((8, 8), (4, 8), (8, 4), (4, 4))
_LEAST = dict(weight_rule="least_squares", activation_rule="least_squares")
BASE = Recipe(**_LEAST)
_ROUNDED = "+ AdaRound"


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
  found = []
  for table in (_TABLES[name] for name in names):
    rows = (row for row in table.rows if rounds or _ROUNDED not in row[0])
    found.append(dataclasses.replace(table, rows=tuple(rows)))
  return tuple(found)


def recipes(tables: Sequence[RecipeTable]) -> list[Recipe]:
  """Each recipe of the tables once, in their order."""
  cells = (cell for table in tables for _, row in table.rows for cell in row)
  return [*dict.fromkeys(cell for cell in cells if cell is not None)]


def _table(
  title: str, note: str, columns: Changes, rows: Changes
) -> RecipeTable:
  cells = (
    (label, tuple(_cell(**column | row) for column in columns.values()))
    for label, row in rows.items()
  )
  return RecipeTable(title, note, tuple(columns), tuple(cells))


def _cell(**changes: Any) -> Recipe | None:
  """The recipe, or None where a table leaves its cell empty."""
  if changes.get("weight_rule") == "sawb" and (
    changes["per_channel"] or changes["weight_bits"] > 4
  ):
    return None  # which it is not fitted to, and `Recipe` refuses
  recipe = Recipe(**changes)
  if recipe.weight_bits is None and not recipe.per_channel:
    return None  # activations have one range each
  if "round" in recipe.steps and recipe.weight_bits != 4:
    return None  # 8 bits have nothing to gain by it
  return recipe


def _each(changes: Changes) -> Changes:
  """The same per channel and per layer."""
  return {
    f"{label}, {words}": {**fields, "per_channel": words == "per channel"}
    for label, fields in changes.items()
    for words in ("per channel", "per layer")
  }


def _bits(weights: int | None, activations: int | None) -> dict[str, Any]:
  return dict(weight_bits=weights, activation_bits=activations)


def _by_widths(*pairs: tuple[int | None, int | None]) -> Changes:
  return {Recipe(*pair).widths: _bits(*pair) for pair in pairs}


_TABLES = {
  # By the whitepaper's min/max (its table 2).
  "granularity": _table(
    "Weights alone: form and granularity, before and after folding",
    "Ranges by min/max, activations in float. Affine: codes with a zero-point; "
    "symmetric: all 2^b codes; restricted: as many codes below 0 as above, the "
    "whitepaper's symmetric weights. Per channel, the classifier still has one "
    "range.",
    {
      f"W{bits} {form}": {**_bits(bits, None), "weight_form": form}
      for bits in (8, 4)
      for form in ("affine", "symmetric", "restricted")
    },
    _each({"not folded": {"steps": ()}, "batch norms folded": {}}),
  ),
  "widths": _table(
    "Bit-widths: weights, activations, both",
    "Restricted weights, batch norms folded. The image, adders and signed "
    "tensors keep their 8 bits. “-” is float; activations have one range each, "
    "so those alone know no granularity.",
    _by_widths(*WIDTHS, (8, None), (4, None), (None, 8), (None, 4)),
    _each({"min/max": {}, "least squares": _LEAST}),
  ),
  "weight_rules": _table(
    "Ranges of weights",
    "Weights alone, restricted, batch norms folded. SAWB is fitted to layers "
    "as a whole, of 2 to 4 bits.",
    _each({f"W{bits}": _bits(bits, None) for bits in (8, 4)}),
    {
      rule.replace("_", " "): dict(weight_rule=rule)
      for rule in ("min_max", "percentile", "least_squares", "sawb")
    },
  ),
  "activation_rules": _table(
    "Ranges of activations",
    "Activations alone. The moving average is the only rule that depends on "
    "the order of the calibration batches.",
    {f"A{bits}": _bits(None, bits) for bits in (8, 6, 4, 3)},
    {
      rule.replace("_", " "): dict(activation_rule=rule)
      for rule in histogram_rules.RULES
    },
  ),
  "steps": _table(
    "Further steps, each alone",
    "Least-squares ranges, restricted weights, batch norms folded.",
    {label: bits | _LEAST for label, bits in _by_widths(*WIDTHS).items()},
    {
      **_each(
        {
          "ranges alone": {},
          "+ equalization": dict(steps=("fold", "equalize")),
          "+ bias correction": dict(steps=("fold", "correct")),
          "+ both": dict(steps=("fold", "equalize", "correct")),
        }
      ),
      _ROUNDED: dict(steps=("fold", "round")),
      f"{_ROUNDED}, bias correction": dict(steps=("fold", "round", "correct")),
    },
  ),
}
NAMES = tuple(_TABLES)
