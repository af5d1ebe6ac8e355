"""What a ladder of bit-widths can be set to, and its checks."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field

from fbq.config import (
  Check,
  ConfigError,
  Count,
  Seed,
  Settings,
  require,
)
from fbq.data import DataError, inputs, photographs
from fbq.experiments.ladder.methods import METHODS
from fbq.lab import imported, pretrained
from fbq.lab.lab import Lab
from fbq.lab.settings import FloatNet
from fbq.nets.graph import Net
from fbq.search import exact, problem, value
from hwsim.targets import Target, get_target, ladder_of, latency_table

Bits = Annotated[int, Field(ge=2, le=8)]
Shares = Annotated[
  tuple[Annotated[float, Field(gt=0, le=1)], ...],
  Check(
    lambda shares: len({f"{s:.1%}" for s in shares}) == len(shares),
    "shares of what 8 bits cost, above 0 to 1, each once",
  ),
]


def _widths(bits) -> bool:
  return bool(bits) and len(set(bits)) == len(bits) and 8 in bits


class InputSettings(Settings):
  """Where the inputs are, and which are for what."""

  path: str = photographs.PACKAGED
  "Folder or file of inputs, see fbq/data/inputs.py; 'photographs': those of \
  scikit-image and scikit-learn."
  crops: int = Field(0, ge=0, le=10_000)
  "Random crops of every photograph; 0: the inputs as they are."
  calibration_share: float = Field(0.5, gt=0, lt=1)
  "Share of the inputs, or of the photographs, to calibrate by: ranges, \
  roundings, biases and sensitivities; the others are held back."
  calibration: Count = 128
  "Inputs to calibrate by, at most."
  correction: Count = 64
  "Of these, the ones that biases and roundings are found by."
  sensitivity: Count = 64
  "Of these, the ones that tensors are tried on."
  batch: Count = 32
  "Inputs at a time."


class Choice(Settings):
  """Precisions chosen exactly for a target, under budgets."""

  target: str = "gap9_ne16"
  "One of the targets."
  cost: Literal["weight_bytes", "cycles"] = "weight_bytes"
  "What is limited."
  shares: Shares = (1 / 2, 1 / 3, 1 / 4)
  "Budgets, as shares of what 8 bits cost."


class Published(Settings):
  """A row of numbers that somebody published."""

  name: str = ""
  "Whose they are."
  accuracy: dict[str, float] = {}
  "Accuracy in percent by bits of the weights."


class Ladder(FloatNet):
  """A float network at every bit-width, without training."""

  experiment: str
  "Experiment: a short name, or 'package.module:attribute'."
  inputs: InputSettings = InputSettings()
  "Inputs, with labels or without."
  seed: Seed = 0
  "Seed of crops and of what is held back."
  weight_bits: Annotated[
    tuple[Bits, ...], Check(_widths, "different bits, 2 to 8, 8 among them")
  ] = (8, 7, 6, 5, 4, 3, 2)
  "Bits of weights that are tried."
  activation_bits: Bits = 8
  "Bits of the activations whose precision is free."
  methods: Annotated[
    tuple[str, ...],
    Check(
      lambda m: bool(m) and len(set(m)) == len(m) and {*m} <= {*METHODS},
      f"some of {tuple(METHODS)}, each once",
    ),
  ] = tuple(METHODS)
  "How weights are quantized."
  mixed_by: str = "least_squares"
  "Method of the mixed precisions, one of methods."
  rounding_steps: int = Field(1000, ge=0, le=10**6)
  "Steps of AdaRound for each layer, of all its precisions at once; 0 for \
  coordinate descent alone."
  targets: dict[str, dict[str, int | float | str]] = {"gap9_ne16": {}}
  "Hardware that all is costed on, by name, with the fields that differ."
  choices: tuple[Choice, ...] = (Choice(),)
  "What is chosen exactly."
  try_activations: bool = False
  "Whether activations are tried alone at fewer bits, and chosen where the \
  target has them."
  block_bits: tuple[Bits, ...] = ()
  "Bits X of block formats to try on every tensor; (): none."
  block_sizes: tuple[Count, ...] = (16,)
  "Their block sizes."
  published: tuple[Published, ...] = ()
  "Rows beside the table."


class Split(NamedTuple):
  """Images in [0, 1] and what is known of them.

  Attributes:
    images: float32 [N, H, W, C].
    labels: int32 [N], or None.
    source: int [N], the photograph or input that each is of.
  """

  images: np.ndarray
  labels: np.ndarray | None
  source: np.ndarray


def check(settings: Ladder, lab: Lab) -> None:
  """Raises ConfigError for what cannot work; computes nothing long."""
  require(
    settings.mixed_by in settings.methods,
    "mixed_by",
    settings.mixed_by,
    f"one of methods, {settings.methods}",
  )
  net = lab.net
  variables_of(settings, net)  # the checkpoint must fit
  for choice in settings.choices:
    known = tuple(settings.targets)
    require(choice.target in known, "choices", choice, f"targets of {known}")
  for name, target in targets_of(settings).items():
    try:
      latency_table(net.workload, target)
    except ValueError as error:
      raise ConfigError(f"config.targets[{name!r}]: {error}") from error

  # Whether budgets can be met does not depend on what is measured
  eight, tried = eight_bits(settings, net), tried_bits(settings, net)
  nothing = {site: dict.fromkeys((*b, 8), 0.0) for site, b in tried.items()}
  for choice in settings.choices:
    target = targets_of(settings)[choice.target]
    free = problem_of(net, target, eight, nothing)
    try:
      exact.best_value(free, budgets_of(choice, free, eight), choice.cost)
    except problem.Infeasible as error:
      raise ConfigError(
        f"config.choices, {choice.target}, shares {choice.shares}: {error}"
      ) from error

  splits = splits_of(settings, net)
  for name in ("correction", "sensitivity"):
    count = getattr(settings.inputs, name)
    most = len(splits[0].images)
    require(count <= most, f"inputs.{name}", count, f"1 to {most}, those of "
            "calibration")  # fmt: skip


def variables_of(settings: Ladder, net: Net):
  """Variables of the float network, which read images in [0, 1]."""
  require(
    bool(settings.float_checkpoint),
    "float_checkpoint",
    settings.float_checkpoint,
    "a file of weights: nothing is trained here",
  )
  return pretrained.load(settings, net)


def problem_of(
  net: Net,
  target: Target,
  eight: Mapping[str, int],
  harm: Mapping[str, Mapping[int, float]],
) -> problem.Problem:
  """The choice of bits on a target: all that were tried and that it has.

  Args:
    net: the network.
    target: its precisions and cycles count.
    eight: bits of every site in the network of 8-bit weights.
    harm: {site: {bits: lower is better}} of the sites that are free to choose.
  """
  rungs = ladder_of(target)
  allowed = {
    site: _along(harm[site], rungs.of(site))
    if site in harm
    else {eight[site]: 0.0}
    for site in net.workload.free_sites
  }
  bounds = [
    (re.escape(site), min(by_bits), max(by_bits))
    for site, by_bits in allowed.items()
  ]
  return problem.make(
    net.workload,
    {"cycles": latency_table(net.workload, target).cycles},
    value.from_harm(net, allowed),
    bounds=bounds,
    ladder=rungs,
  )


def _along(harm: Mapping[int, float], rungs) -> dict[int, float]:
  """Harm at every rung; what was not tried counts as the next fewer bits."""
  least = min(harm)
  return {
    b: harm[max(tried for tried in harm if tried <= b)]
    for b in rungs
    if b >= least
  }


def budgets_of(
  choice: Choice, found: problem.Problem, eight: Mapping[str, int]
) -> list[int]:
  """The most of its cost, for every share of a choice."""
  most = int(problem.evaluate(found, eight).costs[choice.cost][0])
  return [int(share * most) for share in choice.shares]


def eight_bits(settings: Ladder, net: Net) -> dict[str, int]:
  """Bits of every site where all weights have 8."""
  free = {
    site: 8 if site.endswith(".weight") else settings.activation_bits
    for site in net.workload.free_sites
  }
  return {**free, **net.fixed_bits}


def tried_bits(settings: Ladder, net: Net) -> dict[str, tuple[int, ...]]:
  """{site: bits that it is tried at alone}, without the 8 that it has."""
  weights = tuple(sorted({*settings.weight_bits} - {8}))
  eight = eight_bits(settings, net)
  return {
    site: weights if site.endswith(".weight") else (2, 4)
    for site in net.workload.free_sites
    if site.endswith(".weight")
    or (settings.try_activations and eight[site] == 8)
  }


def targets_of(settings: Ladder) -> dict[str, Target]:
  """Targets by name, or ConfigError."""
  try:
    return {
      name: get_target(name, overrides)
      for name, overrides in settings.targets.items()
    }
  except ValueError as error:
    raise ConfigError(f"config.targets: {error}") from error


def splits_of(settings: Ladder, net: Net) -> tuple[Split, Split]:
  """(to calibrate by, held back), of different photographs."""
  given, file = settings.inputs, settings.float_checkpoint
  codes = imported.read(file).codes if imported.is_file(file) else None
  try:
    if given.crops:
      found = photographs.crops(
        given.path, net.input_shape, given.crops, settings.seed
      )
    else:
      found = inputs.read(given.path, net.input_shape, codes=codes)
    parts = photographs.split(
      found.names, given.calibration_share, settings.seed
    )
  except DataError as error:
    raise ConfigError(f"config.inputs: {error}") from error

  # The same images, whatever they are read from: 0 is black, 1 is white
  require(
    found.kind != "numbers",
    "inputs.path",
    given.path,
    "pictures, or integers as the network's file reads them",
  )
  low, high = codes if found.kind == "codes" and codes else (0, 255)
  images = (found.x.astype(np.float32) - low) / np.float32(high - low)
  source = photographs.sources(found.names)
  random = np.random.default_rng(settings.seed)
  first = np.sort(random.permutation(parts[0])[: given.calibration])

  def part(which):
    labels = None if found.labels is None else found.labels[which]
    return Split(images[which], labels, source[which])

  return part(first), part(parts[1])
