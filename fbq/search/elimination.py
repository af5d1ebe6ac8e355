"""Max-sum over a network's precisions, by elimination of one after the other.

A problem is compiled into terms over a few variables each. Variables are then
eliminated along the network (bucket elimination, Dechter 1999): a step gathers
the terms and messages that speak of one variable and passes on what is left as
a message over the others. Chains need messages over one or two variables,
residual blocks one more for every tensor that is alive meanwhile.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fbq.search.terms import MOST_ENTRIES, TermModel, TooWide, shape_among


class Step(NamedTuple):
  """Eliminates one variable, or joins messages that have no variable left.

  Attributes:
    variable: variable that is eliminated, or -1.
    axes: variables of the table, ascending, `variable` among them.
    scope: variables of the message: `axes` without `variable`.
    terms: positions of the terms in the model, each with its shape among
      `axes`.
    messages: positions of earlier steps whose messages are read, each with its
      shape among `axes`.
  """

  variable: int
  axes: tuple[int, ...]
  scope: tuple[int, ...]
  terms: tuple[tuple[int, tuple[int, ...]], ...]
  messages: tuple[tuple[int, tuple[int, ...]], ...]

  @property
  def axis(self) -> int:
    """Axis of the variable in the table; one past the last if there is none."""
    return self.axes.index(self.variable) if self.axes else 0


def smallest_tables(model: TermModel) -> list[int]:
  """An order of elimination: whichever variable makes the smallest table.

  Weights come first by that. Along the network instead, sums that a ResNet's
  layers share would meet two stages at once, in tables of eight axes.
  """
  near = [{v} for v in range(len(model.options))]
  for term in model.terms:
    for v in term.scope:
      near[v] |= set(term.scope)
  left, order = set(range(len(near))), []
  size = lambda v: math.prod(len(model.options[u]) for u in near[v])
  while left:
    v = min(left, key=lambda v: (size(v), v))
    left.remove(v)
    order.append(v)
    for u in near[v] - {v}:
      near[u] = (near[u] | near[v]) - {v}
  return order


def plan(model: TermModel, order: Sequence[int] | None = None) -> list[Step]:
  """Steps that eliminate every variable; the last one's message is the result.

  Args:
    model: terms to add up.
    order: order of the variables; default first those in one term only
      (weights, most often), then the others along the network.

  Raises:
    TooWide: a table would be too large.
  """
  options = model.options
  if order is None:
    terms_of = np.bincount(
      [v for term in model.terms for v in term.scope], minlength=len(options)
    )
    order = sorted(range(len(options)), key=lambda v: (terms_of[v] > 1, v))

  # What no step has read yet: terms by position, messages by step.
  waiting_terms = {i: term.scope for i, term in enumerate(model.terms)}
  waiting: dict[int, tuple[int, ...]] = {}
  steps: list[Step] = []

  def add(variable, terms, messages):
    inside = [waiting_terms.pop(i) for i in terms]
    inside += [waiting.pop(i) for i in messages]
    known = {variable} if variable >= 0 else set()
    axes = tuple(sorted(known.union(*inside)))
    if math.prod(len(options[v]) for v in axes) > MOST_ENTRIES:
      raise TooWide(f"{len(axes)} precisions depend on each other at once")
    steps.append(
      Step(
        variable,
        axes,
        tuple(v for v in axes if v != variable),
        *(
          tuple(
            (i, shape_among(scope, axes, options))
            for i, scope in zip(which, scopes, strict=True)
          )
          for which, scopes in (
            (terms, inside[: len(terms)]),
            (messages, inside[len(terms) :]),
          )
        ),
      )
    )
    waiting[len(steps) - 1] = steps[-1].scope

  # A variable without a choice is in no scope, so it needs no step.
  for variable in order:
    if len(options[variable]) > 1:
      add(
        variable,
        [i for i, scope in waiting_terms.items() if variable in scope],
        [i for i, scope in waiting.items() if variable in scope],
      )

  # What is left has no variables: one running total, a message at a time.
  roots = list(waiting)
  add(-1, list(waiting_terms), roots[:1])
  for root in roots[1:]:
    add(-1, [], [len(steps) - 1, root])
  return steps


def scores(
  model: TermModel, value: np.ndarray, costs: np.ndarray
) -> list[np.ndarray]:
  """Per term float64 [n, ..., n, K]: value * its value + costs . its costs.

  Illegal options have -inf.

  Args:
    model: terms with `C` costs.
    value: [K], weight of the value in each of `K` scores.
    costs: [C, K], weight of each cost.
  """
  result = []
  for term in model.terms:
    # One product instead of three sums: a third of the time for K = 1024.
    table = np.concatenate([term.costs, term.value[..., None]], axis=-1)
    table = table.astype(np.float64) @ np.concatenate([costs, value[None]])
    if not term.legal.all():
      table[~term.legal] = -np.inf
    result.append(table)
  return result


def upward(
  steps: Sequence[Step], scored: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
  """(table, message) of every step: the message is the table's best.

  Both have a last axis [K]; the last message is the best score [K].
  """
  tables, messages = [], []
  for step in steps:
    table = _total(step, scored, messages)
    tables.append(table)
    messages.append(table if step.variable < 0 else table.max(step.axis))
  return tables, messages


def _total(step, scored, messages, without=None):
  parts = [scored[i].reshape(*shape, -1) for i, shape in step.terms]
  parts += [
    messages[i].reshape(*shape, -1)
    for i, shape in step.messages
    if i != without
  ]
  if not parts:
    return np.zeros(1)
  total = parts[0] if len(parts) == 1 else parts[0] + parts[1]
  for part in parts[2:]:
    total = total + part
  return total


def decode(
  model: TermModel, steps: Sequence[Step], tables: Sequence[np.ndarray]
) -> np.ndarray:
  """Options uint8 [V, K] of the best score; of equals the first.

  Variables are decided in the order opposite to that of the steps.
  """
  count = max(table.shape[-1] for table in tables)
  chosen = np.zeros((len(model.options), count), np.uint8)
  every = np.arange(count)
  for step, table in zip(reversed(steps), reversed(tables), strict=True):
    if step.variable < 0 or table.ndim == 1:
      continue
    first = np.moveaxis(table, step.axis, 0)
    given = first[(slice(None), *chosen[list(step.scope)], every)]
    chosen[step.variable] = given.argmax(0)
  return chosen


def downward(
  model: TermModel,
  steps: Sequence[Step],
  scored: Sequence[np.ndarray],
  messages: Sequence[np.ndarray],
) -> list[np.ndarray]:
  """Per step, the best score of all that its message leaves out.

  [n, ..., n, K] over the scope of the message.
  """
  count = messages[-1].shape[-1]
  result = [np.zeros(count)] * len(steps)
  for step in reversed(range(len(steps))):
    at = steps[step]
    own = result[step]
    shape = shape_among(at.scope, at.axes, model.options)
    own = own.reshape(*shape, -1) if at.axes else own
    for i, _ in at.messages:
      total = _total(at, scored, messages, without=i) + own
      sizes = [len(model.options[v]) for v in at.axes]
      total = np.broadcast_to(total, (*sizes, count))
      gone = tuple(k for k, v in enumerate(at.axes) if v not in steps[i].scope)
      result[i] = total.max(gone) if gone else total
  return result
