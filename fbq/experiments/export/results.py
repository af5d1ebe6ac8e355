"""What an export left, and how faithful it is to the trained network."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fbq.deploy.c_code import CSizes
from fbq.deploy.dory_target import Invocation
from fbq.deploy.faithful import LayerReport


@dataclasses.dataclass(frozen=True)
class ExportedPoint:
  """A point as files.

  Attributes:
    network, point: names for the reader.
    reported_accuracy: test accuracy that the run reports, 0 to 1.
    images: number of test images.
    sizes: bytes, see `artifact.sizes` and `block_artifact.sizes`; {} if nothing
      was written.
    failed: {part: reason} of what could not be made.
  """

  network: str
  point: str
  reported_accuracy: float
  images: int
  sizes: dict[str, int]
  failed: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Integers:
  """A network in integers against the trained one, on the test images.

  Attributes:
    same_class: images of which both predict the same class.
    same_exact_class: those of which the trained network does in float64; None
      if a code in between might differ.
    accuracy: test accuracy of the integers, 0 to 1.
    layers: reports of all layers but the last.
  """

  same_class: int
  same_exact_class: int | None
  accuracy: float
  layers: tuple[LayerReport, ...]

  def total(self, field: str) -> int:
    """The sum of a number of `LayerReport`, or of a count by difference."""
    values = (getattr(layer, field) for layer in self.layers)
    return sum(v if isinstance(v, int) else sum(v.values()) for v in values)


class CExport(NamedTuple):
  """C of a network.

  Attributes:
    sizes: bytes of weights, constants and activations.
    images: golden images that it checks itself on.
    ran: whether it was compiled here and found them right.
  """

  sizes: CSizes
  images: int
  ran: bool


class TfliteExport(NamedTuple):
  """A TFLite file beside the integer network, on the test images by LiteRT.

  Attributes:
    bytes, weight_bytes: bytes of the file, and of its weights and biases.
    channels, equal_channels: channels that are requantized, and those proven
      equal to the exact ones for every input.
    clipped: weights of 128 or -128 that the file has one nearer to 0.
    same_class: images classified as the trained network does.
    values, equal: codes of all layers but the last, and those that are the
      integer network's, end to end.
    largest: largest difference of two codes.
  """

  bytes: int
  weight_bytes: int
  channels: int
  equal_channels: int
  clipped: int
  same_class: int
  values: int
  equal: int
  largest: int


@dataclasses.dataclass(frozen=True)
class IntegerExport(ExportedPoint):
  """A point in integers.

  Attributes:
    requantization_bits: width of what was written.
    widths: by width of the requantization, those that could be made.
    bits: {layer: (bits of its input, bits of its weights)}.
    onnx: "bytes" of constants, and "same_class" or, on integer kernels,
      "fast_same_class": images classified as the trained network does;
      "fast_saturates": 1 where kernels cut sums off, see `onnx_fast`.
    target: name of the hardware of the run; XPulpNNv1 if it had none.
    dory: command that makes DORY write code for it; None where DORY has no
      kernels for it.
    refused: (layer, reason) of all that DORY would not run as it is.
    cycles: simulated cycles by bits of the requantization; {} if there are
      none.
    c: what became of the C; None if it could not be made.
    tflite: by name of the file, those that could be made and run.
    made: how the network came about, "trained" or "rounded".
    measure: what accuracies are, "accuracy" or "agreement" with the classes of
      the float network.
  """

  requantization_bits: int
  widths: dict[int, Integers]
  bits: dict[str, tuple[int, int | None]]
  onnx: dict[str, int]
  target: str
  dory: Invocation | None
  refused: tuple[tuple[str, str], ...]
  cycles: dict[int, int]
  c: CExport | None
  tflite: dict[str, TfliteExport]
  made: str = "trained"
  measure: str = "accuracy"

  @property
  def written(self) -> Integers | None:
    """The integers in the width that was asked for; None if they failed."""
    return self.widths.get(self.requantization_bits)

  @property
  def without_dory(self) -> str:
    """Why nothing was written for DORY; "" if there is no reason not to."""
    if self.dory is not None:
      return ""
    return (
      f"DORY has no code for {self.target}: it writes for PULP's cores, and "
      "what it has for NE16 takes weights of 8 bits alone, by another front end"
    )

  @property
  def accuracy(self) -> float:
    """Test accuracy of the written integers, 0 to 1."""
    return self.written.accuracy if self.written else math.nan

  def table(self) -> Iterator[Sequence[Any]]:
    """Rows of results.csv: headings, then every layer in every width."""
    fields = [
      *("op", "shift", "values", "off_by", "end_to_end", "float_noise"),
      *("channels", "equal_channels", "reachable", "differing", "largest"),
      "cause",
    ]
    yield ["requantization_bits", "layer", "input_bits", "weight_bits", *fields]
    for width, integers in self.widths.items():
      for layer in integers.layers:
        values = [getattr(layer, field) for field in fields]
        yield [
          *(width, layer.layer, *self.bits[layer.layer]),
          *(sum(v.values()) if isinstance(v, dict) else v for v in values),
        ]

  def summary(self) -> dict[str, Any]:
    """What result.json says; "failed" only if something did."""
    onnx: dict[str, Any] = dict(self.onnx)
    for part, what in (("ONNX", "written"), ("ONNX Runtime", "run")):
      if part in self.failed:
        onnx["error"] = f"not {what}: {self.failed[part]}"
    dory = "written; form, arithmetic and golden tensors hold the contract"
    if reason := self.failed.get("DORY", self.without_dory):
      dory = f"not written: {reason}"
    return {
      "network": self.network,
      "point": self.point,
      "requantization_bits": self.requantization_bits,
      "same_class": {str(w): x.same_class for w, x in self.widths.items()},
      "same_exact_class": {
        str(w): x.same_exact_class for w, x in self.widths.items()
      },
      "images": self.images,
      "sizes": self.sizes,
      "dory": dory,
      "dory_command": self.dory.command if self.dory else "",
      "refused": [list(each) for each in self.refused],
      "target": self.target,
      "cycles": {str(width): n for width, n in self.cycles.items()},
      "c": self._code(),
      "onnx": onnx,
      "tflite": {name: x._asdict() for name, x in self.tflite.items()},
      "layers": {
        layer.layer: {
          "off_by": {str(n): count for n, count in layer.off_by.items()},
          "proven_equal_channels": layer.equal_channels,
          "channels": layer.channels,
        }
        for layer in (self.written.layers if self.written else ())
      },
      **({"failed": self.failed} if self.failed else {}),
    }

  def _code(self) -> dict[str, Any]:
    """What result.json says of the C."""
    if self.c is None:
      return {"error": f"not written: {self.failed.get('C', '')}"}
    ran = f"{self.c.images} of {self.c.images} images equal, compiled here"
    return {
      **self.c.sizes._asdict(),
      "checked": ran if self.c.ran else "not compiled: there is no cc here",
    }


class BlockTensor(NamedTuple):
  """A tensor in block floating point.

  Attributes:
    name: site of a kernel, or name of an activation.
    format: bits X of an element, bits SE of an exponent and elements BS that
      share one; None for float32.
    bytes: bytes of it, packed; of an activation for one image.
  """

  name: str
  format: tuple[int, int, int] | None
  bytes: int


@dataclasses.dataclass(frozen=True)
class BlockExport(ExportedPoint):
  """A network of block formats as packed codes and exponents.

  Attributes:
    accuracy: test accuracy, 0 to 1.
    logits: number of logits that were compared bit for bit.
    tensors: every tensor of the network.
  """

  accuracy: float
  logits: int
  tensors: tuple[BlockTensor, ...]

  def table(self) -> Iterator[Sequence[Any]]:
    """Rows of results.csv: headings, then every tensor."""
    yield ["tensor", "element_bits", "exponent_bits", "block_size", "bytes"]
    for tensor in self.tensors:
      yield [tensor.name, *(tensor.format or (None,) * 3), tensor.bytes]

  def summary(self) -> dict[str, Any]:
    """What result.json says; "failed" only if something did."""
    names = "network", "point", "accuracy", "reported_accuracy", "sizes"
    failed = ("failed",) if self.failed else ()
    return {name: getattr(self, name) for name in (*names, *failed)}
