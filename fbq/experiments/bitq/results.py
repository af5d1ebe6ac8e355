"""The record of a BitQ run: networks of block formats, and which is chosen."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pydantic.dataclasses

from fbq.config import require
from fbq.lab.block_point import TrainedFormats
from fbq.report.records import Fraction, standard_error
from fbq.schemes.block_float import BlockFloat
from fbq.schemes.published_formats import GRID
from hwsim.bfp import BlockFormat

_ACCURACIES = ("test", "validation", "untrained_test")
_MOVED = ("dram_bits", "sram_bits", "joules")


class Movement(NamedTuple):
  """What one image moves.

  Attributes:
    dram_bits: least traffic between DRAM and SRAM.
    sram_bits: traffic between SRAM and registers.
    joules: energy of both, eq. 8.
    tensor_bits: DRAM traffic of inputs, weights and outputs.
  """

  dram_bits: float
  sram_bits: float
  joules: float
  tensor_bits: tuple[float, float, float]

  @property
  def kib(self) -> float:
    """DRAM traffic in KiB."""
    return self.dram_bits / 8192


@pydantic.dataclasses.dataclass(frozen=True)
class BlockNetwork:
  """A network of block formats, trained and costed.

  Attributes:
    name, family, word, formats, scheme, source, text: see `BlockCandidate`.
    moves: data movement of all layers.
    training: name of its training; "" if not trained.
    test, validation: accuracy after training, 0 to 1; None if not trained.
    untrained_test: accuracy of the float network's weights in these formats.
    divergence: predicted KL from the float network, in nats; None outside of
      the searched formats.
  """

  name: str
  family: str
  word: int
  formats: dict[str, BlockFormat]
  scheme: str
  source: str
  text: str
  moves: Movement
  training: str = ""
  test: Fraction | None = None
  validation: Fraction | None = None
  untrained_test: Fraction | None = None
  divergence: float | None = None

  @property
  def percent(self) -> float:
    """Test accuracy of a network that was trained."""
    assert self.test is not None, f"{self.name} was not trained"
    return 100 * self.test

  def percent_error(self, test_count: int) -> float:
    """Binomial standard error of `percent`."""
    return 100 * standard_error(self.percent / 100, test_count)

  def drop(self, fp32: "BlockNetwork") -> float:
    """Validation accuracy that it loses against FP32, both trained."""
    assert self.validation is not None and fp32.validation is not None
    return fp32.validation - self.validation

  @property
  def words(self) -> str:
    """The formats in words, for instance 'X 4-6, SE 2-4, BS 16-48'."""
    sizes = [f[:3] for f in self.formats.values()]
    spans = [sorted({min(v), max(v)}) for v in zip(*sizes, strict=True)]
    shown = ["-".join(map(str, span)) for span in spans]
    return self.text or "X {}, SE {}, BS {}".format(*shown)


def objective(
  network: BlockNetwork, fp32: BlockNetwork, largest_bits: float, alpha: float
) -> float:
  """Eq. 1 with what was measured: accuracy lost + alpha movement / largest.

  Args:
    network: trained network.
    fp32: FP32 after the same training.
    largest_bits, alpha: see `WordResults` and `BitQResults`.
  """
  moved = network.moves.dram_bits / largest_bits
  return network.drop(fp32) + alpha * moved


def best_of(
  networks: Iterable[BlockNetwork],
  fp32: BlockNetwork,
  largest_bits: float,
  alpha: float,
) -> BlockNetwork:
  """The one of least `objective`; of equals the one that moves less."""
  eq_1 = lambda n: objective(n, fp32, largest_bits, alpha)
  return min(networks, key=lambda n: (eq_1(n), n.moves.dram_bits, n.name))


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
    scales: accuracy lost for each nat: of "weights" and "activations" after
      training, of all tensors "untrained".
    losses: how well losses of single tensors were predicted, in words.
    passes: evaluations of the calibration set.
    mixed: of mixed networks that were trained their number, the rank
      correlation of predicted and measured losses of accuracy, and the median
      difference.
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
  scales: dict[str, float]
  losses: str
  passes: int
  mixed: tuple[int, float, float]
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
      *("name", "family", "word", *_MOVED, *_ACCURACIES, "divergence"),
      *("input_bits", "weight_bits", "output_bits", "source"),
      *(f"format:{site}" for site in sites),
    ]
    for n in self.networks:
      *moved, tensor_bits = n.moves
      yield [
        *(n.name, n.family, n.word, *moved),
        *(getattr(n, column) for column in _ACCURACIES),
        *(n.divergence, *tensor_bits, n.source),
        *("{}+{}/{}".format(*n.formats[site][:3]) for site in sites),
      ]

  def summary(self) -> Mapping[str, Any]:
    """What result.json says."""
    return {
      "net": self.network,
      "float_accuracy": self.float_accuracy,
      "scales": self.scales,
      "recommended": self.recommended,
      "by_alpha": {
        word.name: {str(o.alpha): o.network for o in word.optima}
        for word in self.words
      },
      "outcomes": {
        n.name: {
          **{column: getattr(n, column) for column in _ACCURACIES},
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
      ConfigError: no such network, or a published format, whose scheme is not
        in the record.
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
