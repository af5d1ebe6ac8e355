"""What is assumed of a PULP cluster's kernels: stalls, errors, what never ran.

Sources are sections of docs/facts/pulp.md, whose corrections stand at its end.
"""

import jax
import jax.numpy as jnp
import numpy as np

from hwsim.assumption import Assumption
from hwsim.latency_table import BITS
from hwsim.pulp import coefficients
from hwsim.pulp.coefficients import CONV_COLUMNS, DEPTHWISE_COLUMNS
from hwsim.pulp.target import Target

# Columns that count things, not cycles
_COUNTS = ("k_per_iter", "pointwise_patches", "channels_per_group")
_PAIRS = len(BITS) ** 2  # of input and weight bits


def of_kernels(target: Target) -> list[Assumption]:
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
