"""A network out of a file beside inputs of its own, as images in [0, 1].

Everything in fbq reads images of 8 bits from 0 to 1. So does what comes here:
pixels, integers that the file reads, or numbers of any range, whose scale moves
into the layers that read them.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from fbq.config import ConfigError, Count, Seed, Settings
from fbq.data import DataError
from fbq.data import inputs as inputs_lib
from fbq.data.inputs import Inputs
from fbq.files import user_path
from fbq.lab import imported
from fbq.lab.pretrained import KINDS
from fbq.lab.settings import Normalization
from fbq.nets.graph import INPUT, Net
from fbq.nets.imported import Imported
from fbq.train import image_norm


class FromFile(Settings):
  """A network out of a file, and inputs to calibrate and judge it by."""

  model: str
  "The .onnx or .tflite file of the network."
  calibration: str
  "Inputs: a folder of pictures or of .bin files, a .npz, .npy or .bin file."
  test: str = ""
  "Inputs to report on; '': some of config.calibration are held back for it."
  labels_from_folders: bool = False
  "Whether the folder that a picture lies in is its class."
  raw_type: Literal["", "uint8", "int8", "float32"] = ""
  "What .bin files hold; '': told from their size and the network."
  normalization: Normalization = ()
  "(mean, std) by channel of pixels before the file, as (x - mean) / std; (): \
  it reads images in [0, 1], or integers."
  border: Literal["file", "black"] = "file"
  "What lies around images: 'file', the colour that is 0 behind the \
  normalization, as in the file, or 'black', which is all that DORY and TFLite \
  have."
  calibration_images: int = Field(128, ge=8, le=10**6)
  "Inputs that ranges, roundings and harm are found by; half of all at most."
  held_images: int = Field(1000, ge=8, le=10**6)
  "Most inputs that are held back, half to choose by, half to report."
  batch_size: Count = 32
  "Inputs at a time; divides calibration_images."
  seed: Seed = 0
  "Seed of the split of the inputs."


class Part(NamedTuple):
  """Some inputs.

  Attributes:
    images: float32 [N, H, W, C] in [0, 1].
    labels: int32 [N], or None.
  """

  images: np.ndarray
  labels: np.ndarray | None


class Subject(NamedTuple):
  """A float network and what it is calibrated and judged on.

  Attributes:
    net: the network, for images in [0, 1].
    variables: "params" and "batch_stats".
    ranges: activation site -> (lowest, highest) number of a quantized file.
    calibration: what ranges and roundings are found by, without labels.
    validation: what everything is chosen by.
    test: what is reported, and nothing is chosen by.
    notes: sentences about the file.
    in_file: (network, variables) whose images have the border of the file;
      None where they are these.
  """

  net: Net
  variables: dict[str, Any]
  ranges: Mapping[str, tuple[float, float]]
  calibration: np.ndarray
  validation: Part
  test: Part
  notes: tuple[str, ...]
  in_file: tuple[Net, dict[str, Any]] | None = None

  @property
  def has_labels(self) -> bool:
    """Whether accuracy can be told, and not just agreement."""
    return self.validation.labels is not None and self.test.labels is not None


def of(settings: FromFile) -> Subject:
  """Network and inputs of the settings; ConfigError if they cannot be had."""
  for name in ("calibration", "test"):  # before the model is compiled
    path = user_path(getattr(settings, name))
    if getattr(settings, name) and not os.path.exists(path):
      raise ConfigError(f"config.{name}: {inputs_lib.missing(path)}")
  try:
    return build(settings)
  except _WrongModel as error:
    raise ConfigError(f"config.model: {error}") from error
  except _WrongTest as error:
    raise ConfigError(f"config.test: {error}") from error
  except (ValueError, DataError, ModuleNotFoundError) as error:
    raise ConfigError(f"config.calibration: {error}") from error


class _WrongModel(ValueError):
  """A file of a network that cannot be taken."""


class _WrongTest(ValueError):
  """Inputs to report on that cannot be taken."""


def build(settings: FromFile) -> Subject:
  """A network and its inputs, read and split.

  Raises:
    ValueError: the file cannot be taken, or inputs that do not fit it.
    fbq.data.DataError: inputs that cannot be read.
  """
  try:
    found = imported.checked(settings.model)
  except (ValueError, ModuleNotFoundError) as error:
    raise _WrongModel(str(error)) from error
  options: dict[str, Any] = dict(
    shape=found.net.input_shape,
    codes=found.codes,
    raw_type=settings.raw_type,
    from_folders=settings.labels_from_folders,
    classes=found.net.shapes[found.net.nodes[-1].name][2],
    seed=settings.seed,
  )
  most = settings.calibration_images + settings.held_images
  given = inputs_lib.read(settings.calibration, most=most, **options)
  reported = None
  if settings.test:
    try:
      reported = inputs_lib.read(
        settings.test, most=settings.held_images, **options
      )
    except DataError as error:
      raise _WrongTest(str(error)) from error
  if reported is not None and reported.kind != given.kind:
    raise _WrongTest(
      f"{settings.test} has {reported.kind}, expected {given.kind} as "
      f"{settings.calibration} has"
    )

  # The same scale for all, from what is calibrated with
  parts = _split(given, reported, settings.calibration_images, settings.seed)
  scale = _scale_of(found, parts[0], settings.normalization)
  net, variables, ranges = _for_images(found, scale)
  in_file = None
  if settings.border == "black" and net.image_zero:
    in_file = net, variables
    net, variables, ranges = _for_images(found, scale, black=True)
  calibrated, validation, reported = (
    Part(_images(part, found, scale), part.labels) for part in parts
  )
  classes = net.shapes[net.nodes[-1].name][2]
  for part in (validation, reported):
    if part.labels is not None and not (
      part.labels.min() >= 0 and part.labels.max() < classes
    ):
      raise ValueError(
        f"labels of {part.labels.min()} to {part.labels.max()}, expected 0 to "
        f"{classes - 1}, the classes of {net.name}"
      )
  reads = "What is exported reads pixels or codes from 0 to 1, not normalized."
  if given.kind == "numbers" and not found.codes:
    reads = (
      f"What is exported reads (x - {scale.low:.9g}) / {scale.width:.9g}, cut "
      "to 0 to 1, of the numbers x that the file reads."
    )
  return Subject(
    *(net, variables, ranges, calibrated.images, validation, reported),
    (*found.notes, *_repeated(parts), reads),
    in_file,
  )


def _split(
  given: Inputs, reported: Inputs | None, calibration_images: int, seed: int
) -> tuple[Inputs, Inputs, Inputs]:
  """(to calibrate, to choose by, to report), no input in two of them."""
  count, ways = len(given.x), 2 if reported is not None else 3
  if count < 4 * ways:
    raise ValueError(
      f"{count} inputs, expected {4 * ways} or more: some to calibrate with, "
      "others to judge by"
    )
  order = np.random.default_rng(seed).permutation(count)
  first = min(calibration_images, count // 2)
  calibration, rest = order[:first], order[first:]
  if reported is not None:
    known = {x.tobytes() for x in given.x}
    if both := sum(x.tobytes() in known for x in reported.x):
      raise _WrongTest(
        f"{both} of {len(reported.x)} inputs of config.test are also in "
        "config.calibration; expected others, which chose nothing"
      )
    return given.rows(calibration), given.rows(rest), reported
  half = len(rest) // 2
  chosen, last = given.rows(rest[:half]), given.rows(rest[half:])
  return given.rows(calibration), chosen, last


def _repeated(parts: tuple[Inputs, Inputs, Inputs]) -> list[str]:
  """A note of inputs that are reported and lie in another part too.

  Copies of a picture under other names, which flatter what is told.

  Raises:
    ValueError: there is but one input, again and again.
  """
  used = {x.tobytes() for part in parts[:2] for x in part.x}
  reported = [x.tobytes() for x in parts[2].x]
  if len(used | set(reported)) == 1:
    raise ValueError("all inputs are the same, expected different ones")
  if both := sum(x in used for x in reported):
    return [
      f"{both} of {len(reported)} inputs that are reported are equal to some "
      "that calibrate or choose, which flatters what is told of them."
    ]
  return []


# ---- Scales


class _Scale(NamedTuple):
  """Numbers that a file reads are image * width + low."""

  low: float
  width: float
  mean: tuple[float, ...]
  std: tuple[float, ...]


def _scale_of(found: Imported, part: Inputs, normalization) -> _Scale:
  """How what a file reads becomes images in [0, 1], from some inputs."""
  if part.kind == "pixels":
    mean, std = normalization or ((), ())
    return _Scale(0.0, 1.0, tuple(mean), tuple(std))
  if normalization:
    raise ValueError(
      f"inputs are {part.kind}, which are not normalized; expected pixels, or "
      "no config.normalization"
    )
  if found.codes:
    return _Scale(found.codes[0], found.codes[1] - found.codes[0], (), ())

  # 8 bits from the smallest to the largest number, 0 among them
  low, high = min(part.x.min(), 0.0), max(part.x.max(), 0.0)
  step = max(float(high - low), 1e-6) / 255
  zero = round(-float(low) / step)
  channels = found.net.input_shape[2]
  return _Scale(
    -zero * step,
    255 * step,
    (zero / 255,) * channels,
    (1 / (255 * step),) * channels,
  )


def _images(part: Inputs, found: Imported, scale: _Scale) -> np.ndarray:
  x = part.x.astype(np.float32)
  if part.kind == "pixels":
    return x / np.float32(255)
  if part.kind == "numbers" and found.codes:
    x = np.rint(x * found.std + found.mean).clip(*found.codes)
  return ((x - scale.low) / scale.width).clip(0, 1).astype(np.float32)


def _for_images(found: Imported, scale: _Scale, black: bool = False):
  """(net, variables, ranges) of a file's network for images in [0, 1]."""
  made = found.for_images(scale.mean, scale.std)
  if black:
    made = made._replace(net=dataclasses.replace(made.net, image_zero=()))
  net, variables = made.net, dict.fromkeys(KINDS, {}) | made.variables
  if not (made.mean.any() or (made.std != 1).any()):
    return net, variables, made.ranges

  # What the mean gives needs a constant behind the layer
  params = dict(variables["params"])
  nodes = []
  for node in net.nodes:
    bare = INPUT in node.inputs and node.has_weights
    if bare and not (node.bias or node.norm):
      outputs = params[f"{node.name}_kernel"].shape[-1]
      params[f"{node.name}_bias"] = np.zeros(outputs, np.float32)
      node = dataclasses.replace(node, bias=True)
    nodes.append(node)
  net = dataclasses.replace(net, nodes=tuple(nodes))
  folded = image_norm.folded(
    net, {**variables, "params": params}, made.mean, made.std
  )
  return net, folded, made.ranges
