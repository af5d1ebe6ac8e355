"""What is assumed of a PULP cluster, within which range, and by whom.

Every constant that nobody measured on the hardware that is simulated has a
range here, with its source in docs/facts/pulp.md. `draws` gives targets within
all ranges at once, for `many.latency_tables`. An assumption is written for one
draw, in `jax.numpy`, so that it may be mapped and derived; constants that go
together are one assumption.

A range goes from what one source says to what another does. Where the target
takes one of the two, it stands at an end of the range, and draws differ from it
in one direction (`Assumption.end`).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hwsim.latency_table import BITS
from hwsim.pulp import coefficients
from hwsim.pulp.coefficients import CONV_COLUMNS, DEPTHWISE_COLUMNS
from hwsim.pulp.geometry import Number
from hwsim.pulp.target import Constants, Target

# Columns that count things, not cycles
_COUNTS = ("k_per_iter", "pointwise_patches", "channels_per_group")
_PAIRS = len(BITS) ** 2  # of input and weight bits


class Assumption(NamedTuple):
  """One thing that is assumed, or several that go together.

  Attributes:
    name: name of a field of `Target`, or of what is assumed.
    center: value of the target itself, within the range.
    low, high: ends of the range, in which every value is as likely.
    source: where the range comes from.
    apply: (constants, value) -> constants with that value; a value is a number,
      or an array [9] where every pair of input and weight bits has its own.
    step: what drawn values are a multiple of; 0 for none.
    size: how many values are drawn, independently.
  """

  name: str
  center: float
  low: float
  high: float
  source: str
  apply: Callable[[Any, Any], Any]
  step: float = 0.0
  size: int = 1

  @property
  def end(self) -> str:
    """The end of the range that the target stands at: "low", "high" or ""."""
    if self.center == self.low:
      return "low"
    return "high" if self.center == self.high else ""

  @property
  def has_slope(self) -> bool:
    """Whether cycles have a derivative: memories only decide how to cut."""
    return not self.name.endswith("_bytes")


def assumptions(target: Target) -> tuple[Assumption, ...]:
  """All that is assumed of a target whose kernels are timed as on GVSOC.

  A value of the target outside of a range widens the range to it.

  Raises:
    ValueError: kernels are timed otherwise: their doubts were not measured.
  """
  if target.timing != "gvsoc":
    raise ValueError(
      f"target {target.name!r} times kernels by {target.timing!r}, expected "
      "'gvsoc': ranges are told of what that simulator showed"
    )
  fields = [_field(target, *row) for row in _FIELDS]
  return (*fields, _software(), *_kernels(target))


# Field, low, high, step, source
_FIELDS = (
  (
    *("code_reserved_bytes", 120_000, 160_000, 1_000),
    "code of MobileNetV1 and V2 in dory_examples (1.1)",
  ),
  (
    *("dma_command_cycles", 2.5, 12, 0.25),
    "2.5 measured on GVSOC; 12 in MATCH's model of GAP9 (correction 2, 3)",
  ),
  (
    *("l3_bytes_per_cycle", 0.5, 0.65, 0),
    "50 MB/s in GVSOC's HyperRAM; 65 MB/s on GAP8 (3)",
  ),
  (
    *("l3_setup_cycles", 750, 3_000, 1),
    "1,500 inferred; halved and doubled (3)",
  ),
)


def _field(target, name, low, high, step, source) -> Assumption:
  own = float(getattr(target, name))

  def apply(constants, value):
    if name == "code_reserved_bytes":
      return constants._replace(l2_budget_bytes=target.l2_bytes - value)
    return constants._replace(**{name: value})

  return Assumption(
    name, own, min(low, own), max(high, own), source, apply, step
  )


def _software() -> Assumption:
  names = ("tile_cycles", "channel_tile_cycles", "layer_start_cycles")

  def apply(constants, factor):
    scaled = {name: getattr(constants, name) * factor for name in names}
    return constants._replace(**scaled)

  return Assumption(
    "software, times",
    *(1.0, 0.95, 1.03),
    "389 cycles a tile measured with clang; 370 in MATCH's model, 400 assumed "
    "before (correction 3, 3)",
    apply,
  )


# ---- Kernels


def _kernels(target: Target) -> list[Assumption]:
  """What is assumed of kernels, in the order in which it is applied.

  Stalls first, which are added; then factors of all that kernels take.
  """
  libraries = target.conv_library, target.other_library
  iss, core, gvsoc = (
    coefficients.load(*libraries, timing) for timing in coefficients.TIMINGS
  )
  found = [_cache(core, gvsoc)]
  if target.conv_library == "XpulpV2":
    found.append(_compiler())
  if target.conv_library == "XpulpNN-mixed":
    found.append(
      _stalls(
        "stalls of XpulpNN-mixed, share",
        *("conv", (1.0, 0.0, 1.0), iss),
        "cannot run on GVSOC: from none to those of XpulpNN (head of the "
        "corrections)",
      )
    )
  if target.other_library == "XpulpNN":
    found.append(
      _stalls(
        "stalls of XpulpNN's depthwise, times",
        *("depthwise", (1.0, 0.0, 2.0), iss),
        "ran with rounded strides; XpulpV2's are taken: none to twice them",
      )
    )
  found.append(
    _scaled(
      "depthwise at 8/8, times",
      *("depthwise", (1.0, 1.0, 1.2)),
      "a fifth slower on GVSOC than the closed form and GAP8 (head of the "
      "corrections)",
      only=(2, 2),
    )
  )
  for kind, part, error in (
    ("convolution", "conv", 0.02),
    ("depthwise", "depthwise", 0.04),
    ("linear", "linear", 0.05),
  ):
    found.append(
      _scaled(
        f"error of {kind} at each precision, times",
        *(part, (1.0, 1 - error, 1 + error)),
        "mean error of the closed form against layers on GVSOC "
        "(hwsim/pulp/README.md); every input and weight precision by itself",
      )
    )
  found += _additions()
  found.append(
    Assumption(
      "pools, times",
      *(1.0, 0.5, 2.0),
      "instructions counted, not run (kernels.json)",
      _pools,
    )
  )
  return found


def _cache(core, gvsoc) -> Assumption:
  stalls = jax.tree.map(np.subtract, gvsoc, core)

  def apply(constants, factor):
    kernels = jax.tree.map(
      lambda now, stall: now + (factor - 1) * stall, constants.kernels, stalls
    )
    return constants._replace(kernels=kernels)

  return Assumption(
    "stalls of the instruction cache, times",
    *(1.0, 0.8, 1.2),
    "15 to 23 cycles an iteration, by kernel (correction 4)",
    apply,
  )


def _compiler() -> Assumption:
  column = CONV_COLUMNS.index("inner_iter")

  def apply(constants, cycles):
    conv = jnp.asarray(constants.kernels.conv).at[:, 0, :, column].add(-cycles)
    return constants._replace(kernels=constants.kernels._replace(conv=conv))

  return Assumption(
    "clang's part of an iteration at 2-bit weights, cycles less",
    *(0.0, 0.0, 14.0),
    "instructions that clang adds and PULP's GCC would not (correction 4, "
    "hwsim/pulp/README.md)",
    apply,
    0.25,
  )


def _stalls(name, part, ends, iss, source) -> Assumption:
  counted = getattr(iss, part)

  def apply(constants, share):
    now = counted + share * (getattr(constants.kernels, part) - counted)
    kernels = constants.kernels._replace(**{part: now})
    return constants._replace(kernels=kernels)

  center, low, high = ends
  return Assumption(name, center, low, high, source, apply)


def _scaled(name, part, ends, source, only=None) -> Assumption:
  """All cycles of one kind of kernel times a factor: of each precision its own,
  or of one (input, weight) pair alone."""
  columns = {"conv": CONV_COLUMNS, "depthwise": DEPTHWISE_COLUMNS}.get(part, ())
  is_cycles = np.array([c not in _COUNTS for c in columns] or [True])

  def apply(constants, factors):
    table = getattr(constants.kernels, part)
    if only is None:
      by_pair = jnp.reshape(factors, (3, 3))
    else:
      by_pair = jnp.ones((3, 3)).at[only].set(factors)
    shape = (3, 3, *[1] * (table.ndim - 2))
    scale = jnp.where(is_cycles, jnp.reshape(by_pair, shape), 1.0)
    kernels = constants.kernels._replace(**{part: table * scale})
    return constants._replace(kernels=kernels)

  size = _PAIRS if only is None else 1
  center, low, high = ends
  return Assumption(name, center, low, high, source, apply, size=size)


def _additions() -> list[Assumption]:
  def times(constants, factor):
    kernels = constants.kernels
    return constants._replace(
      kernels=kernels._replace(add=kernels.add * factor)
    )

  def narrower(constants, cycles):
    below_8, of_element = slice(0, BITS.index(8)), 0
    add = jnp.asarray(constants.kernels.add)
    add = add.at[:, below_8, of_element].add(cycles)
    return constants._replace(kernels=constants.kernels._replace(add=add))

  return [
    Assumption(
      "additions, times",
      *(1.0, 1.0, 1.1),
      "instructions run on ISS, not on GVSOC, on which kernels whose loops fit "
      "the cache take 4 to 10 % more than on ISS (correction 5)",
      times,
    ),
    Assumption(
      "additions to less than 8 bits, cycles more an element",
      *(0.0, 0.0, 4.0),
      "only outputs of 8 bits were run (2.4); a convolution's output takes 1.5 "
      "to 3.9 more at 2 and 4 bits (2.1)",
      narrower,
      0.25,
    ),
  ]


def _pools(constants, factor):
  kernels = constants.kernels
  return constants._replace(
    kernels=kernels._replace(
      pool=kernels.pool * factor,
      max_compare_word=kernels.max_compare_word * factor,
    )
  )


# ---- Targets within the ranges


def with_values(
  target: Target, values: Mapping[str, Number], rounded: bool = True
) -> Constants:
  """The constants of a target where assumptions have some values.

  Args:
    target: the target.
    values: by name; assumptions left out keep the target's.
    rounded: coefficients of kernels in whole hundredths and software in whole
      cycles, so that sums are exact; else there are derivatives.
  """
  constants = target.constants
  for each in assumptions(target):
    if each.name in values:
      constants = each.apply(constants, values[each.name])
  return _rounded(constants) if rounded else constants


def _rounded(constants):
  hundredths = jax.tree.map(
    lambda part: jnp.rint(100 * part) / 100, constants.kernels
  )
  names = ("tile_cycles", "channel_tile_cycles", "layer_start_cycles")
  whole = {name: jnp.rint(getattr(constants, name)) for name in names}
  return constants._replace(kernels=hundredths, **whole)


def draws(
  target: Target, count: int, seed: int = 0
) -> tuple[Constants, dict[str, np.ndarray]]:
  """Constants of `count` draws, each with a first axis, and what was drawn.

  Args:
    target: the target, whose own values are not among the draws.
    count: how many draws.
    seed: of the random numbers.

  Returns:
    (constants, {name: [count] or [count, 9]}).
  """
  values = drawn(assumptions(target), count, seed)
  return stacked(target, values), values


def drawn(
  found: Sequence[Assumption], count: int, seed: int
) -> dict[str, np.ndarray]:
  """{name: `count` values [count] or [count, size] within its range}."""
  random = np.random.default_rng(seed)
  values = {}
  for each in found:
    shape = (count,) if each.size == 1 else (count, each.size)
    own = random.uniform(each.low, each.high, shape)
    values[each.name] = (
      np.round(own / each.step) * each.step if each.step else own
    )
  return values


def ends_of(found: Sequence[Assumption]) -> dict[str, np.ndarray]:
  """{name: [2] or [2, size], the low and the high end of its range}."""
  pairs = [(each, np.array([each.low, each.high])) for each in found]
  return {
    each.name: pair if each.size == 1 else np.tile(pair[:, None], each.size)
    for each, pair in pairs
  }


def ends(target: Target) -> dict[str, Constants]:
  """{name: constants [2] at the low and the high end of that range alone}.

  Where every precision has a value of its own all are at the same end.
  """
  return {
    name: stacked(target, {name: values})
    for name, values in ends_of(assumptions(target)).items()
  }


def stacked(target: Target, values: Mapping[str, np.ndarray]) -> Constants:
  """Constants with a first axis [H] from values that have one."""
  with jax.enable_x64(True):
    made = jax.vmap(functools.partial(with_values, target))(dict(values))
    count = len(next(iter(values.values())))
    return jax.tree.map(
      lambda part: np.broadcast_to(part, (count, *part.shape[1:])),
      jax.device_get(made),
    )
