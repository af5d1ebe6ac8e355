"""Rounding on second moments: against brute force and single moves."""

import itertools

import numpy as np
import pytest

from fbq.ptq import moment_rounding

BITS = (2, 3, 4)


def problem(groups=1, size=4, outputs=3, seed=0):
  random = np.random.default_rng(seed)
  x = random.normal(size=(groups, 50, size)) @ random.normal(size=(size, size))
  inputs = np.matmul(x.transpose(0, 2, 1), x) / 50
  target = random.normal(size=(groups, size, outputs))
  stack = lambda y: np.stack([y] * len(BITS)).astype(np.float32)
  step = np.stack(
    [np.abs(target).max(1, keepdims=True) / 2 ** (b - 1) for b in BITS]
  )
  return stack(inputs), stack(target), step.astype(np.float32)


def error(inputs, off):
  return np.einsum("gio,gij,gjo->go", off, inputs, off)


@pytest.mark.parametrize(("groups", "size"), [(1, 4), (5, 3), (1, 150)])
def test_no_single_code_can_be_moved_to_advantage(groups, size):
  """150 numbers make three blocks, the last of them filled up."""
  inputs, target, step = problem(groups, size)
  found = moment_rounding.round_columns(inputs, target, step, BITS, steps=60)
  for k, bits in enumerate(BITS):
    codes = found.codes[k].astype(np.float64)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    assert codes.min() >= low and codes.max() <= high
    own = error(inputs[k], codes * found.step[k] - target[k])
    assert found.error[k] == pytest.approx(own.mean(), rel=1e-3)
    assert found.error[k] <= found.nearest_error[k] * (1 + 1e-6)
    for i, move in itertools.product(range(0, size, 7), (-1, 1)):
      other = codes.copy()
      other[:, i] = np.clip(other[:, i] + move, low, high)
      moved = error(inputs[k], other * found.step[k] - target[k])
      assert (moved >= own * (1 - 1e-3)).all()


def test_it_is_near_the_best_of_all_codes():
  inputs, target, step = problem()
  found = moment_rounding.round_columns(inputs, target, step, BITS, steps=200)
  every = np.array(list(itertools.product(range(-2, 2), repeat=4)))
  off = every[:, :, None] * found.step[0] - target[0]
  best = np.stack([error(inputs[0], one[None])[0] for one in off]).min(0)
  assert best.mean() <= found.error[0] * (1 + 1e-5)
  assert found.error[0] <= 1.02 * best.mean()


def test_precisions_together_are_each_alone():
  inputs, target, step = problem(groups=2, size=6)
  whole = moment_rounding.round_columns(inputs, target, step, BITS, steps=40)
  for k, bits in enumerate(BITS):
    part = slice(k, k + 1)
    one = moment_rounding.round_columns(
      inputs[part], target[part], step[part], (bits,), steps=40
    )
    np.testing.assert_array_equal(one.codes[0], whole.codes[k])
    np.testing.assert_array_equal(one.step[0], whole.step[k])


def test_a_layer_of_one_range_keeps_one():
  inputs, target, step = problem()
  step = np.broadcast_to(step.max(-1, keepdims=True), step.shape)
  found = moment_rounding.round_columns(
    inputs, target, step, BITS, per_channel=False, steps=0
  )
  assert (found.step == found.step[..., :1]).all()


def test_few_rows_give_the_same_as_their_product():
  """Gradients alone are computed otherwise; so hardly a code differs."""
  random = np.random.default_rng(3)
  rows = random.normal(size=(len(BITS), 2, 5, 24)).astype(np.float32)
  inputs = np.matmul(rows.transpose(0, 1, 3, 2), rows) + 0.1 * np.eye(24)
  _, target, step = problem(2, 24)
  arguments = inputs.astype(np.float32), target, step, BITS
  whole = moment_rounding.round_columns(*arguments, steps=100)
  fewer = moment_rounding.round_columns(*arguments, steps=100, rows=rows)
  np.testing.assert_array_equal(fewer.step, whole.step)
  assert (fewer.codes != whole.codes).mean() < 0.02
  np.testing.assert_allclose(fewer.error, whole.error, rtol=1e-2)
