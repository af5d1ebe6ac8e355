"""The same optimum by mixed-integer linear programming (HiGHS).

The general fallback for networks too entangled for elimination, and, sharing no
code with it, the oracle it is tested against.
"""

from collections.abc import Mapping

import numpy as np

from fbq.search.problem import PEAK, Candidates, Infeasible, Problem, score

_SCALE = 1e3  # of the objective: HiGHS stops 1e-6 before its optimum
_TRIES = 100


def best_value(problem: Problem, budgets: Mapping[str, int]) -> Candidates:
  """The most valuable assignment within budgets and limits, as one candidate.

  One binary variable says which bits a group has, one continuous one each entry
  of a table over several groups. Exact to 1e-9 of the range of the value;
  costs are counted again in integers, and an assignment that only fits by
  rounding is forbidden and the program solved again.

  Args:
    problem: problem with values.
    budgets: most of each cost, besides the problem's limits.

  Raises:
    Infeasible: no assignment meets them.
    RuntimeError: HiGHS gave up.
  """
  # Budgets and limits are the same to the program: the tighter one counts.
  limits = dict(problem.limits)
  for name, most in budgets.items():
    limits[name] = min(most, limits.get(name, most))
  program = _Program(problem)
  value = program.row(problem.value)

  # A limit on memory holds for every layer, so it is one row for each.
  rows, tops = [], []
  for name, most in limits.items():
    if name == PEAK:
      for live in problem.live:
        rows.append(program.memory(live))
        tops.append(most - live.get("", 0))
    else:
      rows.append(program.row(problem.costs[name]))
      tops.append(most)

  # HiGHS works to a tolerance. Costs are counted again in integers, and an
  # assignment that only fits by rounding is forbidden.
  for _ in range(_TRIES):
    chosen = program.solve(value, rows, tops)
    if chosen is None:
      raise Infeasible(
        "no assignment meets "
        + ", ".join(f"{name} <= {most}" for name, most in limits.items())
      )
    found = score(problem, program.bits(chosen)[None])
    if all(found.costs[name][0] <= most for name, most in limits.items()):
      return found
    rows.append(program.without(chosen))
    tops.append(len(problem.groups) - 1)
  raise RuntimeError(f"{_TRIES} solutions of HiGHS exceeded the limits")


class _Program:
  """Columns: bits of every group, then entries of tables over several."""

  def __init__(self, problem):
    self._problem = problem
    self._first = np.cumsum([0, *map(len, problem.allowed)])
    self._entries = {}  # groups of a table -> its first column
    self._columns = int(self._first[-1])
    self._equal = []  # (coefficients by column, right side)
    for first, allowed in zip(self._first, problem.allowed, strict=False):
      self._equal.append(({first + k: 1.0 for k in range(len(allowed))}, 1.0))

  def _tables(self, factors):
    """(groups, table over their allowed bits) of every factor."""
    for factor in factors:
      of_site = [self._problem.group_of[site] for site in factor.sites]
      groups = tuple(dict.fromkeys(of_site))
      shape = [len(self._problem.allowed[g]) for g in groups]
      table = np.empty(shape)
      for entry in np.ndindex(*shape):
        bits = {
          g: self._problem.allowed[g][k]
          for g, k in zip(groups, entry, strict=True)
        }
        table[entry] = self._problem.entry(
          factor, {s: bits[self._problem.group_of[s]] for s in factor.sites}
        )
      yield groups, table

  def _place(self, groups, shape):
    """First column of a table's entries, which sum to their groups' bits."""
    if len(groups) == 1:
      return self._first[groups[0]]
    if groups not in self._entries:
      start = self._entries[groups] = self._columns
      self._columns += int(np.prod(shape))
      column = start + np.arange(np.prod(shape)).reshape(shape)
      for axis, group in enumerate(groups):
        for k in range(shape[axis]):
          entries = column.take(k, axis).ravel()
          row = dict.fromkeys(entries.tolist(), 1.0)
          row[int(self._first[group]) + k] = -1.0
          self._equal.append((row, 0.0))
    return self._entries[groups]

  def row(self, factors):
    """{column: coefficient} of a sum of factors."""
    result: dict[int, float] = {}
    for groups, table in self._tables(factors):
      start = int(self._place(groups, table.shape))
      for k, number in enumerate(table.ravel().tolist()):
        result[start + k] = result.get(start + k, 0.0) + number
    return result

  def memory(self, live):
    result: dict[int, float] = {}
    for site, sizes in live.items():
      if site:
        group = self._problem.group_of[site]
        for k, bits in enumerate(self._problem.allowed[group]):
          column = int(self._first[group]) + k
          size = float(sizes[self._problem.ladder.of(site).index(bits)])
          result[column] = result.get(column, 0.0) + size
    return result

  def without(self, chosen):
    return {int(f) + k: 1.0 for f, k in zip(self._first, chosen, strict=False)}

  def solve(self, value, rows, tops):
    """Position of each group's bits; None where there is none."""
    from scipy import optimize, sparse

    def matrix(rows):
      entries = [(i, c, v) for i, r in enumerate(rows) for c, v in r.items()]
      i, c, v = zip(*entries, strict=True)
      return sparse.csr_array((v, (i, c)), shape=(len(rows), self._columns))

    # Each group has one precision, and the entries of a table agree with it.
    right = [b for _, b in self._equal]
    constraints = [
      optimize.LinearConstraint(
        matrix([r for r, _ in self._equal]), right, right
      )
    ]

    if rows:
      # HiGHS's tolerance is absolute, so rows are scaled to coefficients of at
      # most 1.
      scale = [max(map(abs, (1, *row.values()))) for row in rows]
      scaled = [
        {c: v / s for c, v in row.items()}
        for row, s in zip(rows, scale, strict=True)
      ]
      constraints.append(
        optimize.LinearConstraint(
          matrix(scaled), -np.inf, np.array(tops) / scale
        )
      )

    # HiGHS stops 1e-6 before its optimum, so the objective is scaled up.
    aim = np.zeros(self._columns)
    for column, number in value.items():
      aim[column] = -number
    aim *= _SCALE / max(np.abs(aim).max(initial=0), 1e-300)

    # Entries of tables follow from the bits, so only the bits are integers.
    binary = np.arange(self._columns) < self._first[-1]
    found = optimize.milp(
      aim,
      integrality=binary.astype(int),
      bounds=optimize.Bounds(0, 1),
      constraints=constraints,
      options={"mip_rel_gap": 0.0},
    )

    # Status 2 is infeasible.
    if found.status == 2:
      return None
    if found.x is None:
      raise RuntimeError(f"HiGHS: {found.message}")
    return [
      int(np.argmax(found.x[a:b]))
      for a, b in zip(self._first[:-1], self._first[1:], strict=True)
    ]

  def bits(self, chosen):
    of_group = [
      allowed[k]
      for allowed, k in zip(self._problem.allowed, chosen, strict=True)
    ]
    group_of = self._problem.group_of
    return np.array(
      [of_group[group_of[site]] for site in self._problem.workload.sites]
    )
