"""The integers of a quantized .tflite file, run by fbq beside LiteRT.

The file's own steps are kept: weights become the codes that stand in the file,
activations have its ranges. What may differ is the arithmetic of
requantization, and that logits stay in 32 bits here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbq import precision
from fbq.deploy import integer, lowering
from fbq.files import user_path
from fbq.nets.graph import INPUT_SITE
from fbq.nets.imported import Imported
from fbq.train import image_norm


class SameIntegers(NamedTuple):
  """An integer network beside LiteRT on the same inputs.

  Attributes:
    inputs: number of them.
    same_classes: share of inputs of the same class.
    equal_codes: share of equal integers among the outputs.
    largest_difference: the most that two of these integers differ by.
    accuracy, runtime_accuracy: share of right classes of both, None without
      labels.
  """

  inputs: int
  same_classes: float
  equal_codes: float
  largest_difference: int
  accuracy: float | None
  runtime_accuracy: float | None


def network_of(found: Imported, width: int = 32) -> integer.IntegerNet:
  """The integers of a quantized file, read from `fbq.nets.from_tflite`.

  Args:
    found: what was read; it reads integers and keeps ranges.
    width: bits in which requantization is computed, see `lowering.lower`.

  Raises:
    ValueError: a file of floats, or a layer that has no integer form.
  """
  if found.codes is None or not found.ranges:
    raise ValueError(
      f"{found.net.name}: its file reads floats; expected a quantized .tflite"
    )
  images = found.for_images()
  net, variables = images.net, images.variables
  if images.mean.any() or (images.std != 1).any():
    variables = image_norm.folded(net, variables, images.mean, images.std)
  ranges = _ranges(net, variables["params"], found.ranges)
  return lowering.lower(
    net, {**variables, "ranges": ranges}, precision.uniform(net, 8), width
  )


def _ranges(net, params, given: Mapping[str, tuple[float, float]]):
  """Ranges of `fbq.schemes.fixed` whose steps are those of the file."""
  ranges: dict[str, Any] = {}
  for node in net.nodes:
    if node.has_weights:
      # The file's codes end at 127, which the largest weight has.
      kernel = np.abs(np.asarray(params[f"{node.name}_kernel"], np.float64))
      axes = tuple(range(kernel.ndim - (node.op != "linear")))
      largest = np.maximum(kernel.max(axes), 2.0**-100)
      ranges[f"{node.name}.weight"] = (largest * 128 / 127).astype(np.float32)
  for site, owner in net.step_site.items():
    if site == INPUT_SITE:
      continue
    low, high = given[site]
    reach = max(-low, high * 128 / 127) if net.is_signed[site] else high
    ranges[owner] = np.float32(max(reach, ranges.get(owner, 0.0)))
  return ranges


def beside_runtime(
  found: Imported,
  path: str | Path,
  codes: np.ndarray,
  labels: np.ndarray | None = None,
  width: int = 32,
) -> SameIntegers:
  """Our integers and LiteRT's (XNNPACK, one thread) on the same inputs.

  Args:
    found: what was read of the file.
    path: the file.
    codes: integers [N, H, W, C] as the file reads them.
    labels: int [N], or None.
    width: see `network_of`.
  """
  network = network_of(found, width)
  low, _ = found.codes or (0, 0)
  logits = np.asarray(
    integer.integer_apply(network, jnp.asarray(codes) - low), np.float64
  )
  logits = logits * network.steps[network.net.nodes[-1].name]
  if found.head:
    logits = np.asarray(getattr(jax.nn, found.head)(logits))

  expected, (scale, zero) = _run(path, codes)
  ends = np.iinfo(expected.dtype)
  ours = np.rint(logits / scale + zero).clip(ends.min, ends.max)
  theirs = expected.astype(np.int64)
  right = lambda x: (
    None if labels is None else float(np.mean(x.argmax(-1) == labels))
  )
  return SameIntegers(
    len(codes),
    float(np.mean(logits.argmax(-1) == theirs.argmax(-1))),
    float(np.mean(ours == theirs)),
    int(np.abs(ours - theirs).max()),
    right(logits),
    right(theirs),
  )


def _run(path, codes):
  """(integers that LiteRT gives, their scale and zero point)."""
  from ai_edge_litert.interpreter import Interpreter

  interpreter = Interpreter(str(user_path(path)), num_threads=1)
  interpreter.allocate_tensors()
  [read], [made] = (
    interpreter.get_input_details(),
    interpreter.get_output_details(),
  )
  outputs = []
  for image in codes.astype(read["dtype"]):
    interpreter.set_tensor(read["index"], image[None].reshape(read["shape"]))
    interpreter.invoke()
    outputs.append(interpreter.get_tensor(made["index"]).reshape(-1))
  return np.stack(outputs), made["quantization"]
