"""Whole fronts between neighbours on the hull, against all assignments."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fbq.search import elimination, near_optimal, pareto_sets, two_phase
from fbq.search.terms import Term, TermModel


@st.composite
def models(draw, rows=("a", "ab", "bc", "acd", "de", "e")):
  """Terms of one to three of five variables, two of which may stand alone.

  Values are random, or few and equal; costs small, so that many are equal.
  """
  random = np.random.default_rng(draw(st.integers(0, 10**6)))
  options = [draw(st.integers(1, 4)) for _ in range(5)]
  most = draw(st.sampled_from([3, 40, 10**9]))
  coarse = draw(st.booleans())
  terms = []
  for names in draw(st.permutations(rows))[:5] + ["a", "b", "c", "d", "e"]:
    scope = tuple("abcde".index(name) for name in names)
    shape = tuple(options[v] for v in scope)
    value = random.integers(0, 4, shape) / 4 if coarse else random.random(shape)
    costs = random.integers(0, most, (*shape, 1))
    terms.append(Term(scope, costs, value, np.ones(shape, bool)))
  return TermModel(
    tuple(map(tuple, map(range, options))), tuple(terms), ("cost",)
  )


def everything(model):
  """(costs, value) of every assignment: all tables spread over all axes."""
  sizes = [len(options) for options in model.options]
  costs, value = np.zeros(sizes, np.int64), np.zeros(sizes)
  for term in model.terms:
    shape = [n if v in term.scope else 1 for v, n in enumerate(sizes)]
    costs += term.costs.reshape(shape)
    value += term.value.reshape(shape)
  return costs.ravel(), value.ravel()


def run(model, error, thin_above=0):
  steps = elimination.plan(model, elimination.smallest_tables(model))
  with (
    mock.patch.object(near_optimal, "_THIN_ABOVE", thin_above),
    mock.patch.object(near_optimal, "_SORTED_ABOVE", 0),
  ):
    return two_phase.front(model, steps, error)


def covered(found, costs, value, error):
  """Whether each assignment has one that is worth as much for so much more."""
  place = np.searchsorted(found.costs, costs + error, side="right") - 1
  return (place >= 0) & (found.value[place] >= value - 1e-12)


@settings(max_examples=25, deadline=None)
@given(models())
def test_the_front_is_that_of_all_assignments(model):
  costs, value = everything(model)
  found, error = run(model, 0)
  assert error == 0
  assert covered(found, costs, value, 0).all()
  assert (np.diff(found.costs) > 0).all() and (np.diff(found.value) > 0).all()
  # What is found exists, and is no worse than what it is compared with.
  anew = two_phase.totals(model, found.chosen)
  np.testing.assert_array_equal(anew.costs, found.costs)
  for cost, worth in zip(found.costs, found.value, strict=True):
    assert worth == pytest.approx(value[costs <= cost].max(), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(models(), st.floats(0.001, 0.5), st.sampled_from([0, 3]))
def test_a_front_with_an_error_keeps_to_it(model, share, thin_above):
  costs, value = everything(model)
  allowed = int(share * np.ptp(costs))
  found, error = run(model, allowed, thin_above)
  assert error <= allowed
  assert covered(found, costs, value, error).all()
  assert (np.diff(found.value) > 0).all()
  for cost, worth in zip(found.costs, found.value, strict=True):
    assert np.isclose(value[costs == cost], worth, atol=1e-12).any()


@settings(max_examples=20, deadline=None)
@given(models(), st.floats(0, 2), st.floats(0, 1))
def test_what_is_near_the_optimum_is_found_and_losses_add_up(
  model, price, most
):
  costs, value = everything(model)
  price /= max(1, np.ptp(costs))
  steps = elimination.plan(model, elimination.smallest_tables(model))
  tables = near_optimal.tables(model, steps)
  lost = near_optimal.lost(tables, 1.0, price)
  score = value - price * costs
  assert lost.best == pytest.approx(score.max())
  points = near_optimal.near(tables, lost, most)[-1].points
  for i in np.flatnonzero(score >= score.max() - most):
    better = points.costs[0] <= costs[i]
    assert (points.value[better] >= value[i] - 1e-12).any()
  # None of them loses more, but for rounding.
  behind = lost.best - points.value + price * points.costs[0]
  assert (behind <= most + 2 * lost.rounding).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.02, 0.3), st.floats(0.005, 1.0))
@example(121612, 0.1484375, 0.265625)  # what stands for others has lost more
def test_thinned_sets_stand_for_all_that_is_near(seed, share, part):
  """A chain of eight: errors that add up over its joins would show."""
  random = np.random.default_rng(seed)
  terms = []
  for v in range(7):
    # What costs more is worth more, nearly, so that much is near a price.
    costs = random.integers(0, 10**6, (3, 3, 1))
    value = costs[..., 0] / 1e6 + 0.1 * random.random((3, 3))
    terms.append(Term((v, v + 1), costs, value, np.ones((3, 3), bool)))
  model = TermModel(((0, 1, 2),) * 8, tuple(terms), ("cost",))
  costs, value = everything(model)
  error = int(share * 10**6)
  steps = elimination.plan(model, elimination.smallest_tables(model))
  tables = near_optimal.tables(model, steps)
  lost = near_optimal.lost(tables, 1.0, 1e-6)
  score = value - 1e-6 * costs
  most = part * np.ptp(score)
  with mock.patch.object(near_optimal, "_THIN_ABOVE", 0):
    points = near_optimal.near(tables, lost, most, error)[-1].points
  near = np.flatnonzero(score >= score.max() - most)
  stands = covered(
    two_phase.Assignments(
      points.costs[0], np.maximum.accumulate(points.value), points.option
    ),
    costs[near],
    value[near],
    error,
  )
  assert stands.all()


def test_too_many_rows_are_refused():
  random = np.random.default_rng(0)
  terms = [
    Term(
      (v,),
      random.integers(0, 10**9, (40, 1)),
      random.random(40),
      np.ones(40, bool),
    )
    for v in range(4)
  ]
  model = TermModel((tuple(range(40)),) * 4, tuple(terms), ("cost",))
  with mock.patch.object(near_optimal, "MOST_ROWS", 3):
    with pytest.raises(pareto_sets.TooMany, match="larger.* resolution"):
      run(model, 0)
    run(model, 4 * 10**9)
