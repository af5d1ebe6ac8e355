"""What is assumed of GAP9 with NE16, within which range, and by whom.

As `hwsim.pulp.doubt`: every constant that nobody measured on the hardware has a
range, with its source in docs/facts/ne16.md. Silicon's totals (section 5) bound
nothing here; they are shown beside.
"""

import numpy as np

from hwsim.assumption import Assumption, drawn, ends_of
from hwsim.ne16.kernels import MODES
from hwsim.ne16.many import joined
from hwsim.ne16.target import Constants, Target

# Field, low, high, step, source; the cores have the same
_FIELDS = (
  (
    *("dma_command_cycles", 3, 370, 1),
    "12 as on PULP; there 2.5 were measured on GVSOC (docs/facts/pulp.md, "
    "correction 2); MATCH's GAP9 has 550 + 370 a transfer (3): 370 with each, "
    "550 with the tile",
  ),
  (
    *("tile_cycles", 389, 550, 1),
    "400 as on PULP, where 389 were measured; MATCH's 550 (3)",
  ),
  (
    *("layer_start_cycles", 500, 2_000, 1),
    "1,000 as on PULP (1,009 measured there); halved and doubled",
  ),
  (
    *("l3_bytes_per_cycle", 0.25, 1.0, 0),
    "0.5 as on PULP boards; GAP9's L3 is another: halved and doubled",
  ),
  (
    *("l3_setup_cycles", 750, 3_000, 1),
    "1,500 as on PULP boards: halved and doubled",
  ),
)


def assumptions(target: Target) -> tuple[Assumption, ...]:
  """All that is assumed of a target whose jobs are timed as in GVSOC.

  A value of the target outside of a range widens the range to it.

  Raises:
    ValueError: the target's engine is the analytic one, an end of what is
      assumed of the other.
  """
  if target.engine != "state machine":
    raise ValueError(
      f"target {target.name!r} times jobs by the {target.engine!r} engine, "
      "expected 'state machine': ranges are told of what GVSOC showed"
    )
  return (
    *(_field(target, *row) for row in _FIELDS),
    *_memories(target),
    *_own(),
  )


def _field(target, name, low, high, step, source) -> Assumption:
  own = float(getattr(target, name))

  def apply(constants, value):
    value = value if not step else np.rint(value).astype(np.int64)
    cores = constants.cores._replace(**{name: np.asarray(value, np.float64)})
    return constants._replace(**{name: value, "cores": cores})

  return Assumption(
    name, own, min(low, own), max(high, own), source, apply, step
  )


def _memories(target) -> list[Assumption]:
  """L1 and L2 that are left to tensors."""

  def of(name, low, high, source):
    own = float(getattr(target, name))

    def apply(constants, value):
      value = np.rint(value).astype(np.int64)
      cores = constants.cores._replace(**{name: value.astype(np.float64)})
      return constants._replace(**{name: value, "cores": cores})

    low, high = min(low, own), max(high, own)
    return Assumption(name, own, low, high, source, apply, 4)

  by_others = target.l2_bytes - 160_000
  l1_by_match = max(target.l1_bytes - 38_000, target.l1_bytes // 2)
  return [
    of(
      "l1_budget_bytes",
      *(l1_by_match, max(target.l1_bytes - 8_192, l1_by_match)),
      "of 128 kB MATCH leaves 90, DORY 92.7, GreenWaves 115,712 and 119,808 "
      "bytes with smaller stacks (3); half at the least",
    ),
    of(
      "l2_budget_bytes",
      *(by_others, target.l2_bytes - 92_000),
      "code of 92 kB by MATCH (1,408 kB left), 100 by GreenWaves (3), 160 by "
      "DORY's applications (docs/facts/pulp.md 1.1)",
    ),
  ]


def _own() -> list[Assumption]:
  """What is assumed of NE16's jobs, of the cores and of the software."""

  linear = MODES.index("linear")

  def jobs(constants, factors):
    factors = np.insert(np.reshape(factors, (-1, len(MODES) - 1)), linear, 1, 1)
    return constants._replace(job_times=constants.job_times * factors)

  def linear_jobs(constants, factors):
    times = np.ones((np.size(factors), len(MODES)))
    times[:, linear] = factors
    return constants._replace(job_times=constants.job_times * times)

  def of(name):
    def apply(constants, value):
      return constants._replace(**{name: np.asarray(value, np.float64)})

    return apply

  def setup(constants, value):
    return constants._replace(job_setup_cycles=np.rint(value).astype(np.int64))

  return [
    Assumption(
      "job_setup_cycles",
      *(84.0, 84.0, 468.0),
      "24 registers: under 84 with constants, 468 with values in L2 (2.2)",
      setup,
      1,
    ),
    Assumption(
      "jobs of each mode, times",
      *(1.0, 1.0, 1.26),
      "GVSOC's state machine, without conflicts in L1; the formula of DORY, "
      "PLiNIO and MATCH is 5 to 26 % above it (2.3); 3x3, depthwise and 1x1 "
      "each by itself",
      jobs,
      size=len(MODES) - 1,
    ),
    Assumption(
      "jobs of linear layers, times",
      *(1.0, 1.0, 3.5),
      "GVSOC's state machine; the formula has 3.5 times as many cycles at 8 "
      "bits (2.3)",
      linear_jobs,
    ),
    Assumption(
      "jobs at stride 2, times",
      *(1.0, 0.5, 1.0),
      "a whole 3x3 pass for 2x2 outputs in GVSOC and pulp-nnx; how GreenWaves "
      "maps them is not published, and the formula has up to half (2.3, 6)",
      of("stride_2_times"),
    ),
    Assumption(
      "what the cores run, times",
      *(1.0, 0.5, 1.1),
      "pulp-nn's kernels for XpulpV2, within a tenth of GVSOC; GreenWaves' are "
      "not published: down to half [INFER] (5)",
      of("cores_times"),
    ),
    Assumption(
      "input and output kept in L1, share",
      *(0.0, 0.0, 1.0),
      "every layer starts and ends in L2; GreenWaves' compiler keeps some "
      "activations in L1 (graph_l1_promotion, 5): of layers that are one tile "
      "none to all",
      of("kept_share"),
    ),
  ]


# ---- Targets within the ranges


def draws(
  target: Target, count: int, seed: int = 0
) -> tuple[Constants, dict[str, np.ndarray]]:
  """(constants [count], {name: [count] or [count, 3]}), as of PULP clusters."""
  values = drawn(assumptions(target), count, seed)
  return stacked(target, values), values


def ends(target: Target) -> dict[str, Constants]:
  """{name: constants [2] at the low and the high end of that range alone}.

  Where every mode has a value of its own all are at the same end.
  """
  return {
    name: stacked(target, {name: values})
    for name, values in ends_of(assumptions(target)).items()
  }


def stacked(target: Target, values: dict[str, np.ndarray]) -> Constants:
  """Constants with a first axis [H] from values that have one."""
  count = len(next(iter(values.values())))
  constants = joined([target.constants] * count)
  for each in assumptions(target):
    if each.name in values:
      constants = each.apply(constants, values[each.name])
  return constants
