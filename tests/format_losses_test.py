"""Losses of block formats: noise, what is predicted from it, and its scale."""

import bfp_oracle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from microscaling_test import by_definition
from model_cases import NET

from fbq.quantizers import microscaling
from fbq.schemes import published_formats
from fbq.schemes.block_float import BlockFloat
from fbq.schemes.microscaling import Microscaling, rows_of
from fbq.search import block_noise, format_losses
from hwsim.bfp.formats import FP32, bitq_format

RANDOM = np.random.default_rng(0)
WEIGHTS = {
  f"{layer.name}_kernel": RANDOM.standard_normal(shape).astype(np.float32)
  for layer, shape in zip(
    [n for n in NET.nodes if n.has_weights],
    [(3, 3, 2, 4), (3, 3, 1, 4), (1, 1, 4, 4), (1, 1, 4, 5), (5, 3)],
    strict=True,
  )
}
ACTIVATIONS = [s for s in NET.workload.sites if not s.endswith(".weight")]
TENSORS = {
  site: (RANDOM.standard_normal((3, 4, 4, 6)) * 2.0 ** RANDOM.integers(-3, 3))
  .astype(np.float32)
  .round(2)
  for site in ACTIVATIONS
}
FORMATS = [(3, 8, 4), (5, 2, 1), (2, 3, 4)]
ELEMENTS = {
  name: published_formats.priced(microscaling.Format(name, 4))
  for name in ("E4M3", "E2M3", "E2M1")
}


def tile(site, size):
  op = {node.name: node.op for node in NET.nodes}.get(site.split(".")[0])
  if not site.endswith("weight"):
    return (1, 1, 1, size)
  if op == "linear":
    return (size, 1)
  return (0, 0, 1, size) if op == "depthwise" else (0, 0, size, 1)


def test_noise_is_the_squared_error_of_each_format():
  found = block_noise.noises(NET, WEIGHTS, TENSORS, FORMATS, BlockFloat((1, 4)))
  assert list(found) == list(NET.workload.sites)
  for site, noise in found.items():
    is_weight = site.endswith("weight")
    x = WEIGHTS[f"{site[:-7]}_kernel"] if is_weight else TENSORS[site]
    if not is_weight and site != "input.out" and not NET.is_signed[site]:
      x = np.maximum(x, 0)
    top = int(np.frexp(np.abs(x).max())[1] - 1)
    for i, (bits, exponent_bits, size) in enumerate(FORMATS):
      y = bfp_oracle.by_formula(
        x, bits, tile(site, size), "nearest", exponent_bits, top
      )
      squared = np.sum((y.astype(np.float64) - x) ** 2)
      squared /= 1 if is_weight else len(x)
      zeroed = np.mean(y[x != 0] == 0)
      np.testing.assert_allclose(noise.squared[i], squared, rtol=1e-5)
      np.testing.assert_allclose(noise.zeroed[i], zeroed, rtol=1e-5)


def test_noise_of_elements_is_that_of_their_definition():
  """FP32 has none, whatever stands beside it."""
  scheme = Microscaling((4,), has_floats=True)
  net_rows = lambda f: rows_of(NET, dict.fromkeys(NET.workload.sites, f))
  rows = [tuple(net_rows(f)[0].tolist()) for f in (*ELEMENTS.values(), FP32)]
  found = block_noise.noises(NET, WEIGHTS, TENSORS, rows, scheme)
  for site, noise in found.items():
    is_weight = site.endswith("weight")
    x = WEIGHTS[f"{site[:-7]}_kernel"] if is_weight else TENSORS[site]
    if not is_weight and site != "input.out" and not NET.is_signed[site]:
      x = np.maximum(x, 0)
    whole = tuple(size or 1 for size in tile(site, 4))
    for i, name in enumerate(ELEMENTS):
      y = by_definition(x, name, whole)
      squared = np.sum((y.astype(np.float64) - x) ** 2)
      squared /= 1 if is_weight else len(x)
      np.testing.assert_allclose(noise.squared[i], squared, rtol=1e-5)
    assert noise.squared[-1] == noise.zeroed[-1] == 0


def test_rows_of_other_formats_are_refused():
  nvfp4 = published_formats.priced(microscaling.FORMATS["NVFP4"])
  for wrong in (bitq_format(8, 3, 4), nvfp4):
    formats = dict.fromkeys(NET.workload.sites, wrong)
    with pytest.raises(ValueError, match="expected FP32 or an element of"):
      rows_of(NET, formats)


def test_tops_are_those_of_activations_after_their_relu():
  tensors = {s: -np.abs(x) for s, x in TENSORS.items()}
  tensors["a.out"][0, 0, 0, 0] = 5.0
  tops = dict(
    zip(NET.workload.sites, block_noise.tops(NET, tensors), strict=True)
  )
  assert tops["a.out"] == 2 and tops["a.weight"] == 0
  assert tops["d.out"] == -126  # nothing is left of it
  assert NET.is_signed["c.out"]
  largest = np.abs(tensors["c.out"]).max()
  assert tops["c.out"] == np.floor(np.log2(largest))


def test_a_tensor_without_data_is_named():
  lacking = {s: x for s, x in TENSORS.items() if s != "d.out"}
  with pytest.raises(ValueError, match="no calibration data for.*d.out"):
    block_noise.noises(NET, WEIGHTS, lacking, FORMATS, BlockFloat((1, 4)))


def test_predictions_go_through_what_was_measured():
  noise = np.array([1e-4, 1e-2, 1.0, 1e2])
  found = format_losses.fit(noise, {1: 0.01, 3: 1.0})
  # Slope 1/2 between them, 1 below.
  np.testing.assert_allclose(found, [1e-4, 0.01, 0.1, 1.0])


positive = st.floats(1e-12, 1e6)


@given(
  st.lists(positive, min_size=2, max_size=12),
  st.lists(positive, min_size=2, max_size=4),
)
def test_predictions_never_fall_as_noise_rises(noise, kl):
  noise = np.array(noise)
  known = dict(zip(range(len(noise)), kl, strict=False))
  found = format_losses.fit(noise, known)
  order = np.argsort(noise)
  assert (np.diff(found[order]) >= -1e-12 * found[order][1:]).all()
  assert np.isfinite(found).all() and (found > 0).all()


def test_no_noise_is_no_loss():
  found = format_losses.fit(np.array([0.0, 4.0, 1.0]), {1: 2.0})
  np.testing.assert_allclose(found, [0.0, 2.0, 0.5])
  assert not format_losses.fit(np.zeros(3), {}).any()
  with pytest.raises(ValueError, match="none of them measured"):
    format_losses.fit(np.ones(3), {})


def test_second_order_is_proportional_to_noise():
  noise = np.array([0.0, 1e-3, 1e-2, 10.0])
  # Factors 4 and 1 of the small ones, whose geometric mean is 2.
  known = {1: 4e-3, 2: 1e-2, 3: 22.0}
  found = format_losses.second_order(noise, known)
  np.testing.assert_allclose(found, 2 * noise)
  found = format_losses.second_order(noise, {3: 22.0})
  np.testing.assert_allclose(found, 2.2 * noise)
  assert not format_losses.second_order(noise, {}).any()


def test_anchors_span_the_noise():
  noise = np.array([0.0, 1.0, 1e-6, 1e-3, 2e-3, 0.9])
  assert format_losses.anchors(noise, 3) == [1, 2, 3]
  assert format_losses.anchors(noise, 2) == [1, 2]
  assert format_losses.anchors(np.array([0.0, 3.0]), 4) == [1]
  assert format_losses.anchors(np.zeros(2), 4) == []


def fake_judge(seen, images=4):
  """Logits that move by the format of one tensor alone."""
  sites = NET.workload.sites

  def forward(variables, images, rows):
    seen.append(np.asarray(rows))
    loss = np.where(rows[:, 0] < 25, 1.0 / rows[:, 0], 0.0)
    gain = np.arange(len(sites)) * 0.1
    return np.tile(np.array([loss @ gain, 0.0, 1.0]), (len(images), 1))

  return format_losses.FormatJudge(
    NET, forward, {}, np.zeros((images, 6, 6, 2)), 2
  )


def test_one_tensor_alone_is_quantized():
  seen = []
  judge = fake_judge(seen)
  reference = format_losses.reference(judge)
  coarse, fine = bitq_format(8, 5, 4), bitq_format(8, 2, 4)
  points = [("a.out", coarse), ("fc.weight", coarse), ("fc.weight", fine)]
  found = format_losses.measured(judge, reference, points)
  assert found["a.out", coarse] < found["fc.weight", coarse]
  assert found["fc.weight", fine] < found["fc.weight", coarse]
  changed = [(rows[:, 0] != 25).sum() for rows in seen]
  assert changed == [0, 0, *[1] * 6]  # two batches each


def test_images_that_fill_no_batch_are_refused():
  with pytest.raises(ValueError, match="5 images, expected a multiple of 2"):
    fake_judge([], 5)


def test_logits_that_are_not_finite_are_refused():
  judge = format_losses.FormatJudge(
    NET,
    lambda v, x, rows: np.full((len(x), 3), np.nan),
    {},
    np.zeros((2, 6, 6, 2)),
    2,
  )
  with pytest.raises(ValueError, match="not finite"):
    format_losses.reference(judge)


def test_the_scale_is_the_ratio_of_sums():
  assert format_losses.scale([1.0, 3.0], [0.01, 0.11]) == pytest.approx(0.03)
  assert format_losses.scale([1.0], [-0.5]) == 1e-6  # no gain from noise
  with pytest.raises(ValueError, match="expected more than 0"):
    format_losses.scale([0.0], [0.1])


def test_agreement_ranks_and_measures():
  found = format_losses.agreement([1.0, 2.0, 4.0], [2.0, 4.0, 2.0])
  assert found.factor == pytest.approx(2.0)
  assert -1 < found.spearman < 1
  with pytest.raises(ValueError, match="two at least"):
    format_losses.agreement([1.0], [1.0])
