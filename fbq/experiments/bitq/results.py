"""The record of a BitQ run."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fbq.config import require
from fbq.experiments.bitq.block_network import (
  ACCURACIES,
  BlockNetwork,
  Movement,
)
from fbq.lab.block_point import TrainedFormats
from fbq.schemes.block_float import BlockFloat
from fbq.schemes.published_formats import GRID
from hwsim.bfp import BlockFormat

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
    name: name of the word.
    bits: its bits.
    largest_bits: data movement of the widest formats.
    candidates: names of trained networks to choose among: optima, uniform ones.
    optima: predicted optimum of every alpha.
    front: (bits moved, predicted loss), cheapest first.
    front_error: share of the largest movement by which another assignment may
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


class Scales(NamedTuple):
  """Accuracy lost for each nat: of weights and activations after training."""

  weights: float
  activations: float
  untrained: float


class MixedPredictions(NamedTuple):
  """How well losses of accuracy were predicted on trained mixed networks.

  Attributes:
    networks: how many there are.
    spearman: rank correlation of predicted and measured losses.
    error: median of the difference.
  """

  networks: int
  spearman: float
  error: float


@dataclasses.dataclass(frozen=True)
class MemorySweep:
  """Costs of a network of full size, which is not trained.

  Attributes:
    network: name of the network.
    kib: sizes of SRAM in KiB.
    ratios: formats -> DRAM traffic over moving every tensor once, by size.
    joules: formats -> energy of an image, by size.
  """

  network: str
  kib: tuple[float, ...]
  ratios: dict[str, tuple[float, ...]]
  joules: dict[str, tuple[float, ...]]


@dataclasses.dataclass(frozen=True)
class BitQResults:
  """Everything a BitQ run found.

  Attributes:
    network: name of the network.
    test_count, about_test: images behind test accuracies, and a sentence.
    steps: steps of every training at its formats.
    float_accuracy: test accuracy before any further training.
    networks: everything that was costed, FP32 first.
    words: what was found for each word length.
    alpha: weight of movement for which networks are recommended.
    scales: accuracy that a nat costs.
    losses: how well losses of single tensors were predicted, in words.
    passes: evaluations of the calibration set.
    mixed: the same of whole mixed networks that were trained.
    sweep: where tiling matters.
    grid: scheme in which searched formats are trained.
    tops: largest exponent of every activation, in the order of the sites.
  """

  network: str
  test_count: int
  about_test: str
  steps: int
  float_accuracy: float
  networks: tuple[BlockNetwork, ...]
  words: tuple[WordResults, ...]
  alpha: float
  scales: Scales
  losses: str
  passes: int
  mixed: MixedPredictions
  sweep: MemorySweep
  grid: BlockFloat
  tops: tuple[int, ...]

  @property
  def by_name(self) -> dict[str, BlockNetwork]:
    """{name: network}."""
    return {network.name: network for network in self.networks}

  @property
  def recommended(self) -> dict[str, str]:
    """{word: name of the network}."""
    return {word.name: word.recommended for word in self.words}

  def table(self) -> Iterator[Sequence[Any]]:
    """Rows of results.csv: numbers, then the format of every tensor."""
    sites = list(self.networks[0].formats)
    yield [
      *("name", "family", "word", *_MOVED, *ACCURACIES, "divergence"),
      *("input_bits", "weight_bits", "output_bits", "source"),
      *(f"format:{site}" for site in sites),
    ]
    for n in self.networks:
      *moved, tensor_bits = n.moves
      accuracies = [getattr(n, column) for column in ACCURACIES]
      formats = [n.formats[site] for site in sites]
      yield [
        *(n.name, n.family, n.word, *moved, *accuracies, n.divergence),
        *(*tensor_bits, n.source),
        *(
          f"{f.element_bits}+{f.exponent_bits}/{f.block_size}" for f in formats
        ),
      ]

  def summary(self) -> Mapping[str, Any]:
    """What result.json says."""
    return {
      "net": self.network,
      "float_accuracy": self.float_accuracy,
      "scales": self.scales._asdict(),
      "recommended": self.recommended,
      "by_alpha": {
        word.name: {str(o.alpha): o.network for o in word.optima}
        for word in self.words
      },
      "outcomes": {
        n.name: {
          **{column: getattr(n, column) for column in ACCURACIES},
          **{column: getattr(n.moves, column) for column in _MOVED},
        }
        for n in self.networks
      },
    }

  def deployable(self, point: str) -> TrainedFormats:
    """What an export needs to know of a network.

    Args:
      point: its name; that of a word, for the network recommended for it; or
        "best" for that of the shortest word.

    Raises:
      ConfigError: no such network, or a published format, which is trained in
        other blocks than those it is priced in.
    """
    shortest = min(self.words, key=lambda word: word.bits)
    known = {"best": shortest.recommended, **self.recommended}
    name = known.get(point, point)
    names = sorted(n.name for n in self.networks if n.scheme == GRID)
    expected = f"'best', a word or one of {', '.join(names)}"
    require(name in names, "point", point, expected)
    network = self.by_name[name]
    return TrainedFormats(
      name, network.formats, self.tops, self.grid, network.training
    )
