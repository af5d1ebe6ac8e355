"""An ONNX file, read as something that anybody may have made.

Arrays are taken from the file or from files in its folder alone, and none is
made that is larger than `MOST_NUMBERS`.
"""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from fbq.files import no_file, user_path
from fbq.nets.imported import MOST_NUMBERS, MOST_OPERATORS

FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")
FIRST_OPSET = 7  # since when shapes are broadcast as in numpy


def load(path: str | Path) -> tuple[Path, Any, int]:
  """(path, onnx.GraphProto, opset) of a file.

  Raises:
    ValueError: missing, damaged, of another kind, too old or too large.
    ModuleNotFoundError: the package onnx is not installed.
  """
  path = user_path(path)
  if problem := no_file(path):
    raise ValueError(problem)
  try:
    import onnx
  except ImportError as error:
    raise ModuleNotFoundError(
      f"{path}: reading it needs `pip install fbq[onnx]`"
    ) from error
  from google.protobuf.message import DecodeError

  try:
    model = onnx.load_model_from_string(path.read_bytes())
  except DecodeError as error:
    raise ValueError(
      f"{path} is damaged or no ONNX file: {str(error)[:200]}"
    ) from error

  # What follows depends on the version of the operators.
  opsets = {x.domain: x.version for x in model.opset_import}
  opset = opsets.get("", opsets.get("ai.onnx", 0))
  if opset < FIRST_OPSET:
    raise ValueError(
      f"{path} has opset {opset}, expected {FIRST_OPSET} or later: export the "
      "network again"
    )
  if len(model.graph.node) > MOST_OPERATORS:
    raise ValueError(
      f"{path} has {len(model.graph.node):,} operators, expected at most "
      f"{MOST_OPERATORS:,}"
    )
  return path, model.graph, opset


def array(tensor: Any, folder: Path) -> np.ndarray:
  """The numbers of an onnx.TensorProto.

  Args:
    tensor: tensor with its numbers, or with the name of a file of them.
    folder: folder of the ONNX file, outside of which nothing is read.

  Raises:
    ValueError: sizes that are negative or too large, numbers that are missing,
      or a file that is outside of the folder.
  """
  import onnx

  sizes, kind = tuple(tensor.dims), tensor.data_type
  if min(sizes, default=1) < 0 or math.prod(sizes) >= MOST_NUMBERS:
    raise ValueError(
      f"has {sizes} numbers, expected sizes of 0 or more and fewer than "
      f"{MOST_NUMBERS:,} numbers"
    )
  if kind in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
    raise ValueError(f"is of data type {kind}, expected numbers")
  if tensor.data_location == onnx.TensorProto.EXTERNAL:
    tensor = _with_external(tensor, folder)
  try:
    found = onnx.numpy_helper.to_array(tensor)
  except Exception as error:  # Data that are too short raise several kinds.
    raise ValueError(f"is damaged: {str(error)[:200]}") from error
  if found.shape != sizes:
    raise ValueError(f"has {found.shape} numbers, expected {sizes}")
  return found


def _with_external(tensor, folder):
  """A copy of a tensor with its numbers, which stand in another file."""
  import onnx

  # Neither links nor ".." lead out of the folder.
  given = {entry.key: entry.value for entry in tensor.external_data}
  place = os.path.realpath(folder / given.get("location", ""))
  if not place.startswith(os.path.realpath(folder) + os.sep):
    raise ValueError(
      f"has its numbers in {given.get('location', '')[:200]!r}, outside of the "
      "folder of the ONNX file; expected a file beside it"
    )
  if not os.path.isfile(place):
    raise ValueError(
      f"has its numbers in {place}, which is missing: copy it beside the file"
    )

  # As many bytes as the sizes say, and not what is left of the file.
  bits = _bits(tensor.data_type)
  expected = math.ceil(math.prod(tensor.dims) * bits / 8)
  offset, length = (
    int(given.get(key, default))
    for key, default in (("offset", 0), ("length", expected))
  )
  if offset < 0 or length != expected:
    raise ValueError(
      f"has {length} bytes at {offset} of {place}, expected {expected}"
    )
  with open(place, "rb") as file:
    file.seek(offset)
    data = file.read(expected)
  if len(data) < expected:
    raise ValueError(f"has its numbers in {place}, which ends before them")
  return onnx.TensorProto(
    dims=tensor.dims, data_type=tensor.data_type, raw_data=data
  )


def _bits(data_type):
  import onnx

  dtype = onnx.helper.tensor_dtype_to_np_dtype(data_type)
  name = onnx.TensorProto.DataType.Name(data_type)
  return 4 if name in ("INT4", "UINT4") else np.dtype(dtype).itemsize * 8
