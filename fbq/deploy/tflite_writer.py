"""A TFLite file, tensor by tensor and operator by operator.

The schema's own classes, which LiteRT's package brings, write it: no TensorFlow
is needed. A file carries a digest of itself in its metadata, which
`fbq.nets.tflite_file` looks at, for LiteRT would run an altered one.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fbq.nets import tflite_file

# Versions of operators that have all that is written here, by the type of
# their weights: LiteRT refuses those that it does not know.
_VERSIONS = {
  ("ADD", "int8"): 2,
  ("CONV_2D", "int8"): 3,
  ("CONV_2D", "int4"): 7,
  ("DEPTHWISE_CONV_2D", "int8"): 3,
  ("DEPTHWISE_CONV_2D", "int4"): 7,
  ("DEQUANTIZE", "int8"): 2,
  ("DEQUANTIZE", "int4"): 6,
  ("FULLY_CONNECTED", "int8"): 4,
  ("FULLY_CONNECTED", "int4"): 10,
  ("FULLY_CONNECTED", "float32"): 1,
  ("MAX_POOL_2D", "int8"): 2,
  ("PAD", "int8"): 2,
  ("QUANTIZE", "int8"): 2,
}


class Grid(NamedTuple):
  """What the integers of a tensor stand for.

  Attributes:
    scale: float32 [] or, along `axis`, [C].
    zero: integer that stands for 0.
    axis: axis of the channels.
  """

  scale: Any
  zero: int = 0
  axis: int = 0


class Writer:
  """Collects tensors and operators of one subgraph."""

  def __init__(self) -> None:
    """An empty file.

    Raises:
      ModuleNotFoundError: the package ai-edge-litert is not installed.
    """
    from ai_edge_litert import schema_py_generated as schema

    self.schema: Any = schema
    self.model: Any = schema.ModelT()
    self.model.version = 3
    self.model.description = "fbq"
    self.model.buffers = [schema.BufferT()]
    self.model.operatorCodes = []
    self.graph: Any = schema.SubGraphT()
    self.graph.tensors, self.graph.operators = [], []
    self.model.subgraphs = [self.graph]
    self._codes: dict[tuple[str, int], int] = {}
    self._types: list[str] = []

  def tensor(
    self,
    name: str,
    shape: Sequence[int],
    dtype: str,
    grid: Grid | None = None,
    data: bytes | None = None,
  ) -> int:
    """The number of a new tensor; with data it is a constant.

    Args:
      name: name in the file.
      shape: sizes, of an activation with a batch of 1 first.
      dtype: "int8", "int4", "int32" or "float32".
      grid: what its integers stand for; None for floats.
      data: its numbers in memory.
    """
    tensor = self.schema.TensorT()
    tensor.name, tensor.shape = name, list(map(int, shape))
    tensor.type = getattr(self.schema.TensorType, dtype.upper())
    tensor.buffer = 0 if data is None else self._buffer(data)
    if grid is not None:
      scale = np.asarray(grid.scale, np.float32).reshape(-1)
      tensor.quantization = self.schema.QuantizationParametersT()
      tensor.quantization.scale = scale
      tensor.quantization.zeroPoint = np.full(len(scale), grid.zero, np.int64)
      tensor.quantization.quantizedDimension = grid.axis
    self.graph.tensors.append(tensor)
    self._types.append(dtype)
    return len(self.graph.tensors) - 1

  def constant(
    self, name: str, values: Any, dtype: str, grid: Grid | None = None
  ) -> int:
    """The number of a new constant; int4 is packed, the first in low bits."""
    values = np.asarray(values)
    if dtype == "int4":
      nibbles = np.pad(values.ravel() & 15, (0, values.size % 2))
      data = (nibbles[0::2] | nibbles[1::2] << 4).astype(np.uint8).tobytes()
    else:
      data = values.astype(np.dtype(dtype).newbyteorder("<")).tobytes()
    return self.tensor(name, values.shape, dtype, grid, data)

  def operator(
    self,
    kind: str,
    inputs: Sequence[int],
    output: int,
    options: str = "",
    **fields: Any,
  ) -> int:
    """Adds an operator; its output.

    Args:
      kind: name in the schema, such as CONV_2D.
      inputs: tensors that it reads.
      output: tensor that it makes.
      options: class of its options in the schema, without the T; "" for none.
      **fields: fields of its options.
    """
    read = [self._types[index] for index in inputs[:2]]
    narrow = next((x for x in read if x == "int4"), read[0])
    operator = self.schema.OperatorT()
    operator.opcodeIndex = self._code(kind, _VERSIONS[kind, narrow])
    operator.inputs, operator.outputs = list(inputs), [output]
    if options:
      operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
      operator.builtinOptions = getattr(self.schema, f"{options}T")()
      for field, value in fields.items():
        setattr(operator.builtinOptions, field, value)
    self.graph.operators.append(operator)
    return output

  def finish(self, read: int, made: int, facts: Mapping[str, Any]) -> bytes:
    """The file, sealed.

    Args:
      read: tensor of the image.
      made: tensor of the logits.
      facts: what the metadata says besides, in JSON.
    """
    import flatbuffers

    self.graph.inputs, self.graph.outputs = [read], [made]
    facts = {**facts, "sha256": tflite_file.NO_DIGEST}
    metadata = self.schema.MetadataT()
    metadata.name = tflite_file.SEAL
    metadata.buffer = self._buffer(json.dumps(facts).encode())
    self.model.metadata = [metadata]

    # The digest is that of the file before the digest is in it
    builder = flatbuffers.Builder(1024)
    builder.Finish(self.model.Pack(builder), b"TFL3")
    data = bytes(builder.Output())
    digest = hashlib.sha256(data).hexdigest()
    return data.replace(tflite_file.NO_DIGEST.encode(), digest.encode(), 1)

  def _buffer(self, data):
    buffer = self.schema.BufferT()
    buffer.data = np.frombuffer(data, np.uint8)
    self.model.buffers.append(buffer)
    return len(self.model.buffers) - 1

  def _code(self, kind, version):
    """The number of an operator of a version."""
    if (kind, version) not in self._codes:
      code = self.schema.OperatorCodeT()
      code.builtinCode = getattr(self.schema.BuiltinOperator, kind)
      code.deprecatedBuiltinCode = min(code.builtinCode, 127)
      code.version = version
      self._codes[kind, version] = len(self.model.operatorCodes)
      self.model.operatorCodes.append(code)
    return self._codes[kind, version]
