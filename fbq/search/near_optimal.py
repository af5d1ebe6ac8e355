"""Every assignment nearly as good as the best one at a price of its cost.

With one price, what an assignment loses against the best one is a sum: each
step of `fbq.search.elimination` adds by how much its option is worse than the
best option there. So the sets of `fbq.search.pareto_sets` only need partial
assignments that have lost little, of which there are few.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fbq.search import elimination, pareto_sets
from fbq.search.elimination import Step
from fbq.search.pareto_sets import Points, Sets, TooMany
from fbq.search.terms import TermModel

MOST_ROWS = 1 << 22  # of one join: some 600 MB
_SORTED_ABOVE = 2048  # rows of a join; fewer wait for the next one
_THIN_ABOVE = 16  # points of a set, on average


class Tables(NamedTuple):
  """A model of one cost, step by step, entries of a step in one row.

  An entry is an option of the step's variable for one choice of its scope.

  Attributes:
    model: model with one cost.
    steps: steps of `elimination.plan`.
    costs: per step, int64 [choices * n].
    value: per step, float64 [choices * n].
    source: per step, for each of its messages, which choice of the message an
      entry goes with.
  """

  model: TermModel
  steps: Sequence[Step]
  costs: list[np.ndarray]
  value: list[np.ndarray]
  source: list[list[np.ndarray]]


class Lost(NamedTuple):
  """What is lost against the best value - price * cost.

  Attributes:
    own: per step float64 [choices, n], what an option loses against the best
      one for the same choice.
    above: per step [choices], what the best assignment with a choice loses.
    best: value - price * cost of the best assignment.
    rounding: how far sums may be off.
  """

  own: list[np.ndarray]
  above: list[np.ndarray]
  best: float
  rounding: float


def tables(model: TermModel, steps: Sequence[Step]) -> Tables:
  """The tables of a model with one cost; all options legal."""
  costs, value, source = [], [], []
  for step in steps:
    cost, worth, _ = pareto_sets.step_tables(model, step)
    costs.append(cost.ravel())
    value.append(worth.ravel())
    sizes = [len(model.options[v]) for v in step.axes]
    rows = []
    for i, shape in step.messages:
      count = np.prod(
        [len(model.options[v]) for v in steps[i].scope], dtype=int
      )
      index = np.broadcast_to(np.arange(count).reshape(shape), sizes)
      rows.append(pareto_sets.variable_last(index, step).ravel())
    source.append(rows)
  return Tables(model, steps, costs, value, source)


def lost(of: Tables, value_weight: float, price: float) -> Lost:
  """What every entry loses in value_weight * value - price * cost."""
  model, steps = of.model, of.steps
  scored = elimination.scores(
    model, np.array([value_weight]), np.array([[-price]])
  )
  full, messages = elimination.upward(steps, scored)
  rests = elimination.downward(model, steps, scored, messages)
  best = float(messages[-1].ravel()[0])
  own, above = [], []
  for step, table, message, rest in zip(
    steps, full, messages, rests, strict=True
  ):
    most = message.ravel()
    if step.variable < 0:
      own.append(np.zeros((1, 1)))
    else:
      sizes = [len(model.options[v]) for v in step.axes]
      table = np.broadcast_to(table, (*sizes, 1))[..., 0]
      own.append(most[:, None] - pareto_sets.variable_last(table, step))
    above.append(best - most - np.broadcast_to(rest.ravel(), most.shape))
  size = sum(
    abs(value_weight) * np.abs(term.value).max()
    + price * float(np.abs(term.costs).max())
    for term in model.terms
  )
  return Lost(own, above, best, 1e-12 * float(size))


class _Rows(NamedTuple):
  """Partial assignments of a step while its messages are joined.

  Attributes:
    entry: [N], entry of the step.
    costs, value, lost: [N], sums of a row; `lost` is what the assignments that
      it stands for have lost, at least.
    parts: per message joined so far, int32 [N], point of the message.
  """

  entry: np.ndarray
  costs: np.ndarray
  value: np.ndarray
  lost: np.ndarray
  parts: dict[int, np.ndarray]

  def take(self, which) -> "_Rows":
    return _Rows(
      self.entry[which],
      self.costs[which],
      self.value[which],
      self.lost[which],
      {m: part[which] for m, part in self.parts.items()},
    )


def near(of: Tables, lost: Lost, most: float, error: int = 0) -> list[Sets]:
  """Sets of all assignments that lose at most `most`, for `pareto_sets.trace`.

  For each of them the last set has a point that is worth no less and costs at
  most `error` more.

  Args:
    of: the model, step by step.
    lost: losses at one price.
    most: most that may be lost of value_weight * value - price * cost.
    error: allowed error in cost, which thins sets of many points. Errors of
      parts add up: each join may use the share of all joins behind it that
      these have left.

  Raises:
    TooMany: a join would have more than `MOST_ROWS` rows.
  """
  # Sums in another order differ in the last bits: nothing is lost to that.
  most = most + lost.rounding
  thin = _Thin(of.steps, error)
  sets: list[Sets] = []
  behind: list[np.ndarray] = []  # of every set, what its points have lost

  # Entries of the step that are close enough even with the best of the rest.
  for at, step in enumerate(of.steps):
    own, above = lost.own[at], lost.above[at]
    count = own.shape[1]
    entry = np.flatnonzero((own + above[:, None] <= most).ravel())
    rows = _Rows(
      entry,
      of.costs[at][entry],
      of.value[at][entry],
      own.ravel()[entry],
      {},
    )

    # Messages with few points first, so that the rows in between stay few.
    messages = [i for i, _ in step.messages]
    thin.begin(at)
    places = sorted(
      range(len(messages)), key=lambda m: len(behind[messages[m]])
    )
    for joined, m in enumerate(places):
      source = of.source[at][m][rows.entry]
      room = most - rows.lost - above[rows.entry // count]
      rows = _join(
        rows, m, source, sets[messages[m]], behind[messages[m]], room
      )

      # Only large joins are worth sorting in between.
      last = joined == len(places) - 1
      if not last and len(rows.entry) > _SORTED_ABOVE:
        rows = rows.take(_unbeaten(rows.entry, rows))
        rows = thin(rows, rows.entry)

    # Whatever another row beats at the same choice is in no front.

    rows = rows.take(_unbeaten(rows.entry // count, rows))
    rows = thin(rows, rows.entry // count)
    choice = rows.entry // count

    # `_join` looks for what fits by bisection, so points lie by what they lost.
    if at < len(of.steps) - 1:  # by what is lost, for `_join`
      order = np.lexsort((rows.lost, choice))
      rows, choice = rows.take(order), choice[order]
    parts = [rows.parts[m] for m in range(len(messages))]
    points = Points(
      rows.costs[None],
      rows.value,
      (rows.entry % count).astype(np.uint8),
      np.array(parts, np.int32).reshape(len(messages), len(choice)),
    )

    # The set of the step: points of one choice after another.
    start = np.searchsorted(choice, np.arange(len(above) + 1))
    sets.append(Sets(start, points))
    behind.append(rows.lost)
  return sets


def _join(rows: _Rows, message, source, sets: Sets, behind, room) -> _Rows:
  """Every row with the points of its set that lose no more than its room.

  Args:
    rows: rows of the step that is built.
    message: message of the step, whose points are added.
    source: [N], which choice of the message goes with a row.
    sets: set of the message; the points of a choice lie by what they have lost.
    behind: [M], what the points of the set have lost.
    room: [N], what a row may still lose.
  """
  start = sets.start[source]
  counts = _ends(behind, start, sets.start[source + 1], room) - start
  total = int(counts.sum())
  if total > MOST_ROWS:
    raise TooMany(
      f"more than {MOST_ROWS} partial assignments are close to the optimum: a "
      "front needs a (larger) resolution"
    )
  row = np.repeat(np.arange(len(counts)), counts)
  first = start - np.cumsum(counts) + counts  # less the place of its first row
  point = np.arange(total) + np.repeat(first, counts)
  parts = {m: part[row] for m, part in rows.parts.items()}
  return _Rows(
    rows.entry[row],
    rows.costs[row] + sets.points.costs[0, point],
    rows.value[row] + sets.points.value[point],
    rows.lost[row] + behind[point],
    parts | {message: point.astype(np.int32)},
  )


def _ends(values, start, stop, most):
  """[N] ends of what is at most `most` in rising values[start:stop]."""
  low, high = start.copy(), stop.copy()
  while (open_ := low < high).any():
    middle = (low + high) >> 1
    fits = open_ & (values[np.where(open_, middle, 0)] <= most)
    low = np.where(fits, middle + 1, low)
    high = np.where(open_ & ~fits, middle, high)
  return low


def _unbeaten(segment, rows: _Rows) -> np.ndarray:
  """Rows that no other of their segment beats, by segment and rising cost."""
  order = np.lexsort((-rows.value, rows.costs, segment))
  segment, value = segment[order], rows.value[order]
  # Exact ranks: a running maximum over all segments is one over each.
  rank = np.searchsorted(np.sort(value), value)
  key = segment.astype(np.int64) * (len(rank) + 1) + rank
  best = np.maximum.accumulate(key)
  kept = np.ones(len(order), bool)
  kept[1:] = key[1:] > best[:-1]
  return order[kept]


class _Thin:
  """Leaves out rows that cost little less than better ones."""

  def __init__(self, steps, error):
    self._steps, self._error = steps, error
    self._spent = [0] * len(steps)
    joins: list[int] = []  # of every step and those behind it
    for step in steps:
      joins.append(max(1, len(step.messages)))
      joins[-1] += sum(joins[i] for i, _ in step.messages)
    self._joins = joins
    self._at, self._done = 0, 0

  def begin(self, at):
    behind = [i for i, _ in self._steps[at].messages]
    self._at = at
    self._done = sum(self._joins[i] for i in behind)
    self._spent[at] = sum(self._spent[i] for i in behind)

  def __call__(self, rows: _Rows, segment) -> _Rows:
    """The best row of each bucket of rows by segment and rising cost."""
    self._done = min(self._done + 1, self._joins[self._at])
    share = self._error * self._done // self._joins[-1]
    width = share - self._spent[self._at] + 1
    ends = segment[1:] != segment[:-1]
    segments = 1 + np.count_nonzero(ends)
    if width <= 1 or len(segment) <= _THIN_ABOVE * segments:
      return rows
    bucket = rows.costs // width
    ends |= bucket[1:] != bucket[:-1]
    last = np.append(np.flatnonzero(ends), len(segment) - 1)
    first = np.append(0, last[:-1] + 1)
    shift = rows.costs[last] - rows.costs[first]
    self._spent[self._at] += int(shift.max())
    least = np.minimum.reduceat(rows.lost, first)
    return rows.take(last)._replace(lost=least)
