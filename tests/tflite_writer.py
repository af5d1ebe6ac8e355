"""TFLite files that tests make, by the schema's own classes."""

import pathlib
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

TYPES = {
  "float32": schema.TensorType.FLOAT32,
  "float16": schema.TensorType.FLOAT16,
  "int8": schema.TensorType.INT8,
  "int32": schema.TensorType.INT32,
}


class Writer:
  """Collects tensors and operators of one subgraph."""

  def __init__(self, shape: tuple[int, ...], dtype: Any = np.float32, **grid):
    self.model = schema.ModelT()
    self.model.version = 3
    self.model.operatorCodes, self.model.buffers = [], [schema.BufferT()]
    self.graph = schema.SubGraphT()
    self.graph.tensors, self.graph.operators = [], []
    self.model.subgraphs = [self.graph]
    self.image = self.tensor("image", (1, *shape), dtype, **grid)
    self.graph.inputs = [self.image]

  def tensor(
    self, name, shape, dtype=np.float32, data=None, scale=(), zero=(), axis=0
  ) -> int:
    """A tensor; with `data` a constant, with `scale` a quantized one."""
    tensor = schema.TensorT()
    tensor.name, tensor.shape = name, [int(size) for size in shape]
    tensor.type = TYPES[np.dtype(dtype).name]
    tensor.buffer = 0
    if data is not None:
      buffer = schema.BufferT()
      buffer.data = np.frombuffer(
        np.ascontiguousarray(data).tobytes(), np.uint8
      )
      self.model.buffers.append(buffer)
      tensor.buffer = len(self.model.buffers) - 1
    if len(scale):
      tensor.quantization = schema.QuantizationParametersT()
      tensor.quantization.scale = np.asarray(scale, np.float32)
      tensor.quantization.zeroPoint = np.asarray(
        zero if len(zero) else [0] * len(scale), np.int64
      )
      tensor.quantization.quantizedDimension = axis
    self.graph.tensors.append(tensor)
    return len(self.graph.tensors) - 1

  def array(self, value, dtype=np.float32, **grid) -> int:
    value = np.asarray(value, dtype)
    name = f"constant{len(self.graph.tensors)}"
    return self.tensor(name, value.shape, dtype, value, **grid)

  def node(
    self, op: str, inputs: list[int], shape, options=None, dtype=np.float32,
    fused=0, grid=None, **fields,
  ) -> int:  # fmt: skip
    """An operator that makes a tensor of `shape`.

    Args:
      op: name in the schema, such as CONV_2D.
      inputs: tensors; -1 for none.
      shape: sizes of the output.
      options: class of its options, such as "Conv2DOptions".
      dtype: type of the output.
      fused: activation function of the schema.
      grid: scale and zero point of the output.
      **fields: fields of the options.
    """
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, op)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = 3 if dtype == np.int8 else 1
    self.model.operatorCodes.append(code)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(self.model.operatorCodes) - 1
    operator.inputs = inputs
    if options:
      operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
      operator.builtinOptions = getattr(schema, f"{options}T")()
      if fused:
        operator.builtinOptions.fusedActivationFunction = fused
      for field, value in fields.items():
        assert hasattr(operator.builtinOptions, field)
        setattr(operator.builtinOptions, field, value)
    name = f"{op}{len(self.graph.operators)};joined"
    out = self.tensor(name, shape, dtype, **(grid or {}))
    operator.outputs = [out]
    self.graph.operators.append(operator)
    return out

  def bytes(self, out: int) -> bytes:
    """The file; its output is `out`."""
    self.graph.outputs = [out]
    builder = flatbuffers.Builder(1024)
    builder.Finish(self.model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def run(path: pathlib.Path, images: np.ndarray) -> np.ndarray:
  """What LiteRT makes of images, one by one."""
  interpreter = Interpreter(str(path), num_threads=1)
  interpreter.allocate_tensors()
  [read], [made] = (
    interpreter.get_input_details(),
    interpreter.get_output_details(),
  )
  outputs = []
  for image in images:
    interpreter.set_tensor(read["index"], image[None])
    interpreter.invoke()
    outputs.append(interpreter.get_tensor(made["index"])[0])
  return np.stack(outputs)
