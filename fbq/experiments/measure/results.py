"""The record of a measurement: layers, networks, predicted and measured."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple


class LayerTimes(NamedTuple):
  """One layer on this machine.

  Attributes:
    layer, op: name and operator.
    macs: multiply-accumulates.
    int8_us, float_us: microseconds in integers and in float, without
      conversions.
    int4_us: in float with 4-bit weights; None without weights.
    to_int8_us, to_float_us: one conversion of the layer's output.
    noise: of the logits, where this layer alone is in integers; None without
      weights.
    kinds: {network: bits of the layer's kind in it}; 4 is float with 4-bit
      weights.
  """

  layer: str
  op: str
  macs: int
  int8_us: float
  float_us: float
  int4_us: float | None
  to_int8_us: float
  to_float_us: float
  noise: float | None
  kinds: dict[str, int]


class Chosen(NamedTuple):
  """A network of chosen kinds, predicted and measured.

  Attributes:
    name: how it was chosen.
    predicted_us: sum of its layers and conversions.
    half_width_us: of the 90 % interval of the prediction.
    measured_us: median of the whole network's runs; the quartiles beside.
    integer_layers, float_layers, four_bit_layers: layers of each kind.
    conversions: of a tensor from one form into the other.
    weight_bytes: bytes of the weights.
    noise: squared error of the logits over their variance, to the float
      network.
  """

  name: str
  predicted_us: float
  half_width_us: float
  measured_us: float
  measured_low_us: float
  measured_high_us: float
  integer_layers: int
  float_layers: int
  four_bit_layers: int
  conversions: int
  weight_bytes: int
  noise: float

  @property
  def within(self) -> bool:
    """Whether the measured time is in the interval of the prediction."""
    return abs(self.measured_us - self.predicted_us) <= self.half_width_us


@dataclasses.dataclass(frozen=True)
class Measured:
  """The record of a measurement.

  Attributes:
    network: name of the network.
    machine: what it was measured on.
    rounds: runs of every network that count.
    trained: whether the weights came from a checkpoint.
    pictures: file of the images on which noise was measured; "" for made ones.
    quiet: whether the machine had time: else times of whole networks are
      processor times.
    interrupted: share of the whole networks' runs that were interrupted.
    node_us: what a node takes beyond what the profile says.
    layers: layers in the order they run.
    networks: uniform ones, then chosen ones.
    mixtures: (predicted by the others, measured) microseconds of the random
      mixtures.
    error: root mean square of the relative difference of these.
    again: the same of the uniform networks' two measurements, among the
      mixtures and among the chosen ones.
  """

  network: str
  machine: dict[str, str]
  rounds: int
  trained: bool
  pictures: str
  quiet: bool
  interrupted: float
  node_us: float
  layers: tuple[LayerTimes, ...]
  networks: tuple[Chosen, ...]
  mixtures: tuple[tuple[float, float], ...]
  error: float
  again: float

  def named(self, name: str) -> Chosen:
    """The network of that name."""
    return {row.name: row for row in self.networks}[name]

  def table(self) -> Iterator[Sequence[Any]]:
    """Rows of results.csv, the headings first: networks, then layers."""
    yield Chosen._fields
    yield from self.networks
    yield []
    names = [row.name for row in self.networks]
    yield [*LayerTimes._fields[:-1], *names]
    for layer in self.layers:
      yield [*layer[:-1], *(layer.kinds[name] for name in names)]

  def summary(self) -> dict[str, Any]:
    """What result.json says."""
    return {
      "network": self.network,
      "machine": self.machine,
      "quiet": self.quiet,
      "networks": [row._asdict() for row in self.networks],
      "prediction_error": self.error,
      "repeat_error": self.again,
    }
