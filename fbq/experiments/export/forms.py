"""The forms of an integer network, each written and held against what it is."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fbq.deploy import (
  artifact,
  c_code,
  dory,
  dory_check,
  integer,
  onnx_qdq,
  tflite,
  tflite_run,
)
from fbq.deploy.integer import IntegerNet
from fbq.experiments.export.results import CExport, TfliteExport
from fbq.files import write_atomically
from fbq.lab import costs
from fbq.lab.settings import OutputBits
from fbq.lab.trained_point import TrainedPoint
from hwsim import targets
from hwsim.pulp import Target

WIDTHS = (32, 64)  # bits of the requantization
GOLDEN = 4  # images that the C checks itself on
IMAGES = 360  # at a time, of block formats


def save(network: IntegerNet, workdir: Path, images) -> dict[str, int]:
  """Writes network.json and weights.npz and reads them back; their sizes."""
  sizes = artifact.save(network, workdir)["sizes"]
  few = integer.images_at_a_time(network.net)
  codes = integer.quantize_images(images[:few])
  again = integer.integer_apply(artifact.load(workdir), codes)
  if not np.array_equal(again, integer.integer_apply(network, codes)):
    raise RuntimeError("the files give back another network than written")
  return sizes


def write_dory(
  network: IntegerNet, target: Target, directory: Path, image: jax.Array
) -> None:
  """Writes DORY's files and holds them against its contract."""
  codes = np.asarray(integer.quantize_images(image))
  dory.write(network, target, directory, codes)
  if found := dory_check.problems(directory):
    raise RuntimeError(f"the files break DORY's contract: {'; '.join(found)}")


def cycles(
  point: TrainedPoint, target: targets.Target, output_bits: OutputBits
) -> dict[int, int]:
  """Cycles by bits of the requantization constants, as the run counts them.

  Larger constants take room in L1 and L2, so tiles are smaller, and time on
  their way there. What the arithmetic of kernels takes is that of 32 bits, the
  most that NE16's multipliers have.
  """
  workload, found = point.net.workload, {}
  for width in WIDTHS if isinstance(target, Target) else WIDTHS[:1]:
    if isinstance(target, Target):
      wide = dataclasses.replace(target, constant_bits=width)
    else:
      wide = dataclasses.replace(target, norm_bits=width)
    table = targets.latency_table(workload, wide)
    costed = costs.Costs(wide, table, output_bits)
    found[width] = costed.total(workload, point.assignment)
  return found


def write_c(network: IntegerNet, directory: Path, images: jax.Array) -> CExport:
  """Writes C and lets it check itself, if there is a compiler."""
  golden = np.asarray(integer.quantize_images(images[:GOLDEN]))
  sizes = c_code.write(network, directory, golden)
  return CExport(sizes, len(golden), c_code.check(directory))


def write_onnx(network: IntegerNet, path: Path) -> Any:
  """Writes the quantized ONNX; its model."""
  model = onnx_qdq.build(network)
  write_atomically(path, model.SerializeToString())
  return model


def run_onnx(model: Any, point: TrainedPoint, trained) -> dict[str, int]:
  """Images classified as the trained network does."""
  images = np.asarray(point.images)
  logits = onnx_qdq.run(onnx_qdq.session(model), images)
  return {"same_class": int(np.sum(logits.argmax(-1) == trained))}


def write_tflite(
  network: IntegerNet,
  path: Path,
  int4: bool,
  portable: bool,
  point: TrainedPoint,
  trained: np.ndarray,
) -> TfliteExport:
  """Writes a TFLite file and runs it on the test images.

  Args:
    network: network in integers.
    path: file that is written.
    int4: whether weights of 4 and 2 bits take 4.
    portable: whether weights of -128 become -127.
    point: point with the images.
    trained: classes that the trained network predicts.
  """
  built = tflite.build(network, int4, portable)
  layers = built.layers.values()
  write_atomically(path, built.data)
  codes = np.asarray(integer.quantize_images(point.images))
  ran = tflite_run.compare(tflite_run.load(path), network, codes)
  return TfliteExport(
    bytes=len(built.data),
    weight_bytes=built.weight_bytes,
    channels=sum(layer.is_equal.size for layer in layers),
    equal_channels=sum(int(layer.is_equal.sum()) for layer in layers),
    clipped=sum(layer.clipped for layer in layers),
    same_class=int(np.sum(ran.classes == trained)),
    values=ran.values,
    equal=ran.equal,
    largest=ran.largest,
  )
