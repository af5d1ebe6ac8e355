"""What a BitQ run can be set to, and its checks before any training."""

import functools
from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field

from fbq.config import (
  Check,
  ConfigError,
  NotNegative,
  Settings,
  brought,
  require,
)
from fbq.lab.lab import Lab
from fbq.lab.settings import Distilled, Seeds, Stage, Training
from fbq.quantizers import microscaling
from fbq.schemes import published_formats
from hwsim import mx
from hwsim.bfp import BlockFormat, MovementTable, bitq_format, movement_table
from hwsim.bfp.formats import BLOCK_SIZES, SHARED_EXPONENT_BITS
from hwsim.workload import Workload


def _different(most: int, text: str, fits=lambda value: True) -> Check:
  """Check of a tuple: one to `most` different values, each of which fits."""
  return Check(
    lambda given: (
      1 <= len(given) <= most
      and len(set(given)) == len(given)
      and all(map(fits, given))
    ),
    f"different {text}, {most} at most",
  )


class Word(Settings):
  """Formats of a word length: every pair <SE, BS>, or every element."""

  bits: int = Field(ge=3, le=26)
  "Bits of an element and its shared exponent together, q_b of eq. 6; with \
  elements, those of the widest."
  exponent_bits: Annotated[
    tuple[int, ...],
    _different(8, "whole numbers, 1 to 8", lambda bits: 1 <= bits <= 8),
  ]
  "Widths SE of a shared exponent."
  block_sizes: Annotated[
    tuple[int, ...],
    _different(
      12, "whole numbers, 1 to 65,536", lambda size: 1 <= size <= 1 << 16
    ),
  ]
  "Elements BS that share one."
  elements: Annotated[
    tuple[str, ...],
    Check(
      lambda names: (
        len(set(names)) == len(names)
        and set(names) <= set(microscaling.ELEMENTS)
      ),
      f"different ones of {', '.join(microscaling.ELEMENTS)}",
    ),
  ] = ()
  "Elements of OCP MX to choose from, in blocks of the one size given and with \
  scales of 8 bits; (): block floating point."

  @pydantic.model_validator(mode="after")
  def _has_one_size(self) -> Self:
    scale = (microscaling.SCALE_BITS,)
    if self.elements and (self.exponent_bits, len(self.block_sizes)) != (
      scale,
      1,
    ):
      raise ValueError(
        f"exponent_bits {scale} and a single block size where there are "
        "elements: they have scales of 8 bits"
      )
    return self

  @property
  def grid(self) -> tuple[BlockFormat, ...]:
    """All of the formats."""
    if self.elements:
      [size] = self.block_sizes
      presets = (microscaling.Format(e, size) for e in self.elements)
      return tuple(map(published_formats.priced, presets))
    pairs = ((se, bs) for se in self.exponent_bits for bs in self.block_sizes)
    return tuple(bitq_format(self.bits, *pair) for pair in pairs)


class LossPlan(Settings):
  """How the loss of every format of every tensor is told from a few."""

  noise_images: int = Field(32, ge=1, le=10**7)
  "Calibration images whose noise is computed in every format."
  measured_formats: int = Field(4, ge=2, le=1000)
  "Formats of each tensor that are measured; the others follow from noise."
  held_out: int = Field(48, ge=2, le=10**6)
  "Further (tensor, format) pairs, measured to check the predictions."
  assignments: int = Field(24, ge=2, le=10**6)
  "Random networks, measured to check sums over tensors."


class FormatTraining(Distilled, Stage):
  """Training at given formats, which have no ranges to learn."""


class BitQ(Training):
  """BitQ: losses of formats, exact choice, training, recommendation."""

  seeds: Seeds = (0,)
  "Seeds of everything that is drawn; the whole study is made for each."
  words: Annotated[
    dict[str, Word],
    Check(
      lambda words: words and all(name.isalnum() for name in words),
      "{name of letters and digits: {bits, exponent_bits, block_sizes}}",
    ),
  ] = {
    f"BitQ{bits}": Word(bits=bits, exponent_bits=se, block_sizes=BLOCK_SIZES)
    for bits, se in SHARED_EXPONENT_BITS.items()
  }
  "Formats to choose from, by word length; by default table 2 of the paper. \
  All words have elements, in blocks of one size, or none has."
  published: Annotated[
    tuple[str, ...],
    Check(
      lambda names: set(names) <= set(published_formats.NAMES),
      f"some of {', '.join(published_formats.NAMES)}",
    ),
  ] = published_formats.NAMES
  "Published formats that are trained beside."
  alphas: Annotated[
    tuple[NotNegative, ...], _different(26, "numbers, none negative")
  ] = (0.015, 0.05, 0.15, 0.2, 0.25, 1.5, 3.0)
  "Weights of data movement, or of cycles, in eq. 1; an optimum for each."
  cost: Literal["movement", "cycles"] = "movement"
  "What eq. 1 weighs beside the loss, as a share of what the widest formats \
  take: bits between memories; or cycles of `cycle_target`."
  cycle_target: str = "vmxdotp"
  "Cluster whose cycles count where cost is 'cycles': a short name, or \
  'package.module:attribute', see hwsim/mx/target.py."
  alpha: NotNegative = 0.2
  "The one of alphas for which a network is recommended."
  front_resolution: float = Field(0.01, ge=1e-6, lt=1)
  "Error of the predicted front, as a share of the largest movement."
  memory_bytes: int = Field(2048, ge=12, le=2**40)
  "SRAM in which tiles lie; 12 bytes hold three FP32 numbers."
  register_bytes: int = Field(512, ge=12, le=2**40)
  "Registers, likewise."
  calibration_images: int = Field(360, ge=1, le=10**7)
  "Training images on which losses and exponents are measured."
  losses: LossPlan = LossPlan()
  "Measurements of losses."
  qat: FormatTraining = FormatTraining()
  "Training of every network at its formats, from the float network."

  @pydantic.model_validator(mode="after")
  def _is_of_one_kind(self) -> Self:
    kinds = {
      word.block_sizes if word.elements else () for word in self.words.values()
    }
    require(
      len(kinds) < 2,
      "words",
      ", ".join(self.words),
      "elements in blocks of one size in all of them, or in none: they are "
      "trained by one program",
    )
    return self

  @property
  def scheme(self) -> str:
    """Name of what searched formats are trained in."""
    is_elements = any(word.elements for word in self.words.values())
    return published_formats.ELEMENTS if is_elements else published_formats.GRID

  @property
  def cluster(self) -> mx.Target | None:
    """Whose cycles count; None: none count."""
    if self.cost != "cycles":
      return None
    return brought("mx_target", self.cycle_target, "cycle_target")

  @property
  def shortest(self) -> str:
    """Name of the word of the fewest bits."""
    return min(self.words, key=lambda name: self.words[name].bits)


@functools.lru_cache(maxsize=8)
def cost_table(
  word: Word,
  workload: Workload,
  memory_bytes: int,
  cluster: mx.Target | None = None,
) -> MovementTable:
  """What every layer costs at every format of a word; seconds at first.

  Bits that it moves, or cycles of a cluster, see `mx.cycle_table`.
  """
  if cluster is not None:
    return mx.cycle_table(workload, word.grid, cluster)
  return movement_table(workload, word.grid, 8 * memory_bytes)


def check(settings: BitQ, lab: Lab) -> None:
  """Raises ConfigError for what cannot work; trains nothing."""
  batch, most = lab.task.batch, settings.calibration_images
  expected = f"a multiple of {batch}, the images evaluated at a time"
  require(most % batch == 0, "calibration_images", most, expected)
  images = settings.losses.noise_images
  expected = f"at most calibration_images, {most}"
  require(images <= most, "losses.noise_images", images, expected)
  alpha, alphas = settings.alpha, settings.alphas
  require(alpha in alphas, "alpha", alpha, f"one of alphas, {alphas}")
  name = settings.shortest
  word, cluster = settings.words[name], settings.cluster
  field = "elements" if word.elements else "exponent_bits"
  widths = getattr(word, field)
  expected = "two or more for the shortest word, to measure what noise costs"
  require(len(widths) >= 2, f"words.{name}.{field}", widths, expected)
  several: set[BlockFormat] = set()
  for name, word in settings.words.items():
    try:
      several.update(word.grid)
    except ValueError as error:
      raise ConfigError(f"config.words.{name}: {error}") from error
    _check_unit(name, word, cluster)
  measured = settings.losses.measured_formats
  expected = f"less than the {len(several)} formats of words: some are held out"
  require(
    measured < len(several), "losses.measured_formats", measured, expected
  )
  for name, word in settings.words.items():
    try:
      cost_table(word, lab.net.workload, settings.memory_bytes, cluster)
    except (ValueError, OverflowError) as error:
      raise ConfigError(f"config.words.{name}: {error}") from error


def _check_unit(name: str, word: Word, cluster: mx.Target | None) -> None:
  """Raises ConfigError where no format of a word would save cycles."""
  if cluster is None or any(mx.takes(f, cluster) for f in word.grid):
    return
  elements = ", ".join(element for element, _ in cluster.unit)
  raise ConfigError(
    f"config.cost is 'cycles', expected 'movement': the unit of {cluster.name} "
    f"multiplies {elements} in blocks of multiples of {cluster.granule}, none "
    f"of which words.{name} has; all would run in software. Or give words with "
    "elements"
  )
