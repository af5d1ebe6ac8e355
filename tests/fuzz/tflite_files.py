"""TFLite files that were cut, or of which tensors and operators are others."""

import collections
import copy

import flatbuffers
import numpy as np
from fuzz import fuzzing
from fuzz.onnx_files import wrong
from tflite_writer import Writer

from fbq.nets import from_tflite

NUMBERS = (-(2**31), -1, 0, 1, 2, 3, 7, 127, 2**31 - 1)


def run(seed: int, count: int) -> collections.Counter:
  """Files of one small network of floats."""
  w = Writer((6, 5, 2))
  random = np.random.default_rng(0)
  weights = w.array(random.normal(size=(4, 3, 3, 2)))
  x = w.node(
    "CONV_2D", [w.image, weights, w.array(np.ones(4))], (1, 3, 3, 4),
    "Conv2DOptions", strideH=2, strideW=2, fused=1,
  )  # fmt: skip
  x = w.node(
    "MAX_POOL_2D", [x], (1, 2, 2, 4), "Pool2DOptions", filterHeight=2,
    filterWidth=2, strideH=1, strideW=1, padding=1,
  )  # fmt: skip
  x = w.node("RESHAPE", [x, w.array([-1, 16], np.int32)], (1, 16))
  x = w.node(
    "FULLY_CONNECTED", [x, w.array(random.normal(size=(3, 16))), -1], (1, 3),
    "FullyConnectedOptions",
  )  # fmt: skip
  content = w.bytes(x)

  def mutate(random):
    data = content
    if random.random() < 0.5:
      model = copy.deepcopy(w.model)
      for _ in range(random.integers(0, 3)):
        change(model, random)
      builder = flatbuffers.Builder(1024)
      builder.Finish(model.Pack(builder), b"TFL3")
      data = bytes(builder.Output())
    if random.random() < 0.6:
      data = fuzzing.bytes_changed(data, random)
    return data

  return fuzzing.fuzz(mutate, from_tflite.read, wrong, ".tflite", seed, count)


def change(model, random):
  """One size, number of a tensor, field of options or operator."""
  pick = lambda items: items[random.integers(len(items))]
  graph = model.subgraphs[0]
  operator, tensor = pick(graph.operators), pick(graph.tensors)
  kind = random.integers(6)
  if kind == 0:
    tensor.shape[random.integers(len(tensor.shape))] = pick(NUMBERS)
  elif kind == 1:
    tensor.buffer = int(random.integers(len(model.buffers) + 2))
  elif kind == 2:
    operator.inputs[random.integers(len(operator.inputs))] = pick(NUMBERS)
  elif kind == 3 and operator.builtinOptions:
    fields = vars(operator.builtinOptions)
    name = pick(sorted(fields))
    if type(fields[name]) is int:
      fields[name] = int(random.integers(-2, 5)) % 128
  elif kind == 4:
    pick(model.operatorCodes).builtinCode = int(random.integers(0, 120))
  else:
    graph.operators.remove(operator)
