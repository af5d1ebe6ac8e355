"""A trained point of a run as integers for others to run, or as blocks.

Lowers a fine-tuned network in two widths of requantization, compares both with
the trained one on the test images, and writes an integer network, DORY's files,
C, a quantized ONNX and TFLite. A network of block formats becomes packed codes
and exponents. Each part is tried, whatever became of the others.
"""

import functools
import shutil
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from fbq.deploy import (
  block_artifact,
  dory_limits,
  dory_target,
  faithful,
  lowering,
  onnx_fast,
  onnx_qdq,
)
from fbq.deploy.block_artifact import BlockNet
from fbq.deploy.faithful import Faithfulness
from fbq.deploy.integer import IntegerNet
from fbq.experiments.export import forms
from fbq.experiments.export.config import Export
from fbq.experiments.export.results import (
  BlockExport,
  BlockTensor,
  IntegerExport,
  Integers,
)
from fbq.files import user_path
from fbq.lab import block_point, costs, finished, trained_point
from fbq.lab.block_point import BlockPoint, BlockResults
from fbq.lab.lab import Lab
from fbq.lab.settings import OnTarget
from fbq.lab.trained_point import TrainedPoint
from hwsim.pulp import XPULPNN_V1, Target

T = TypeVar("T")
_TFLITE = {  # part -> its file, and whether weights of 4 and 2 bits take 4
  "TFLite": ("network.tflite", False),
  "TFLite int4": ("network_int4.tflite", True),
}


class Attempts:
  """Tries parts of an export, of which each may fail alone.

  Attributes:
    failed: {part: reason} of what failed so far.
  """

  def __init__(self, lab: Lab):
    self._lab = lab
    self.failed: dict[str, str] = {}

  def __call__(self, part: str, make: Callable[[], T], *files: str) -> T | None:
    """What `make` returns, None if it fails.

    Args:
      part: its name for the reader.
      make: makes it, or raises.
      *files: what it writes in the workdir, which does not stay if it fails.

    Raises:
      OSError: a full disk and the like, which is no fault of the part.
    """
    with self._lab.clock.measure(part):
      try:
        return make()
      except OSError:
        raise
      except Exception as error:  # ONNX and its runtime have their own kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, ImportError):
          reason += "; pip install 'fbq[deploy]'"

    # What does not hold is not left for anybody to use.
    for path in (self._lab.workdir / file for file in files):
      if path.is_dir():
        shutil.rmtree(path)
      path.unlink(missing_ok=True)
    self.failed[part] = reason
    self._lab.log.say(f"{part}: failed: {reason}")
    return None


def run(settings: Export, lab: Lab) -> IntegerExport | BlockExport:
  """Every form that a point can be exported in, and how faithful it is."""
  source = finished.read(user_path(settings.source), lab.log)
  with lab.clock.measure("trained network"):
    if isinstance(source.results, BlockResults):
      found = source.results.deployable(settings.point)
      point = block_point.load(source, found)
    else:
      point = trained_point.load(source, settings.point)
  if isinstance(point, BlockPoint):
    return _blocks(point, lab)
  hardware = source.lab.settings
  if not isinstance(hardware, OnTarget):
    hardware = None
  return _integers(point, hardware, settings, lab)


# ---- Integers


def _integers(
  point: TrainedPoint, hardware: OnTarget | None, settings: Export, lab: Lab
) -> IntegerExport:
  """The files of a fine-tuned point, and how faithful they are.

  Args:
    point: network and precisions.
    hardware: hardware of the run, if it has one; DORY writes code for it.
    settings, lab: those of the export.
  """
  # DORY, its kernels and its constants are of PULP clusters
  simulated = costs.target_of(hardware) if hardware else None
  target = simulated or XPULPNN_V1
  board = target if isinstance(target, Target) else None
  attempt, workdir = Attempts(lab), lab.workdir

  # ---- Integers in both widths, and how faithful they are
  def lowered(width):
    network = lowering.lower(
      point.net, point.variables, point.assignment, width
    )
    return network, faithful.compare(network, point.variables, point.images)

  made: dict[int, tuple[IntegerNet, Faithfulness]] = {}
  for width in forms.WIDTHS:
    make = functools.partial(lowered, width)
    if found := attempt(f"{width}-bit integers", make):
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
    lambda: forms.save(network(bits), workdir, point.images),
    "network.json",
    "weights.npz",
  )
  image = point.images[settings.golden_image]
  refused: list[tuple[str, str]] = []
  if board is not None:
    attempt(
      "DORY",
      lambda: forms.write_dory(network(bits), board, workdir / "dory", image),
      "dory",
    )
    if bits in made:
      refused = dory_limits.problems(network(bits), board)
  cycles = None
  if hardware and simulated:
    timed = functools.partial(
      forms.cycles, point, simulated, hardware.output_bits
    )
    cycles = attempt("cycles", timed)

  # ---- C for any processor
  code = attempt(
    "C", lambda: forms.write_c(network(bits), workdir / "c", point.images), "c"
  )

  # ---- ONNX, which requantizes in floating point: any width gives the same
  model = attempt(
    "ONNX",
    lambda: forms.write_onnx(
      network(bits, *forms.WIDTHS), workdir / "qdq.onnx"
    ),
    "qdq.onnx",
  )
  onnx = {}
  if model is not None:
    onnx["bytes"] = onnx_qdq.weight_bytes(model)
    _, faith = next(iter(made.values()))
    agrees = functools.partial(
      forms.run_onnx, model, point, faith.trained_classes
    )
    onnx |= attempt("ONNX Runtime", agrees) or {}
    if "same_class" in onnx:  # so there is a runtime
      fast = functools.partial(
        onnx_fast.write,
        network(bits, *forms.WIDTHS),
        workdir / onnx_fast.FILE,
        np.asarray(point.images),
        faith.trained_classes,
      )
      onnx |= attempt("ONNX, fast", fast, onnx_fast.FILE) or {}

  # ---- TFLite, whose requantization is its own; in int4 where that is less
  def write_tflite(file, int4):
    written = network(bits, *forms.WIDTHS)
    _, faith = next(iter(made.values()))
    return forms.write_tflite(
      written,
      workdir / file,
      int4,
      settings.tflite_portable,
      point,
      faith.trained_classes,
    )

  narrow = any(
    width <= 4
    for site, width in point.assignment.items()
    if site.endswith(".weight")
  )
  tflite_files = {}
  for part, (file, int4) in _TFLITE.items():
    if narrow or not int4:
      make = functools.partial(write_tflite, file, int4)
      if exported := attempt(part, make, file):
        tflite_files[file] = exported

  # ---- The record; all tensors but the logits have bits
  reads = {n.name: point.net.site_of[n.inputs[0]] for n in point.net.nodes[:-1]}
  assigned = point.assignment
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
        same_exact_class=faith.same_exact_class,
        accuracy=float(np.mean(faith.classes == np.asarray(point.labels))),
        layers=faith.layers,
      )
      for width, (_, faith) in made.items()
    },
    bits={
      name: (assigned[site], assigned.get(f"{name}.weight"))
      for name, site in reads.items()
      if site
    },
    onnx=onnx,
    target=target.name,
    dory=None if board is None else dory_target.invocation(board),
    refused=tuple(refused),
    cycles=cycles or {},
    c=code,
    tflite=tflite_files,
    made=point.made,
    measure=point.measure,
  )


# ---- Block formats


def _blocks(point: BlockPoint, lab: Lab) -> BlockExport:
  """The files of a network of block formats, which hold it bit for bit."""

  def logits_of(variables, data):
    """[B, classes] of all test images."""
    forward = functools.partial(
      block_artifact.logits, point.net, point.scheme, variables, data
    )
    starts = range(0, len(point.images), forms.IMAGES)
    return np.concatenate(
      [forward(point.images[start : start + forms.IMAGES]) for start in starts]
    )

  def save():
    block_artifact.save(
      block_artifact.encode(
        point.net, point.variables, point.data, point.scheme
      ),
      lab.workdir,
    )
    loaded = block_artifact.load(lab.workdir)
    if not np.array_equal(logits_of(loaded.variables, loaded.data), logits):
      raise RuntimeError("the files give back another network than written")
    return loaded

  # The same logits, or no export
  attempt, logits = Attempts(lab), logits_of(point.variables, point.data)
  written = attempt("block network", save, "network.json", "weights.npz")
  return BlockExport(
    network=point.net.name,
    point=point.name,
    reported_accuracy=point.accuracy,
    images=len(logits),
    sizes=block_artifact.sizes(written) if written else {},
    failed=attempt.failed,
    accuracy=float(np.mean(logits.argmax(-1) == np.asarray(point.labels))),
    logits=logits.size,
    tensors=tuple(_tensors(written)) if written else (),
  )


def _tensors(network: BlockNet) -> Iterator[BlockTensor]:
  """Every kernel, then the image and what every layer makes."""
  net = network.net
  formats = dict(zip(net.workload.sites, network.formats.tolist(), strict=True))
  for site in network.weights:
    yield BlockTensor(site, tuple(formats[site]), network.weight_bytes(site))
  for name in net.shapes:
    site = net.site_of[name]
    format_ = tuple(formats[site]) if site else None
    yield BlockTensor(name, format_, network.activation_bytes(name))
