"""TFLite files run by LiteRT, beside the integer network they were made of."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fbq.deploy import integer
from fbq.deploy.files import ArtifactError
from fbq.deploy.integer import IntegerNet
from fbq.nets import tflite_file
from fbq.nets.graph import INPUT

# Kernels that LiteRT has: XNNPACK's, where it takes a layer; its own; and its
# plain ones.
KERNELS = ("AUTO", "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "BUILTIN_REF")


class Comparison(NamedTuple):
  """A file beside its integer network on some images, end to end.

  Attributes:
    classes: int [B], predictions of the file.
    values: codes of all layers but the last on all images.
    equal: those that are equal.
    largest: largest difference of two codes.
  """

  classes: np.ndarray
  values: int
  equal: int
  largest: int


def load(path: str | Path) -> bytes:
  """A file that `fbq.deploy.tflite` made, as it was written.

  Raises:
    ArtifactError: missing, cut short or altered, or of another maker.
    ModuleNotFoundError: the package ai-edge-litert is not installed.
  """
  try:
    file = tflite_file.File(path)
    facts = file.facts
  except (ValueError, *tflite_file.DAMAGE) as error:
    raise ArtifactError(f"{path}: {error}") from error
  if not facts:
    raise ArtifactError(f"{path} has no seal of fbq: export the network again")
  return file.path.read_bytes()


def session(
  data: bytes, kernels: str = "AUTO", threads: int = 1, keeps: bool = False
) -> Any:
  """A LiteRT interpreter of a file.

  Args:
    data: the file.
    kernels: one of `KERNELS`; the first is what anybody gets.
    threads: threads of one operator.
    keeps: whether tensors between layers can be read afterwards.
  """
  from ai_edge_litert import interpreter

  with warnings.catch_warnings():  # that keeping them takes memory
    warnings.simplefilter("ignore", UserWarning)
    return interpreter.Interpreter(
      model_content=data,
      experimental_op_resolver_type=interpreter.OpResolverType[kernels],
      num_threads=threads,
      experimental_preserve_all_tensors=keeps,
    )


def run(session_: Any, codes: np.ndarray) -> np.ndarray:
  """Logits [B, classes] of images in codes [B, H, W, C], 0 to 255."""
  made = session_.get_output_details()[0]["index"]
  found, batch = [], 32
  for start in range(0, len(codes), batch):
    _invoke(session_, codes[start : start + batch])
    found.append(session_.get_tensor(made))
  return np.concatenate(found)


def tensors(
  session_: Any, network: IntegerNet, codes: np.ndarray
) -> dict[str, np.ndarray]:
  """Codes of every tensor of the net, by name, and logits.

  Args:
    session_: one that keeps tensors.
    network: network that the file was made of.
    codes: images [B, H, W, C], 0 to 255.
  """
  _invoke(session_, codes)
  found = {}
  for detail in session_.get_tensor_details():
    name = detail["name"]
    if name != INPUT and name not in network.net.node:
      continue
    zero = detail["quantization"][1]
    found[name] = session_.get_tensor(detail["index"])
    if found[name].dtype == np.int8:
      found[name] = found[name].astype(np.int64) - zero
  return found


def compare(
  data: bytes, network: IntegerNet, codes: np.ndarray, kernels: str = "AUTO"
) -> Comparison:
  """How a file computes beside the network that it was made of.

  Args:
    data: the file.
    network: network that it was made of.
    codes: images [B, H, W, C], 0 to 255.
    kernels: one of `KERNELS`.
  """
  session_ = session(data, kernels, keeps=True)
  values, equal, largest, classes = 0, 0, 0, []
  # As in `faithful.compare`, so that one compilation serves both
  batch = integer.images_at_a_time(network.net)
  for start in range(0, len(codes), batch):
    part = codes[start : start + batch]
    found = tensors(session_, network, part)
    wanted = integer.integer_tensors(network, jnp.asarray(part))
    for node in network.net.nodes[:-1]:
      expected = np.asarray(wanted[node.name])
      apart = np.abs(found[node.name].reshape(expected.shape) - expected)
      values += apart.size
      equal += int((apart == 0).sum())
      largest = max(largest, int(apart.max()))
    classes.append(found[network.net.nodes[-1].name].argmax(-1))
  return Comparison(np.concatenate(classes), values, equal, largest)


def _invoke(session_, codes):
  """Runs a batch of images in codes."""
  stored = (np.asarray(codes, np.int16) - 128).astype(np.int8)
  image = session_.get_input_details()[0]["index"]
  session_.resize_tensor_input(image, stored.shape)
  session_.allocate_tensors()
  session_.set_tensor(image, stored)
  session_.invoke()
