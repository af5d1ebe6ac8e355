"""A network of block formats, trained and costed, and eq. 1 of it."""

from collections.abc import Iterable
from typing import NamedTuple

import pydantic.dataclasses

from fbq.report.records import Fraction
from hwsim.bfp import BlockFormat


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


class Weighed(NamedTuple):
  """What eq. 1 weighs beside the loss, for the reader.

  Attributes:
    name: what it is.
    unit: its unit.
    per_unit: how many of what `BlockNetwork.weighed` counts are one.
    title: of a column.
    axis: of a picture.
  """

  name: str
  unit: str
  per_unit: float
  title: str
  axis: str


MOVEMENT = Weighed(
  name="data movement",
  unit="KiB",
  per_unit=8192,
  title="DRAM\nKiB",
  axis="DRAM traffic of an image, KiB",
)


def cycles_on(cluster: str) -> Weighed:
  """Cycles of a cluster of this name."""
  return Weighed(
    name="cycles",
    unit="kcycles",
    per_unit=1000,
    title="kcycles",
    axis=f"thousand cycles of an image on {cluster}",
  )


@pydantic.dataclasses.dataclass(frozen=True)
class BlockNetwork:
  """A network of block formats, trained and costed.

  Attributes:
    name, family, word, formats, scheme, source, text: see `BlockCandidate`.
    moves: data movement of all layers.
    training: name of its training; "" if not trained.
    test, validation: accuracy after training, 0 to 1; None if not trained.
    test_error: standard error of `test`, clustered by source.
    lost: test accuracy that FP32, trained as long, has more.
    lost_error: its standard error, of the same images and clustered likewise.
    untrained_test: accuracy of the float network's weights in these formats.
    divergence: predicted KL from the float network, in nats; None outside of
      the searched formats.
    cycles: of an image, where eq. 1 weighs them; else None.
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
  test_error: float | None = None
  validation: Fraction | None = None
  lost: float | None = None
  lost_error: float | None = None
  untrained_test: Fraction | None = None
  divergence: float | None = None
  cycles: int | None = None

  @property
  def weighed(self) -> float:
    """What eq. 1 weighs: cycles where they are known, else DRAM bits."""
    return self.moves.dram_bits if self.cycles is None else self.cycles

  @property
  def percent(self) -> float:
    """Test accuracy of a network that was trained."""
    assert self.test is not None, f"{self.name} was not trained"
    return 100 * self.test

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
    said = "X {}, SE {}, BS {}".format(*shown)
    elements = sorted({f.element for f in self.formats.values() if f.element})
    return self.text or ", ".join([*elements, said])


def objective(
  network: BlockNetwork, fp32: BlockNetwork, largest_bits: float, alpha: float
) -> float:
  """Eq. 1 with what was measured: accuracy lost + alpha cost / largest.

  Args:
    network: trained network.
    fp32: FP32 after the same training.
    largest_bits, alpha: see `WordResults` and `BitQResults`.
  """
  return network.drop(fp32) + alpha * network.weighed / largest_bits


def best_of(
  networks: Iterable[BlockNetwork],
  fp32: BlockNetwork,
  largest_bits: float,
  alpha: float,
) -> BlockNetwork:
  """The one of least `objective`; of equals the cheaper, that moves less."""
  eq_1 = lambda n: objective(n, fp32, largest_bits, alpha)
  cost = lambda n: (n.weighed, n.moves.dram_bits, n.name)
  return min(networks, key=lambda n: (eq_1(n), *cost(n)))
