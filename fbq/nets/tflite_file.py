"""A TFLite file, read as something that anybody may have made.

A flatbuffer is read where it lies: nothing is built of a vector because a
length in the file says so. A file that `fbq.deploy.tflite` wrote has a seal, a
digest of itself, and is refused if it was altered.
"""

import hashlib
import json
import math
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fbq.files import no_file, user_path
from fbq.nets import onnx_constants
from fbq.nets.imported import MOST_NUMBERS, MOST_OPERATORS

SEAL = "fbq"  # name of the metadata of a file that fbq wrote
NO_DIGEST = "0" * 64  # in place of a digest while it is taken
_IDENTIFIER = b"TFL3"
# What the accessors of a flatbuffer raise where it is damaged.
DAMAGE = (struct.error, IndexError, TypeError, OverflowError, AttributeError)


class Grid(NamedTuple):
  """How a tensor is quantized.

  Attributes:
    scale: [1] or, along `axis`, one for each channel; empty for floats.
    zero: zero point of each scale.
    axis: axis of the channels.
  """

  scale: np.ndarray
  zero: np.ndarray
  axis: int


class File:
  """Tensors and operators of the one subgraph of a file."""

  def __init__(self, path: str | Path):
    """The file at `path`.

    Raises:
      ValueError: missing, of another kind, too large, or of several subgraphs.
      ModuleNotFoundError: the package ai-edge-litert is not installed.
    """
    self.path = user_path(path)
    if problem := no_file(self.path):
      raise ValueError(problem)
    try:
      from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
      raise ModuleNotFoundError(
        f"{self.path}: reading it needs `pip install fbq[tflite]`"
      ) from error
    self.schema: Any = schema
    data = self.path.read_bytes()
    if data[4:8] != _IDENTIFIER:
      raise ValueError("is no TFLite file")
    self.model: Any = schema.Model.GetRootAs(data, 0)
    if self.model.SubgraphsLength() != 1:
      raise ValueError(
        f"has {self.model.SubgraphsLength()} subgraphs, expected one"
      )
    self.graph: Any = self.model.Subgraphs(0)
    self.dtypes: dict[int, Any] = {
      schema.TensorType.FLOAT32: np.float32,
      schema.TensorType.FLOAT16: np.float16,
      schema.TensorType.INT4: np.int8,  # two to a byte
      schema.TensorType.INT8: np.int8,
      schema.TensorType.UINT8: np.uint8,
      schema.TensorType.INT16: np.int16,
      schema.TensorType.INT32: np.int32,
      schema.TensorType.INT64: np.int64,
    }
    kinds = vars(schema.BuiltinOperator).items()
    self.names = {code: name for name, code in kinds if isinstance(code, int)}
    self.facts = self._facts(data)

  def _facts(self, data: bytes) -> dict[str, Any]:
    """What the seal says, {} without one; ValueError if it is broken."""
    for i in range(self.model.MetadataLength()):
      entry = self.model.Metadata(i)
      if entry.Name() != SEAL.encode():
        continue
      content = self.model.Buffers(entry.Buffer()).DataAsNumpy()
      try:
        facts = json.loads(bytes(content))
        digest = facts["sha256"].encode()
      except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"has a seal that cannot be read: {error}") from error
      plain = data.replace(digest, NO_DIGEST.encode(), 1)
      if hashlib.sha256(plain).hexdigest().encode() != digest:
        raise ValueError("was cut short or altered: export the network again")
      return facts
    return {}

  def operators(self) -> list[Any]:
    """The operators in their order."""
    count = self.graph.OperatorsLength()
    if count > MOST_OPERATORS:
      raise ValueError(
        f"has {count:,} operators, expected at most {MOST_OPERATORS:,}"
      )
    return [self.graph.Operators(i) for i in range(count)]

  def kind(self, operator: Any) -> str:
    """Name of what an operator does, such as CONV_2D."""
    code = self.model.OperatorCodes(operator.OpcodeIndex())
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    return self.names.get(number, f"operator {number}")

  def options(self, operator: Any, kind: str) -> Any:
    """Options of an operator.

    Args:
      operator: operator of the graph.
      kind: class of the options in the schema.
    """
    table = operator.BuiltinOptions()
    given = operator.BuiltinOptionsType()
    if table is None or given != getattr(self.schema.BuiltinOptions, kind):
      raise ValueError(f"has options of type {given}, expected {kind}")
    found = getattr(self.schema, kind)()
    found.Init(table.Bytes, table.Pos)
    return found

  def label(self, index: int) -> str:
    """Name of a tensor, the first where a converter joins several."""
    name = self.graph.Tensors(index).Name() or b""
    return name.decode(errors="replace").split(";")[0][:200]

  def shape(self, index: int) -> tuple[int, ...]:
    """Sizes of a tensor, batch first."""
    tensor = self._tensor(index)
    if tensor.ShapeIsNone():
      return ()
    found = tuple(map(int, tensor.ShapeAsNumpy()))
    if min(found, default=1) < 0 or math.prod(found) >= MOST_NUMBERS:
      raise ValueError(
        f"tensor {self.label(index)!r} has {found} numbers, expected sizes of "
        f"0 or more and fewer than {MOST_NUMBERS:,} numbers"
      )
    return found

  def dtype(self, index: int) -> np.dtype:
    """Type of the numbers of a tensor."""
    kind = self._tensor(index).Type()
    if kind not in self.dtypes:
      raise ValueError(
        f"tensor {self.label(index)!r} is of type {kind}, expected floats or "
        "integers of 8 bits or more"
      )
    return np.dtype(self.dtypes[kind])

  def grid(self, index: int) -> Grid | None:
    """How a tensor is quantized; None if it is not."""
    found = self._tensor(index).Quantization()
    if found is None or not found.ScaleLength():
      return None
    scale = np.asarray(found.ScaleAsNumpy(), np.float32)
    zero = np.zeros(len(scale), np.int64)
    if found.ZeroPointLength():
      zero = np.asarray(found.ZeroPointAsNumpy(), np.int64)
    if len(zero) != len(scale) or not (scale > 0).all():
      raise ValueError(
        f"tensor {self.label(index)!r} has {len(scale)} scales and {len(zero)} "
        "zero points, expected as many, positive ones"
      )
    return Grid(scale, zero, found.QuantizedDimension())

  def constant(self, index: int) -> np.ndarray | None:
    """Numbers of a tensor, dequantized; None if an operator makes it."""
    buffer = self.model.Buffers(self._tensor(index).Buffer())
    if buffer.Offset() > 1:
      raise ValueError("has its numbers behind the file, expected them inside")
    if not buffer.DataLength():
      return None
    shape, dtype = self.shape(index), self.dtype(index)
    data = buffer.DataAsNumpy()
    if self._tensor(index).Type() == self.schema.TensorType.INT4:
      data = _unpacked(data, math.prod(shape))
    if data.size != math.prod(shape) * dtype.itemsize:
      raise ValueError(
        f"tensor {self.label(index)!r} has {data.size} bytes for {shape} of "
        f"{dtype}"
      )
    found = data.view(dtype).reshape(shape)
    grid = self.grid(index)
    if grid is None:
      return found
    if len(grid.scale) > 1 and (
      not 0 <= grid.axis < len(shape) or shape[grid.axis] != len(grid.scale)
    ):
      raise ValueError(
        f"tensor {self.label(index)!r} has {len(grid.scale)} scales along axis "
        f"{grid.axis} of {shape}"
      )
    return onnx_constants.dequantized(
      (found, grid.scale, grid.zero), {"axis": grid.axis}
    )

  def _tensor(self, index):
    if not 0 <= index < self.graph.TensorsLength():
      raise ValueError(
        f"reads tensor {index} of {self.graph.TensorsLength()}; the file is "
        "damaged"
      )
    return self.graph.Tensors(index)


def _unpacked(data: np.ndarray, count: int) -> np.ndarray:
  """uint8 of int4 that share bytes, the first in the low bits."""
  nibbles = np.stack([data & 15, data >> 4], axis=-1).reshape(-1)
  if data.size == -(-count // 2):
    nibbles = nibbles[:count]
  return ((nibbles ^ 8).astype(np.int16) - 8).astype(np.uint8)
