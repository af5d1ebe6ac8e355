"""The record of a BitQ run: networks of block formats, and which is chosen."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fbq.config import require
from fbq.experiments.bitq.block_network import (
  MOVEMENT,
  BlockNetwork,
  Movement,
  Weighed,
  cycles_on,
)
from fbq.experiments.bitq.examples import Example
from fbq.lab.block_point import TrainedFormats
from fbq.report.means import Mean, mean
from fbq.schemes.block_float import BlockFloat
from fbq.schemes.published_formats import ELEMENTS, GRID
from hwsim.bfp import BlockFormat

_ACCURACIES = ("test", "test_error", "validation", "untrained_test")
_LOST = ("lost", "lost_error")
_MOVED = ("dram_bits", "sram_bits", "joules")


class LayerMovement(NamedTuple):
  """What one layer moves.

  Attributes:
    name: name of the layer.
    formats: formats of input, weights and output; None where there is none.
    moves: its data movement.
    tile: sizes of the tile in SRAM.
  """

  name: str
  formats: tuple[BlockFormat | None, ...]
  moves: Movement
  tile: str


class PredictedOptimum(NamedTuple):
  """The exact optimum of eq. 1 with predicted losses, for one alpha."""

  alpha: float
  network: str
  objective: float


@dataclasses.dataclass(frozen=True)
class WordResults:
  """What was found for one word length.

  Attributes:
    name, bits: name and length of the word.
    largest_bits: data movement of the widest formats, or most cycles that any
      formats take, where eq. 1 weighs them.
    candidates: names of trained networks to choose among: optima, uniform ones.
    optima: predicted optimum of every alpha.
    front: (bits moved, or cycles; predicted loss), cheapest first.
    front_error: share of the largest of them by which another assignment may
      be cheaper than a point of the front that loses no more.
    ablations: what eq. 1 goes without -> name of the network.
    recommended: name of the best measured network at the run's alpha.
    layers: what its layers move.
  """

  name: str
  bits: int
  largest_bits: float
  candidates: tuple[str, ...]
  optima: tuple[PredictedOptimum, ...]
  front: tuple[tuple[float, float], ...]
  front_error: float
  ablations: dict[str, str]
  recommended: str
  layers: tuple[LayerMovement, ...]


@dataclasses.dataclass(frozen=True)
class SeedStudy:
  """What was found from the float network of one seed.

  Attributes:
    seed: seed of everything that was drawn.
    float_accuracy: test accuracy before any further training.
    networks: everything that was costed, FP32 first.
    words: what was found for each word length.
    scales: accuracy lost for each nat: of "weights" and "activations" after
      training, of all tensors "untrained".
    losses: how well losses of single tensors were predicted, in words.
    passes: evaluations of the calibration set.
    mixed: of mixed networks that were trained their number, the rank
      correlation of predicted and measured losses of accuracy, and the median
      difference.
    tops: largest exponent of every activation, in the order of the sites.
    examples: test images with what networks tell of them; none of classifiers.
    float_details: what else is known of the float network, such as AP50.
  """

  seed: int
  float_accuracy: float
  networks: tuple[BlockNetwork, ...]
  words: tuple[WordResults, ...]
  scales: dict[str, float]
  losses: str
  passes: int
  mixed: tuple[int, float, float]
  tops: tuple[int, ...]
  examples: tuple[Example, ...] = ()
  float_details: dict[str, float] = dataclasses.field(default_factory=dict)

  @functools.cached_property
  def by_name(self) -> dict[str, BlockNetwork]:
    """{name: network}."""
    return {network.name: network for network in self.networks}

  @property
  def recommended(self) -> dict[str, str]:
    """{word: name of the network}."""
    return {word.name: word.recommended for word in self.words}

  @functools.cached_property
  def by_role(self) -> dict[str, BlockNetwork]:
    """{what a network is: network}, the same roles for every seed.

    Searched networks go by what they were searched for: which formats these
    are, differs.
    """
    found = {n.name: n for n in self.networks if n.family != "BitQ"}
    for word in self.words:
      found[f"{word.name} recommended"] = self.by_name[word.recommended]
      for o in word.optima:
        found[at_alpha(word.name, o.alpha)] = self.by_name[o.network]
    return found


def at_alpha(word: str, alpha: float) -> str:
  """Role of the predicted optimum of an alpha."""
  return f"{word} at alpha {alpha:g}"


@dataclasses.dataclass(frozen=True)
class BitQResults:
  """Everything a BitQ run found.

  Attributes:
    network: name of the network.
    about_test: a sentence about the images.
    steps: steps of every training at its formats.
    alpha: weight of movement, or of cycles, for which networks are recommended.
    grid: scheme in which searched formats are trained.
    studies: the same study for every seed.
    metric: what networks are judged by; "accuracy" wherever one is named.
    cluster: whose cycles eq. 1 weighs; "": data movement.
  """

  network: str
  about_test: str
  steps: int
  alpha: float
  grid: BlockFloat
  studies: tuple[SeedStudy, ...]
  metric: str = "accuracy"
  cluster: str = ""

  @property
  def weighed(self) -> Weighed:
    """What eq. 1 weighs beside the loss."""
    return cycles_on(self.cluster) if self.cluster else MOVEMENT

  def over_seeds(
    self, role: str, value: Callable[[BlockNetwork, BlockNetwork], float]
  ) -> Mean:
    """Mean over seeds of value(network, FP32), with its standard error."""
    return mean(
      [value(s.by_role[role], s.by_name["FP32"]) for s in self.studies]
    )

  def test(self, role: str) -> Mean | None:
    """Test accuracy; of a single seed with the error of the images."""
    return self._judged(role, "test", "test_error")

  def lost(self, role: str) -> Mean | None:
    """Test accuracy that FP32 has more, within seeds; likewise."""
    return self._judged(role, *_LOST)

  def _judged(self, role, name, error) -> Mean | None:
    networks = [study.by_role[role] for study in self.studies]
    if any(getattr(n, name) is None for n in networks):
      return None
    if len(networks) == 1:
      return Mean(getattr(networks[0], name), getattr(networks[0], error), 1)
    return mean([getattr(n, name) for n in networks])

  def table(self) -> Iterator[Sequence[Any]]:
    """Rows of results.csv: numbers, then the format of every tensor.

    Cycles stand where eq. 1 weighs them.
    """
    sites = list(self.studies[0].networks[0].formats)
    cost = ("cycles",) if self.cluster else ()
    yield [
      *("seed", "name", "family", "word", *cost, *_MOVED),
      *(*_ACCURACIES, *_LOST),
      *("divergence", "input_bits", "weight_bits", "output_bits", "source"),
      *(f"format:{site}" for site in sites),
    ]
    for study in self.studies:
      for n in study.networks:
        *moved, tensor_bits = n.moves
        yield [
          *(study.seed, n.name, n.family, n.word),
          *(getattr(n, column) for column in cost),
          *moved,
          *(getattr(n, column) for column in (*_ACCURACIES, *_LOST)),
          *(n.divergence, *tensor_bits, n.source),
          *(_cell(n, site) for site in sites),
        ]

  def summary(self) -> Mapping[str, Any]:
    """What result.json says."""
    plain = lambda m: m and [m.value, None if math.isnan(m.error) else m.error]
    return {
      "net": self.network,
      "means": {
        role: {
          "test": plain(self.test(role)),
          "lost": plain(self.lost(role)),
          **{
            column: plain(
              self.over_seeds(role, lambda n, _, c=column: getattr(n.moves, c))
            )
            for column in _MOVED
          },
          **(
            {"cycles": plain(self.over_seeds(role, lambda n, _: n.weighed))}
            if self.cluster
            else {}
          ),
        }
        for role in self.studies[0].by_role
      },
      "seeds": {
        str(study.seed): {
          "float_accuracy": study.float_accuracy,
          "scales": study.scales,
          "recommended": study.recommended,
          "by_alpha": {
            word.name: {str(o.alpha): o.network for o in word.optima}
            for word in study.words
          },
        }
        for study in self.studies
      },
    }

  def deployable(self, point: str) -> TrainedFormats:
    """What an export needs to know of a network of the first seed.

    Args:
      point: its name; that of a word, for the network recommended for it; or
        "best" for that of the shortest word.

    Raises:
      ConfigError: no such network, or a published format, whose scheme is not
        in the record.
    """
    study = self.studies[0]
    shortest = min(study.words, key=lambda word: word.bits)
    known = {"best": shortest.recommended, **study.recommended}
    name = known.get(point, point)
    names = sorted(n.name for n in study.networks if n.scheme == GRID)
    expected = f"'best', a word or one of {', '.join(names)}"
    require(name in names, "point", point, expected)
    network = study.by_name[name]
    return TrainedFormats(
      name, network.formats, study.tops, self.grid, network.training
    )


def _cell(network: BlockNetwork, site: str) -> str:
  """X+e/BS; with the element, where those were searched."""
  format_ = network.formats[site]
  said = "{}+{}/{}".format(*format_[:3])
  return f"{said} {format_.element}" if network.scheme == ELEMENTS else said
