"""A network of block formats, and the choice among several by eq. 1."""

from collections.abc import Iterable
from typing import NamedTuple

from pydantic.dataclasses import dataclass

from fbq.report.records import Fraction, standard_error
from hwsim.bfp import BlockFormat

ACCURACIES = ("test", "validation", "untrained_test")


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


@dataclass(frozen=True)
class BlockNetwork:
  """A network of block formats, trained and costed.

  Attributes:
    name: unique.
    family: "BitQ", "uniform", "published" or "ablation".
    word: bits it is labelled with.
    formats: {site: format}, as priced.
    scheme, training: what it was trained in, and the name of its training.
    moves: data movement of all layers.
    test, validation: accuracy after training, 0 to 1; None if not trained.
    untrained_test: accuracy of the float network's weights in these formats.
    divergence: predicted KL from the float network, in nats; None outside of
      the searched formats.
    source, text: where the formats are from, and the formats in words.
  """

  name: str
  family: str
  word: int
  formats: dict[str, BlockFormat]
  scheme: str
  training: str
  moves: Movement
  test: Fraction | None
  validation: Fraction | None
  untrained_test: Fraction | None
  divergence: float | None
  source: str
  text: str

  @property
  def kib(self) -> float:
    """DRAM traffic in KiB."""
    return self.moves.dram_bits / 8192

  @property
  def percent(self) -> float:
    """Test accuracy of a network that was trained."""
    assert self.test is not None, f"{self.name} was not trained"
    return 100 * self.test

  def percent_error(self, test_count: int) -> float:
    """Binomial standard error of `percent`."""
    return 100 * standard_error(self.percent / 100, test_count)

  @property
  def words(self) -> str:
    """The formats in words, for instance 'X 4-6, SE 2-4, BS 16-48'."""
    sizes = [f[:3] for f in self.formats.values()]
    spans = [sorted({min(v), max(v)}) for v in zip(*sizes, strict=True)]
    shown = ["-".join(map(str, span)) for span in spans]
    return self.text or "X {}, SE {}, BS {}".format(*shown)


def drop(network: BlockNetwork, fp32: BlockNetwork) -> float:
  """Validation accuracy that a trained network loses against FP32."""
  assert network.validation is not None and fp32.validation is not None
  return fp32.validation - network.validation


def objective(
  network: BlockNetwork, fp32: BlockNetwork, largest_bits: float, alpha: float
) -> float:
  """Eq. 1 with what was measured: accuracy lost + alpha movement / largest.

  Args:
    network: trained network.
    fp32: FP32 after the same training.
    largest_bits: data movement of the widest formats.
    alpha: weight of movement.
  """
  moved = network.moves.dram_bits / largest_bits
  return drop(network, fp32) + alpha * moved


def best_of(
  networks: Iterable[BlockNetwork],
  fp32: BlockNetwork,
  largest_bits: float,
  alpha: float,
) -> BlockNetwork:
  """The one of least `objective`; of equals the one that moves less."""

  def order(n):
    value = objective(n, fp32, largest_bits, alpha)
    return value, n.moves.dram_bits, n.name

  return min(networks, key=order)
