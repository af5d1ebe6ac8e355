"""What recipes without training came to, and which one to use."""

import dataclasses
import functools
import statistics
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fbq.experiments.ptq.tables import WIDTHS, RecipeTable, recipes
from fbq.ptq.folding import Spread
from fbq.ptq.recipes import Recipe
from fbq.report.means import Mean, mean
from fbq.report.sentences import points_lost

_LOSS = 0.01  # 8 bits per channel must not lose more
_COLLAPSE = 0.05  # of accuracy, to speak of it


@dataclasses.dataclass(frozen=True)
class RecipeNumbers:
  """What a recipe came to on one network.

  Attributes:
    accuracy: share of the test images.
    kl: KL divergence of the float network's class probabilities in nats, on
      training images that are drawn apart from those of calibration.
    agreement: share of these images of the float network's class.
  """

  accuracy: float
  kl: float
  agreement: float


@dataclasses.dataclass(frozen=True)
class LayerNumbers:
  """What quantization does to each layer of one network.

  Attributes:
    sqnr: {what was done: {layer: decibels that 8-bit weights keep}}.
    spreads: how unequal folding makes channels.
    weights, activations: {site: KL divergence in nats with this tensor alone
      at 4 bits, the others in float}.
  """

  sqnr: dict[str, dict[str, float]]
  spreads: tuple[Spread, ...]
  weights: dict[str, float]
  activations: dict[str, float]


@dataclasses.dataclass(frozen=True)
class QuantizedNetwork:
  """A float network after every recipe.

  Attributes:
    in_float: test accuracy before.
    recipes: numbers of each recipe, in the order of `tables.recipes`.
    layers: layers of the first seed alone.
  """

  in_float: float
  recipes: tuple[RecipeNumbers, ...]
  layers: LayerNumbers | None = None


class RecipeMeans(NamedTuple):
  """A recipe on the networks of all seeds, see `RecipeNumbers`."""

  recipe: Recipe
  accuracy: Mean
  loss: Mean  # of accuracy against float, within seeds
  kl: float
  agreement: float
  accuracies: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class TriedRecipes:
  """Every recipe on the float networks of all seeds.

  Attributes:
    network: name for the reader.
    tables: what was tried.
    networks: what the recipes came to, by seed.
    tolerance: share of classes that may be others than in float.
    assumptions: sentences about what the numbers rest on.
  """

  network: str
  tables: tuple[RecipeTable, ...]
  networks: dict[int, QuantizedNetwork]
  tolerance: float
  assumptions: tuple[str, ...]

  def table(self) -> Iterator[Sequence[Any]]:
    """Rows of results.csv, the headings first: settings, means, seeds."""
    fields = [field.name for field in dataclasses.fields(Recipe)]
    yield (
      *(*fields, "accuracy", "loss", "kl", "agreement"),
      *(f"accuracy:seed{seed}" for seed in self.networks),
    )
    for recipe, one in self.means.items():
      given = dataclasses.asdict(recipe) | {"steps": "+".join(recipe.steps)}
      yield (
        *("float" if value is None else value for value in given.values()),
        *(one.accuracy.value, one.loss.value, one.kl, one.agreement),
        *one.accuracies,
      )

  def summary(self) -> dict[str, Any]:
    """What result.json says."""

    def plain(one: RecipeMeans) -> dict[str, Any]:
      return {
        "name": one.recipe.name,
        "recipe": dataclasses.asdict(one.recipe),
        "accuracy": one.accuracy._asdict(),
        "loss": one.loss._asdict(),
        "kl": one.kl,
        "agreement": one.agreement,
      }

    return {
      "recommended": plain(self.used),
      "best": [plain(one) for one in self.best],
      "float_accuracy": self.in_float._asdict(),
      "findings": self.findings,
    }

  @functools.cached_property
  def in_float(self) -> Mean:
    """Test accuracy of the float networks."""
    return mean([network.in_float for network in self.networks.values()])

  @functools.cached_property
  def means(self) -> dict[Recipe, RecipeMeans]:
    """Every recipe over seeds."""
    found, networks = {}, self.networks.values()
    numbers = zip(*(network.recipes for network in networks), strict=True)
    for recipe, rows in zip(recipes(self.tables), numbers, strict=True):
      pairs = zip(networks, rows, strict=True)
      found[recipe] = RecipeMeans(
        recipe,
        mean([row.accuracy for row in rows]),
        mean([network.in_float - row.accuracy for network, row in pairs]),
        statistics.fmean(row.kl for row in rows),
        statistics.fmean(row.agreement for row in rows),
        tuple(row.accuracy for row in rows),
      )
    return found

  @functools.cached_property
  def best(self) -> list[RecipeMeans]:
    """For each pair of bit-widths the recipe of least KL divergence."""
    found: dict[tuple, RecipeMeans] = {}
    for one in sorted(self.means.values(), key=lambda one: one.kl):
      pair = one.recipe.weight_bits, one.recipe.activation_bits
      found.setdefault(pair, one)
    return [found[pair] for pair in WIDTHS]

  @property
  def used(self) -> RecipeMeans:
    """The recipe to use: the best of the fewest bits that are faithful.

    That is, of fewest weight bits times activation bits, of equals of fewest
    weight bits. The best of 8 bits if none is faithful.
    """

    def bits(one: RecipeMeans) -> tuple[int, int]:
      weights = one.recipe.weight_bits or 0
      return weights * (one.recipe.activation_bits or 0), weights

    faithful = filter(self.is_faithful, self.best)
    return min(faithful, key=bits, default=self.best[0])

  def is_faithful(self, one: RecipeMeans) -> bool:
    """Whether a recipe keeps the float network's classes."""
    return one.agreement >= 1 - self.tolerance

  @property
  def answer(self) -> str:
    """The recommendation in plain words."""
    one = self.used
    text = (
      f"Use {one.recipe.name} for {self.network}: {one.accuracy} % of the test "
      f"images are right, {self.in_float} % in float."
    )
    if not self.is_faithful(one):
      text += (
        " No recipe keeps the float network's class for "
        f"{1 - self.tolerance:.1%} of the training images: this is the best "
        "at 8 bits."
      )
    return text

  @property
  def findings(self) -> list[str]:
    """What 8 bits lose, and what folding does to weights that share a range."""
    loss = self.means[Recipe()].loss
    said = "at most" if loss.value <= _LOSS else "more than"
    found = [
      "8-bit weights per channel and 8-bit activations with ranges by min/max "
      f"lose {said} 1 point: the network "
      f"{points_lost(loss, ' of test accuracy')}."
    ]

    shared = Recipe(8, None, "affine", per_channel=False, steps=())
    before = self.means.get(shared)
    after = self.means.get(dataclasses.replace(shared, steps=("fold",)))
    if before is None or after is None:
      return found
    fell = before.accuracy.value - after.accuracy.value > _COLLAPSE
    why = "It is folding that breaks" if fell else "Folding does little to"
    found.append(
      f"{why} one range for a layer: W8 affine per layer {before.accuracy} % "
      f"unfolded, {after.accuracy} % folded."
    )

    layers = next(iter(self.networks.values())).layers
    if layers and layers.spreads:
      row = max(layers.spreads, key=lambda row: row.after)
      found.append(
        f"Most unequal in the first network: {row.layer}, whose widest channel "
        f"has {row.after:,.1f} times the range of the median one, "
        f"{row.before:.1f} before folding, which divides by the root of a "
        f"variance of {row.variance:.1e}. One 8-bit range makes zeros of "
        f"{row.lost:.0%} of its channels."
      )
    return found
