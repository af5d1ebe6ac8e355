"""Each kind of variable moves at its own rate; ranges stay positive."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fbq.quantizers import learned_ranges
from fbq.train import optimizer

STEPS = 40


def updates_of(transform, variables, gradients, steps):
  """The update of every step for gradients that stay the same."""
  step = jax.jit(transform.update)
  state, found = transform.init(variables), []
  for _ in range(steps):
    updates, state = step(gradients, state, variables)
    found.append(jax.tree.map(np.asarray, updates))
    variables = optax.apply_updates(variables, updates)
  return found


def trained():
  return {
    "params": {"kernel": jnp.ones(3)},
    "ranges": {"a.out": jnp.float32(2.0), "b.weight": jnp.float32([0.1, 10])},
    "gates": {"logits": jnp.zeros((2, 2))},
  }


@pytest.mark.parametrize("moving", ["params", "ranges", "gates", None])
def test_each_kind_has_its_own_rate(moving):
  name = {
    "params": "learning_rate",
    "ranges": "range_learning_rate",
    "gates": "gate_learning_rate",
  }
  rates = {"learning_rate": 0.0} | ({name[moving]: 0.01} if moving else {})
  transform = optimizer.make(STEPS, **rates)
  gradients = jax.tree.map(jnp.ones_like, trained())
  moved = dict.fromkeys(name, 0.0)
  for updates in updates_of(transform, trained(), gradients, 5):
    for kind, tree in updates.items():
      moved[kind] += sum(np.abs(x).sum() for x in jax.tree.leaves(tree))
  assert [kind for kind, distance in moved.items() if distance] == (
    [moving] if moving else []
  )


def test_a_stage_may_train_some_kinds_only():
  some = {"params": trained()["params"]}
  gradients = jax.tree.map(jnp.ones_like, some)
  transform = optimizer.make(STEPS, 0.1)
  assert updates_of(transform, some, gradients, 2)[1].keys() == {"params"}


@pytest.mark.parametrize(("warmup", "rise"), [(0.0, 1), (0.1, 4)])
def test_rates_fall_to_a_tenth_after_each_drop(warmup, rise):
  """Of weights and ranges, as large as the rate, whatever the momentum."""
  transform = optimizer.make(
    STEPS, 0.1, range_learning_rate=0.01, warmup=warmup, drops=(0.5, 0.75)
  )
  gradients = jax.tree.map(jnp.ones_like, trained())
  updates = updates_of(transform, trained(), gradients, STEPS)
  momentum = 0.0
  for n, update in enumerate(updates):
    momentum = 0.9 * momentum + 1
    share = min(1, (n + 1) / rise) * 0.1 ** ((n >= 20) + (n >= 30))
    expected = -0.1 * share * (1 + 0.9 * momentum)
    np.testing.assert_allclose(update["params"]["kernel"], expected, 1e-5)
  factors = [
    float(np.log1p(u["ranges"]["a.out"] / value))
    for u, value in zip(updates, ranges_before(updates), strict=True)
  ]
  assert factors[25] / factors[15] == pytest.approx(0.1, rel=0.05)
  assert factors[35] / factors[15] == pytest.approx(0.01, rel=0.05)


def ranges_before(updates):
  value = float(trained()["ranges"]["a.out"])
  for update in updates:
    yield value
    value += float(update["ranges"]["a.out"])


def test_schedule_rises_from_0_and_ends_at_0():
  """Of weights and ranges; the rate of gates is constant."""
  transform = optimizer.make(
    STEPS,
    learning_rate=0.1,
    range_learning_rate=0.01,
    gate_learning_rate=0.05,
    warmup=0.25,
  )
  gradients = jax.tree.map(jnp.ones_like, trained())
  updates = updates_of(transform, trained(), gradients, STEPS + 1)
  for kind, leaf in (("params", "kernel"), ("ranges", "a.out")):
    sizes = [float(np.abs(u[kind][leaf]).max()) for u in updates]
    assert sizes[0] == 0 < sizes[1]
    assert sizes[STEPS] == pytest.approx(0, abs=1e-9)
    assert sizes[STEPS - 1] < 0.02 * max(sizes)
    assert 8 <= int(np.argmax(sizes)) <= 20
  gates = [float(np.abs(u["gates"]["logits"]).max()) for u in updates]
  np.testing.assert_allclose(gates, 0.05, rtol=1e-3)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_stages_of_few_steps_work(steps):
  transform = optimizer.make(steps, 0.1, range_learning_rate=0.1)
  gradients = jax.tree.map(jnp.ones_like, trained())
  for updates in updates_of(transform, trained(), gradients, steps):
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(updates))


def test_weights_decay_and_nothing_else_does():
  transform = optimizer.make(
    4, 0.1, weight_decay=0.5, range_learning_rate=0.1, gate_learning_rate=0.1
  )
  no_gradients = jax.tree.map(jnp.zeros_like, trained())
  updates = updates_of(transform, trained(), no_gradients, 3)
  assert np.all(updates[1]["params"]["kernel"] < 0)
  for kind in ("ranges", "gates"):
    for leaf in jax.tree.leaves([u[kind] for u in updates]):
      assert not leaf.any()


def test_ranges_of_all_sizes_move_by_the_same_factor():
  """Adam is blind to the size of gradients, the logarithm to that of ranges."""
  transform = learned_ranges.in_log_space(optax.adam(0.01))
  start = jnp.float32([1e-4, 0.01, 1, 10, 1e4])
  (updates,) = updates_of(transform, start, jnp.full(5, -3.0), 1)
  np.testing.assert_allclose(updates / np.asarray(start), np.expm1(0.01), 1e-3)


@pytest.mark.parametrize("gradient", [1e-30, 1.0, 1e10, 1e30, 3e38])
@pytest.mark.parametrize("inner", [optax.sgd(1.0), optax.adam(0.5)])
def test_ranges_stay_positive_under_any_gradient(gradient, inner):
  transform = learned_ranges.in_log_space(inner)
  value = jnp.float32([1e-8, 1e-3, 0.7])
  state = transform.init(value)
  for _ in range(30):
    updates, state = transform.update(jnp.full(3, gradient), state, value)
    value = optax.apply_updates(value, updates)
    assert np.all(np.asarray(value) > 0) and np.isfinite(value).all()


def test_gate_gradients_that_are_never_cleared_add_up():
  """The Free Bits authors' loop: Adam on the sum of all gradients so far."""
  given = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
  rate, beta1, beta2, epsilon = 0.1, 0.9, 0.999, 1e-8
  first = second = total = np.zeros(2)
  expected = []
  for t, gradient in enumerate(given, start=1):
    total = total + gradient
    first = beta1 * first + (1 - beta1) * total
    second = beta2 * second + (1 - beta2) * total**2
    step = first / (1 - beta1**t)
    step = step / (np.sqrt(second / (1 - beta2**t)) + epsilon)
    expected.append(-rate * step)
  gates = {"gates": jnp.zeros(2)}
  for sums in (True, False):
    transform = optimizer.make(
      STEPS, 0.1, gate_learning_rate=rate, sums_gate_gradients=sums
    )
    state = transform.init(gates)
    found = []
    for gradient in given:
      updates, state = transform.update(
        {"gates": jnp.asarray(gradient)}, state, gates
      )
      found.append(np.asarray(updates["gates"]))
    assert np.allclose(found, expected, rtol=1e-4) == sums
