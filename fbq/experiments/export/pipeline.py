"""A fine-tuned point of a run as integers, for DORY and for ONNX.

Lowers the network in two widths of requantization, compares both with the
trained one on the test images, and writes an integer network, DORY's files and
a quantized ONNX. Each part is tried, whatever became of the others. A network
of block formats becomes packed codes and exponents, see `blocks`.
"""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fbq.deploy import (
  artifact,
  dory,
  dory_check,
  faithful,
  integer,
  lowering,
  onnx_qdq,
)
from fbq.deploy.faithful import Faithfulness
from fbq.deploy.integer import IntegerNet
from fbq.experiments.export import blocks
from fbq.experiments.export.attempts import Attempts
from fbq.experiments.export.config import Export
from fbq.experiments.export.results import BlockExport, IntegerExport, Integers
from fbq.files import user_path, write_atomically
from fbq.lab import finished, trained_point
from fbq.lab.block_point import BlockResults
from fbq.lab.lab import Lab
from fbq.lab.trained_point import TrainedPoint

WIDTHS = (32, 64)
_IMAGES = 360  # that the written network is compared on


def run(settings: Export, lab: Lab) -> IntegerExport | BlockExport:
  """Every form that a point can be exported in, and how faithful it is."""
  attempt, workdir = Attempts(lab), lab.workdir
  source = finished.read(user_path(settings.source), lab.log)
  if isinstance(source.results, BlockResults):
    return blocks.run(source, settings.point, lab, attempt)

  # ---- The trained network
  with lab.clock.measure("trained network"):
    point = trained_point.load(source, settings.point)

  # ---- Integers in both widths, and how faithful they are
  made: dict[int, tuple[IntegerNet, Faithfulness]] = {}
  for width in WIDTHS:
    integers = functools.partial(_integers, point, width)
    if found := attempt(f"{width}-bit integers", integers):
      made[width] = found

  def network(*widths: int) -> IntegerNet:
    """That of the first width that there is; ValueError if there is none."""
    for width in widths:
      if width in made:
        return made[width][0]
    raise ValueError(f"there are no {widths[0]}-bit integers to write")

  # ---- The integer network, and what DORY reads
  bits = settings.requantization_bits
  sizes = attempt(
    "integer network",
    lambda: _save(network(bits), workdir, point.images[:_IMAGES]),
    workdir / "network.json",
    workdir / "weights.npz",
  )
  image = point.images[settings.golden_image]
  attempt(
    "DORY",
    lambda: _write_dory(network(bits), workdir / "dory", image),
    workdir / "dory",
  )

  # ---- ONNX, which requantizes in floating point: any width gives the same
  model = attempt(
    "ONNX",
    lambda: _write_onnx(network(bits, *WIDTHS), workdir / "qdq.onnx"),
    workdir / "qdq.onnx",
  )
  onnx = {}
  if model is not None:
    onnx["bytes"] = onnx_qdq.weight_bytes(model)
    _, faith = next(iter(made.values()))
    agrees = functools.partial(_run_onnx, model, point, faith.trained_classes)
    onnx |= attempt("ONNX Runtime", agrees) or {}

  # ---- The record
  return IntegerExport(
    network=point.net.name,
    point=point.name,
    reported_accuracy=point.accuracy,
    images=len(point.images),
    sizes=sizes or {},
    failed=attempt.failed,
    requantization_bits=bits,
    widths={
      width: Integers(
        same_class=faith.same_class,
        accuracy=float(np.mean(faith.classes == np.asarray(point.labels))),
        layers=faith.layers,
      )
      for width, (_, faith) in made.items()
    },
    bits=_bits_of_layers(point),
    onnx=onnx,
  )


def _integers(point: TrainedPoint, width: int):
  """The network in integers, and how faithful they are."""
  network = lowering.lower(point.net, point.variables, point.assignment, width)
  return network, faithful.compare(network, point.variables, point.images)


def _save(network: IntegerNet, workdir: Path, images) -> dict[str, int]:
  """Writes network.json and weights.npz and reads them back; their sizes."""
  sizes = artifact.save(network, workdir)["sizes"]
  codes = integer.quantize_images(images)
  again = integer.integer_apply(artifact.load(workdir), codes)
  if not np.array_equal(again, integer.integer_apply(network, codes)):
    raise RuntimeError("the files give back another network than written")
  return sizes


def _write_dory(network: IntegerNet, directory: Path, image: jax.Array) -> None:
  """Writes DORY's files and holds them against its contract."""
  codes = np.asarray(integer.quantize_images(image))
  dory.write(network, directory, codes)
  if found := dory_check.problems(directory):
    raise RuntimeError(f"the files break DORY's contract: {'; '.join(found)}")


def _write_onnx(network: IntegerNet, path: Path) -> Any:
  """Writes the quantized ONNX; its model."""
  model = onnx_qdq.build(network)
  write_atomically(path, model.SerializeToString())
  return model


def _run_onnx(model: Any, point: TrainedPoint, trained) -> dict[str, int]:
  """Images classified as the trained network does, by both kinds of kernels."""
  found, images = {}, np.asarray(point.images)
  for key, is_exact in (("same_class", True), ("same_class_fast", False)):
    logits = onnx_qdq.run(onnx_qdq.session(model, is_exact), images)
    found[key] = int(np.sum(logits.argmax(-1) == trained))
  return found


def _bits_of_layers(point: TrainedPoint) -> dict[str, tuple[int, int | None]]:
  """{layer: bits of its input and of its weights}."""
  net, bits = point.net, point.assignment
  reads = {node.name: net.site_of[node.inputs[0]] for node in net.nodes[:-1]}
  return {
    name: (bits[site], bits.get(f"{name}.weight"))
    for name, site in reads.items()
    if site  # but the logits, which nothing reads, every tensor has one
  }
