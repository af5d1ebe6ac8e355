"""Sensitivities against the network in integers, one site at a time."""

import dataclasses

import jax.numpy as jnp
import model_cases
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special
from sensitivity_cases import (
  FLOAT_LOGITS,
  IMAGES,
  LABELS,
  NET,
  RANGES,
  TENSORS,
  VARIABLES,
  forward,
  judge,
)

from fbq import precision
from fbq.quantizers import calibration
from fbq.quantizers.site_ranges import FLOAT_BITS, site_ranges, squared_errors
from fbq.search import sensitivity
from fbq.search.sensitivity import NO_CHANGE, sensitivities
from fbq.train.steps import compile_once


@pytest.fixture(scope="module")
def found():
  return sensitivities(judge())


def naive(bits, run):
  """Logits at `bits`, ranges of these bits."""
  ranges = {site: RANGES[site][bits[site]] for site in RANGES}
  return run({**VARIABLES, "ranges": ranges}, bits)


def in_integers(variables, bits):
  return model_cases.interpret(NET, variables, bits, IMAGES)


def expected(reference, logits):
  """(loss, kl, mse, sqnr) by scipy's formulas."""
  p, q = special.softmax(reference, 1), special.softmax(logits, 1)
  pick = np.eye(3)[LABELS].astype(bool)
  return (
    np.mean(np.log(p[pick]) - np.log(q[pick])),
    np.mean(special.rel_entr(p, q).sum(1)),
    np.mean((logits - reference) ** 2),
    10 * np.log10(np.sum(reference**2) / np.sum((logits - reference) ** 2)),
  )


def test_equals_a_loop_over_separately_quantized_networks(found):
  base = precision.uniform(NET, 8)
  reference = naive(base, in_integers)
  np.testing.assert_allclose(found.reference, reference, rtol=1e-4, atol=1e-5)
  tried = 0
  for site in NET.workload.free_sites:
    for bits in (2, 4):
      logits = naive({**base, site: bits}, in_integers)
      np.testing.assert_allclose(
        found.changes[site][bits],
        expected(reference, logits),
        rtol=2e-3,
        atol=1e-7,
        err_msg=f"{site} at {bits} bits",
      )
      tried += 1
  assert found.passes == 1 + tried == 15


def test_nothing_changes_where_precision_is_fixed_or_the_reference(found):
  assert found.changes.keys() == set(NET.workload.sites)
  for site, by_bits in found.changes.items():
    if site in NET.fixed_bits:
      assert by_bits == {8: NO_CHANGE}
    else:
      assert by_bits.keys() == {2, 4, 8} and by_bits[8] == NO_CHANGE
      assert by_bits[2].kl > 0 and by_bits[2].sqnr_db < 60
  assert found.of("kl")["b.out"][2] == found.changes["b.out"][2].kl


def test_twenty_four_bits_stand_for_float():
  every = dict.fromkeys(NET.workload.sites, FLOAT_BITS)
  np.testing.assert_allclose(
    judge().logits(every), FLOAT_LOGITS, rtol=1e-5, atol=1e-6
  )


def test_others_in_float():
  """Against the integers: with them the fixed sites alone are 8 bits."""
  j = judge()
  found = sensitivities(j, others=FLOAT_BITS)
  base = {s: NET.fixed_bits.get(s, FLOAT_BITS) for s in NET.workload.sites}
  reference = naive(base, in_integers)
  np.testing.assert_allclose(found.reference, reference, rtol=1e-4, atol=1e-5)
  assert found.passes == 1 + 3 * len(NET.workload.free_sites)
  for site, bits in (("b.out", 8), ("a.weight", 4), ("fc.weight", 2)):
    logits = naive({**base, site: bits}, in_integers)
    np.testing.assert_allclose(
      found.changes[site][bits], expected(reference, logits), rtol=5e-3
    )


def test_order_and_batches_do_not_matter(found):
  """Three batches of 3, the last one filled up; compiled once, as all here."""
  order = np.random.default_rng(0).permutation(8)
  other = sensitivities(
    judge(images=IMAGES[order], labels=LABELS[order], batch=3)
  )
  for site in NET.workload.sites:
    for bits, change in found.changes[site].items():
      np.testing.assert_allclose(
        other.changes[site][bits], change, rtol=1e-3, atol=1e-7
      )
  weights = np.concatenate([w for *_, w in judge(batch=3).batches()])
  assert weights.tolist() == [1] * 8 + [0]


LOGITS = arrays.arrays(np.float64, (8, 3), elements=st.floats(-30, 30))


@given(LOGITS, LOGITS)
def test_divergence_is_never_negative(a, b):
  change = sensitivity.compare(a, b, LABELS)
  p, q = special.softmax(a, 1), special.softmax(b, 1)
  assert change.kl >= 0
  np.testing.assert_allclose(
    change.kl, special.rel_entr(p, q).sum() / 8, rtol=1e-6, atol=1e-12
  )
  assert sensitivity.compare(a, a, LABELS).kl == 0
  assert sensitivity.compare(a, a, LABELS).sqnr_db == np.inf


def test_ranges_are_the_calibrated_ones_of_each_precision():
  kernel = np.asarray(VARIABLES["params"]["b_kernel"])
  for bits in (2, 4, 8):
    np.testing.assert_array_equal(
      RANGES["b.weight"][bits], calibration.weight_ranges(kernel, True, bits)
    )
    values = TENSORS["d.out"].ravel()
    np.testing.assert_array_equal(
      RANGES["d.out"][bits], calibration.best_range(values, bits, False)
    )
  assert RANGES["fc.weight"][4].shape == ()
  assert RANGES["b.weight"][FLOAT_BITS].shape == (4,)
  relu = np.maximum(TENSORS["d.out"], 0)
  assert RANGES["d.out"][FLOAT_BITS] == pytest.approx(2 * relu.max())


def test_squared_errors():
  errors = squared_errors(NET, VARIABLES["params"], TENSORS, RANGES)
  assert errors.keys() == set(NET.workload.free_sites)
  for site, x, images, signed in (
    ("b.out", np.maximum(TENSORS["b.out"], 0), 8, False),
    ("d.weight", np.asarray(VARIABLES["params"]["d_kernel"]), 1, True),
  ):
    for bits in (2, 4, 8):
      codes, step = model_cases.integers(x, RANGES[site][bits], bits, signed)
      total = np.sum((codes * step - x) ** 2) / images
      assert errors[site][bits] == pytest.approx(total, rel=1e-4)


def spoiled(array, index=0):
  array = np.array(array, np.float32)
  array.flat[index] = np.nan
  return array


def test_bad_data_is_named():
  with pytest.raises(ValueError, match="calibration image 5 has values"):
    judge(images=spoiled(IMAGES, 5 * 72 + 3))
  with pytest.raises(ValueError, match=r"images have shape \(8, 6, 2\)"):
    judge(images=IMAGES[:, 0])
  with pytest.raises(ValueError, match="0 calibration images"):
    judge(images=IMAGES[:0], labels=LABELS[:0])
  for labels in (LABELS[:7], LABELS + 1, LABELS * 1.0):
    with pytest.raises(ValueError, match="8 integers from 0 to 2"):
      judge(labels=labels)
  params = VARIABLES["params"]
  bad = {**params, "d_kernel": spoiled(params["d_kernel"])}
  with pytest.raises(ValueError, match=r"\['params'\]\['d_kernel'\]"):
    judge(variables={**VARIABLES, "params": bad})
  with pytest.raises(ValueError, match=r"params\['d_kernel'\]"):
    site_ranges(NET, bad, TENSORS)
  with pytest.raises(ValueError, match="calibration data of 'b.out'"):
    site_ranges(NET, params, {**TENSORS, "b.out": spoiled(TENSORS["b.out"])})
  with pytest.raises(ValueError, match=r"no calibration data for \['b.out'\]"):
    site_ranges(NET, params, {s: t for s, t in TENSORS.items() if s != "b.out"})
  with pytest.raises(ValueError, match="range of 'b.out' at 4 bits"):
    judge(ranges={**RANGES, "b.out": {4: np.float32(0)}})
  with pytest.raises(ValueError, match=r"no ranges .* \[\('b.out', 8\)\]"):
    sensitivities(judge(ranges={**RANGES, "b.out": {4: np.float32(1)}}))


def test_logits_that_are_not_finite_are_named():
  def overflow(variables, images, bits):
    logits = forward(variables, images, bits)
    return jnp.where(bits[1] == 2, jnp.inf, logits)

  with pytest.raises(ValueError, match="image 0 are not finite.*'a.weight': 2"):
    sensitivities(judge(forward=compile_once(overflow)))


def test_a_judge_does_not_change():
  with pytest.raises(dataclasses.FrozenInstanceError):
    judge().batch = 3
