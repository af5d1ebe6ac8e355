"""A network on ranges of targets, and on one within all that is assumed of it.

Every design is costed by one compiled program; for each the exact best
assignment and the exact front of a proxy of accuracy over cycles are found.
Then the target itself is drawn within the ranges of its assumptions.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence

import numpy as np

from fbq import precision
from fbq.experiments.design_space import config
from fbq.experiments.design_space.config import DesignSpace
from fbq.experiments.design_space.doubts import doubt_of
from fbq.experiments.design_space.results import Design, Front, Space, named
from fbq.files import write_atomically
from fbq.lab.lab import Lab
from fbq.search import exact, pareto_sets, problem
from fbq.search.problem import Candidates, Problem
from hwsim.targets import Target, family, ladder_of

_CHUNK = 128  # designs between two files
_PROXY = "the sum over all tensors of 4^-bits, the power of their rounding"


def run(settings: DesignSpace, lab: Lab) -> Space:
  """Every design with what is best on it, and what is in doubt."""
  workload = lab.net.workload
  target = config.target_of(settings)
  values = config.values_of(settings, lab)
  solver = _Solver(settings, lab, values)

  # ---- The target itself
  with lab.clock.measure("target"):
    own, front = solver.best((), target)
    fronts = [_front(target.name, front)]

  # ---- All designs, a chunk at a time, each kept in a file
  given = list(config.designs(settings)) if settings.fields else []
  found: list[Design] = []
  with lab.clock.measure("designs"):
    for start in range(0, len(given), _CHUNK):
      found += _chunk(solver, lab, start, given[start : start + _CHUNK])
      lab.log.say(f"{len(found):,} of {len(given):,} designs")

  # ---- What is assumed of the target
  doubt = None
  if settings.draws:
    with lab.clock.measure("draws"):
      doubt = doubt_of(settings, lab, target, own.bits)

  # ---- A few fronts: the target's, and those of the ends
  space = Space(
    network=lab.net.name,
    target=target.name,
    fields=dict(settings.fields),
    least_bits=settings.least_bits,
    proxy=_PROXY
    if not settings.sensitivities
    else f"the sum of harms ({settings.measure}) of {settings.sensitivities}",
    levels=solver.levels,
    sites=tuple(workload.free_sites),
    own=own,
    designs=tuple(found),
    fronts=(),
    doubt=doubt,
  )
  by_values = dict(given)
  for design in _ends(space.running):
    _, front = solver.best(design.values, by_values[design.values])
    fronts.append(_front(named(space, design), front))
  return dataclasses.replace(space, fronts=tuple(fronts))


class _Solver:
  """What is best on a target, exactly.

  Attributes:
    levels: harms of the uniform networks.
  """

  def __init__(self, settings: DesignSpace, lab: Lab, values):
    self._workload, self._values = lab.net.workload, values
    self._own_outputs = settings.output_bits == "reader"
    target = config.target_of(settings)
    self._many, self._ladder = family(target).many, ladder_of(target)
    start = precision.uniform(lab.net, settings.least_bits)
    self._start = self._ladder.at_least(start)
    uniform = config.uniforms(lab.net, self._ladder)
    self._eight = uniform["8/8"]
    empty = problem.make(self._workload, {}, values, ladder=self._ladder)
    self.levels = {
      name: -float(problem.evaluate(empty, bits).value[0])
      for name, bits in uniform.items()
    }

  def problem_of(self, cycles: np.ndarray) -> Problem:
    """The choice of all precisions from cycles [L, A, W, O]."""
    table = cycles if self._own_outputs else cycles[..., -1]
    return problem.make(
      self._workload, {"cycles": table}, self._values, ladder=self._ladder
    )

  def best(self, values, target: Target) -> tuple[Design, Candidates]:
    """A design and its front."""
    tables = self._tables([target])
    return self._solved(values, tables.cycles[0])

  def solved(self, designs: Sequence[tuple]) -> Iterator[Design]:
    """Designs costed together, each with what is best on it."""
    tables = self._tables([target for _, target in designs])
    fits = tables.fits if self._own_outputs else tables.fits_at_8
    for (values, _), cycles, good in zip(
      designs, tables.cycles, np.all(fits, axis=1).tolist(), strict=True
    ):
      yield self._solved(values, cycles)[0] if good else Design(values)

  def _tables(self, targets):
    constants = self._many.stack(targets)
    return self._many.latency_tables(self._workload, constants)

  def _solved(self, values, cycles):
    choice = self.problem_of(cycles)
    bits, _ = exact.least_latency(choice, self._start)

    def total(assignment):
      return int(problem.evaluate(choice, assignment).costs["cycles"][0])

    # Ascending cycles, and worth: the first that is worth a level is its least
    eight = total(self._eight)
    try:
      front = exact.front(choice)
    except pareto_sets.TooMany:  # within 0.2 % of what 8 bits take
      front = exact.front(choice, eight // 500)
    reach: list[int | None] = []
    for harm in self.levels.values():
      good = np.flatnonzero(-front.value <= harm * (1 + 1e-9))
      reach.append(int(front.costs["cycles"][good[0]]) if len(good) else None)
    design = Design(
      tuple(values),
      eight,
      total(bits),
      tuple(bits[site] for site in self._workload.free_sites),
      tuple(reach),
    )
    return design, front


def _chunk(solver, lab: Lab, start: int, designs) -> list[Design]:
  """Designs of a chunk, from its file if there is one."""
  path = lab.workdir / "designs" / f"{start:05}.json"
  if not path.exists():
    path.parent.mkdir(exist_ok=True)
    rows = [design._asdict() for design in solver.solved(designs)]
    write_atomically(path, json.dumps(rows) + "\n")
  rows = json.loads(path.read_text())
  return [_design(row) for row in rows]


def _design(row) -> Design:
  """A design as it was before JSON."""
  values, eight, best, bits, reach = (row[name] for name in Design._fields)
  return Design(tuple(values), eight, best, tuple(bits), tuple(reach))


def _ends(running: Sequence[Design]) -> list[Design]:
  """The fastest design, the one in the middle and the slowest."""
  places = dict.fromkeys([0, len(running) // 2, len(running) - 1])
  return [running[i] for i in places] if running else []


def _front(name: str, front: Candidates) -> Front:
  return Front(
    name,
    tuple(front.costs["cycles"].tolist()),
    tuple((0.0 - front.value).tolist()),
  )
