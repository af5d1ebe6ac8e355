"""Networks out of files, beside the runtime that the files are made for.

    python -m fbq.lab.imported net.onnx

prints the layers of a network and how far its outputs are from the runtime's.
"""

import functools
import importlib.util
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fbq.files import user_path
from fbq.model import Model
from fbq.nets import from_onnx, from_tflite
from fbq.nets.graph import INPUT_SITE
from fbq.nets.imported import Imported

READERS = {".onnx": from_onnx.read, ".tflite": from_tflite.read}
LARGEST_DIFFERENCE = 1e-4  # of the largest output, where the file is of floats
_IMAGES = 4
_IR_VERSION = 10  # of onnx 1.16; every later runtime reads it


class Comparison(NamedTuple):
  """Outputs of an imported network beside those of its file.

  Attributes:
    difference: largest difference of an output.
    relative: the same, as a share of the largest output.
    same_classes: share of images of the same class.
    equal_codes: share of equal integers, where the file gives integers.
  """

  difference: float
  relative: float
  same_classes: float
  equal_codes: float | None

  def __str__(self) -> str:
    text = (
      f"largest difference {self.difference:.3g}, {self.relative:.1e} of the "
      f"largest output; same class for {self.same_classes:.0%} of the images"
    )
    if self.equal_codes is not None:
      text += f"; {self.equal_codes:.0%} of the output's integers are equal"
    return text


def is_file(path: str | Path) -> bool:
  """Whether a path is that of a file with a network, and not of weights."""
  return Path(path).suffix.lower() in READERS


def read(path: str | Path) -> Imported:
  """The network of an .onnx or .tflite file.

  Raises:
    ValueError: another kind of file, or one that cannot be taken.
  """
  if not is_file(path):
    raise ValueError(
      f"{path}: expected a file that ends in {', '.join(READERS)}; "
      "torch.onnx.export makes one of a network of PyTorch, "
      "tf.lite.TFLiteConverter one of a network of Keras"
    )
  return READERS[Path(path).suffix.lower()](path)


def checked(path: str | Path) -> Imported:
  """`read`, once for a file, and only if the runtime gives the same outputs.

  Raises:
    ValueError: as `read`, or the outputs of a file of floats differ by more
      than `LARGEST_DIFFERENCE`.
  """
  path = user_path(path)
  state = path.stat() if path.is_file() else None
  return _checked(path, state and (state.st_mtime_ns, state.st_size))


@functools.lru_cache(maxsize=4)
def _checked(path, _):
  found = read(path)
  comparison = compare(found, path)
  if not found.ranges and not comparison.relative <= LARGEST_DIFFERENCE:
    raise ValueError(
      f"{path}: the imported network is not that of the file: {comparison}; "
      "please report the file"
    )
  return found


def compare(found: Imported, path: str | Path, seed: int = 0) -> Comparison:
  """An imported network beside ONNX Runtime or LiteRT, on random images.

  Images of a quantized file fill a part of its range, so that few tensors are
  clipped: the network out of the file does not clip them.
  """
  random = np.random.default_rng(seed)
  x = random.normal(size=(_IMAGES, *found.net.input_shape))
  if INPUT_SITE in found.ranges:
    low, high = found.ranges[INPUT_SITE]
    x = np.clip(x * (high - low) / 16, low, high)

  # As the file reads images
  x = x * found.std + found.mean
  if found.codes:
    x = np.rint(x).clip(*found.codes)
  inputs = found.input_axes.from_images(x)
  run = _run_onnx if Path(path).suffix.lower() == ".onnx" else _run_tflite
  expected, (scale, zero) = run(user_path(path), inputs)

  # As the network does
  apply = jax.jit(functools.partial(Model(found.net).apply, train=False))
  images = ((x - found.mean) / found.std).astype(np.float32)
  logits = np.asarray(apply(found.variables, images))
  if logits.ndim == 2:
    logits = logits[:, None, None]
  outputs = found.output_axes.from_images(logits)
  if found.head:
    function = getattr(jax.nn, found.head)
    outputs = np.asarray(function(outputs, axis=1))

  difference = np.abs(outputs - expected).max()
  equal = None
  if scale:
    ends = np.iinfo(np.int8) if zero <= 0 else np.iinfo(np.uint8)
    codes = np.rint(np.stack([outputs, expected]) / scale + zero)
    codes = codes.clip(ends.min, ends.max)
    equal = float(np.mean(codes[0] == codes[1]))
  return Comparison(
    float(difference),
    float(difference / max(np.abs(expected).max(), 1e-30)),
    float(np.mean(outputs.argmax(1) == expected.argmax(1))),
    equal,
  )


def _ends(error: Exception) -> str:
  """What a runtime says on one line; the reason may stand at its end."""
  text = " ".join(str(error).split())
  return text if len(text) <= 300 else f"{text[:80]} ... {text[-220:]}"


def _onnx_session(path: Path) -> Any:
  """A session of ONNX Runtime, also of a file that a newer `onnx` has written.

  A file has a version of its form and one of its operators; the first grows
  with each release of `onnx`, and a runtime refuses those after its own.
  """
  import onnx
  import onnxruntime

  options = onnxruntime.SessionOptions()
  options.log_severity_level = 3
  opened = functools.partial(
    onnxruntime.InferenceSession,
    sess_options=options,
    providers=["CPUExecutionProvider"],
  )
  try:
    return opened(str(path))
  except Exception as error:  # It has a class of errors of its own.
    if "IR version" not in str(error):
      raise
  model = onnx.load(path)
  model.ir_version = min(model.ir_version, _IR_VERSION)
  return opened(model.SerializeToString())


def _run_onnx(path: Path, inputs: np.ndarray) -> tuple[np.ndarray, tuple]:
  """(outputs, no scale) of ONNX Runtime."""
  if importlib.util.find_spec("onnxruntime") is None:
    raise ModuleNotFoundError(
      f"{path}: comparing it needs `pip install fbq[onnx]`"
    )
  try:
    session = _onnx_session(path)
    wanted = session.get_inputs()[0]
    kind = {"tensor(float16)": np.float16, "tensor(double)": np.float64}
    inputs = inputs.astype(kind.get(wanted.type, np.float32))
    size = wanted.shape[0] if isinstance(wanted.shape[0], int) else len(inputs)
    inputs = np.resize(
      inputs, (-(-len(inputs) // size) * size, *inputs.shape[1:])
    )
    outputs = [
      np.asarray(session.run(None, {wanted.name: inputs[i : i + size]})[0])
      for i in range(0, len(inputs), size)
    ]
  except Exception as error:  # It has a class of errors of its own.
    newer = "till opset" in str(error)
    raise ValueError(
      f"{path}: ONNX Runtime cannot run it: {_ends(error)}"
      + "; export it with that opset_version or a newer onnxruntime" * newer
    ) from error
  return np.concatenate(outputs)[:_IMAGES].astype(np.float64), (0.0, 0)


def _run_tflite(path: Path, inputs: np.ndarray) -> tuple[np.ndarray, tuple]:
  """(outputs as numbers, their scale and zero point) of LiteRT."""
  from ai_edge_litert.interpreter import Interpreter

  try:
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    [read], [made] = (
      interpreter.get_input_details(),
      interpreter.get_output_details(),
    )
    outputs = []
    for image in inputs.astype(read["dtype"]):
      interpreter.set_tensor(read["index"], image[None])
      interpreter.invoke()
      outputs.append(interpreter.get_tensor(made["index"])[0])
  except (ValueError, RuntimeError) as error:
    raise ValueError(f"{path}: LiteRT cannot run it: {_ends(error)}") from error
  scale, zero = made["quantization"]
  outputs = np.stack(outputs).astype(np.float64)
  return (outputs - zero) * (scale or 1.0), (scale, zero)


def text(found: Imported) -> str:
  """A table of the layers, what differs from the file, and totals."""
  net = found.net
  lines = [_line("layer", "operator", "output", "MACs", "weights", "file has")]
  for node, layer in zip(net.nodes, net.workload.layers, strict=True):
    lines.append(
      _line(
        node.name,
        node.op,
        _sized(net.shapes[node.name]),
        f"{layer.macs:,}",
        f"{layer.weight_count:,}",
        found.labels[node.name],
      )
    )
  lines += [f"note: {note}" for note in found.notes]
  lines.append(
    f"{net.name}: images of {_sized(net.input_shape)}, "
    f"{net.workload.macs:,} MACs, {net.parameter_count:,} parameters"
  )
  return "\n".join(lines)


def _line(name, op, shape, macs, weights, label):
  return f"{name:<10} {op:<9} {shape:>12} {macs:>13} {weights:>11}  {label}"


def _sized(shape):
  return "x".join(map(str, shape))


def main() -> None:
  if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
    sys.exit("usage: python -m fbq.lab.imported FILE.onnx or FILE.tflite")
  try:
    found = read(sys.argv[1])
    print(text(found))
    print(compare(found, sys.argv[1]))
    checked(sys.argv[1])
  except (ValueError, ModuleNotFoundError) as error:
    sys.exit(f"error: {error}")


if __name__ == "__main__":
  main()
