"""Recipes on small networks, calibration and AdaRound layer by layer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ptq_cases import variables

from fbq.model import Model
from fbq.nets import Net, Node
from fbq.ptq import adaround, calibration, rounding
from fbq.ptq.bench import Bench, programs
from fbq.ptq.recipes import Recipe, grids
from fbq.quantizers import range_rules
from fbq.schemes import gridded

_NORMED = dict(norm=True, activation="relu")
NET = Net(
  "tiny",
  (6, 6, 2),
  (
    Node("a", "conv", ("input",), 4, (3, 3), 1, 1, **_NORMED),
    Node("b", "depthwise", ("a",), 0, (3, 3), 2, 1, **_NORMED),
    Node("c", "conv", ("b",), 4, norm=True),
    Node("sum", "add", ("b", "c"), activation="relu"),
    Node("pool", "avg_pool", ("sum",), kernel=None),
    Node("fc", "linear", ("pool",), 3, bias=True, is_output=True),
  ),
)
VARIABLES = variables(NET)
IMAGES = np.random.default_rng(3).uniform(size=(16, 6, 6, 2))
IMAGES = IMAGES.astype(np.float32)
BENCH = Bench(
  NET,
  VARIABLES,
  [jnp.asarray(IMAGES[i : i + 4]) for i in range(0, 16, 4)],
  rounding=adaround.Settings(300, 8, 0.03, strength=0.05),
  few=3,
)
W4A8 = Recipe(4, 8, weight_rule="least_squares")
every = jax.jit(
  lambda v, x: Model(NET).apply(v, x, False, mutable=["intermediates"]),
)
LOGITS, SEEN = every(VARIABLES, IMAGES)
SEEN = {name: np.asarray(x[0]) for name, x in SEEN["intermediates"].items()}


def logits(quantized):
  return BENCH.logits(quantized, IMAGES, 8)


def noise(recipe):
  """Mean squared error of the logits."""
  return np.square(logits(BENCH.apply(recipe)) - np.asarray(LOGITS)).mean()


def test_everything_left_in_float_is_the_float_network():
  scale = np.abs(LOGITS).max()
  np.testing.assert_allclose(
    logits(BENCH.in_float()), LOGITS, atol=1e-5 * scale
  )
  unfolded = BENCH.apply(Recipe(None, None, steps=()))
  np.testing.assert_allclose(logits(unfolded), LOGITS, atol=1e-5 * scale)


def test_histograms_are_of_what_quantizers_find():
  """Behind the ReLU where there is one; equalized channels have others."""
  found = BENCH.histograms
  assert set(found) == {"input.out", *(f"{n}.out" for n in "abc"), "sum.out"}
  for site, histogram in found.items():
    x = IMAGES if site == "input.out" else SEEN[site.removesuffix(".out")]
    x = x if NET.is_signed[site] or site == "input.out" else np.maximum(x, 0)
    assert histogram.low == pytest.approx(x.min(), abs=1e-5)
    assert histogram.high == pytest.approx(x.max(), rel=1e-5)
    assert histogram.counts.sum() + histogram.zeros == x.size
    assert len(histogram.lows) == 4
  assert BENCH.equalized_histograms["c.out"].high == pytest.approx(
    found["c.out"].high, rel=1e-4
  )
  assert BENCH.equalized_histograms["a.out"].high != found["a.out"].high


def test_no_order_of_batches_or_images_changes_a_grid():
  net, folded = BENCH.folded
  images = np.random.default_rng(0).permutation(IMAGES)
  shuffled = calibration.calibrate(
    programs(net).observe, folded, list(images.reshape(4, 4, 6, 6, 2))
  )
  for rule in ("min_max", "percentile", "least_squares", "kullback_leibler"):
    recipe = dataclasses.replace(W4A8, activation_rule=rule)
    one, other = (
      grids(net, folded["params"], histograms, recipe)
      for histograms in (BENCH.histograms, shuffled)
    )
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_tensor_that_is_not_finite_is_named():
  net, folded = BENCH.folded
  bad = IMAGES[:4].copy()
  bad[2, 1, 1, 0] = np.nan
  observe = programs(net).observe
  # The image comes first, though "a.out" does by its name.
  with pytest.raises(
    ValueError, match="data of 'input.out': values of batch 1 are not"
  ):
    calibration.calibrate(observe, folded, [IMAGES[:4], bad])
  with pytest.raises(ValueError, match="no calibration batches"):
    calibration.calibrate(observe, folded, [])
  params = dict(folded["params"], b_kernel=np.full((3, 3, 1, 4), np.inf))
  with pytest.raises(ValueError, match="b_kernel.*finite"):
    grids(net, params, {}, Recipe(8, None))


def test_grids_have_the_bits_that_the_recipe_says():
  net, folded = BENCH.folded
  data = BENCH.apply(Recipe(4, 3, "affine")).data
  for site, (grid, on) in data.items():
    bits = 4 if site.endswith(".weight") else NET.fixed_bits.get(site, 3)
    assert on and (grid.high - grid.low == 2**bits - 1).all(), site
    assert grid.step.shape == (() if site.endswith(".out") else (4,)) or (
      site == "fc.weight"
    )
  assert data["input.out"].grid.step == np.float32(1 / 255)
  # Adders have 8 bits, and what can be negative a zero-point.
  assert NET.fixed_bits["c.out"] == 8 and data["c.out"].grid.zero_point > 0
  assert data["a.out"].grid.zero_point == 0
  # A range per channel, but for the classifier.
  kernel = folded["params"]["a_kernel"]
  ends = range_rules.min_max(range_rules.columns(kernel, True))
  np.testing.assert_allclose(
    data["a.weight"].grid.step, (ends.high - ends.low) / 15, rtol=1e-6
  )
  assert len(set(data["fc.weight"].grid.step.tolist())) == 1
  layers = BENCH.apply(Recipe(4, None, per_channel=False)).data
  assert len(set(layers["a.weight"].grid.step.tolist())) == 1
  assert not layers["a.out"].on and not layers["input.out"].on
  assert not BENCH.apply(Recipe(None, 4)).data["a.weight"].on


def test_bits_and_steps_do_what_they_are_for():
  errors = [noise(Recipe(bits, bits)) for bits in (8, 6, 4, 2)]
  assert errors == sorted(errors)
  assert errors[0] < 1e-3 * np.square(LOGITS).mean()
  corrected = dataclasses.replace(W4A8, steps=("fold", "correct"))
  assert noise(corrected) < noise(W4A8)
  equalized = dataclasses.replace(
    W4A8, steps=("fold", "equalize"), per_channel=False
  )
  assert noise(equalized) != noise(dataclasses.replace(W4A8, per_channel=False))


def test_what_a_layer_reads_makes_what_it_makes():
  """Alone, from quantized inputs, every layer makes the network's tensor."""
  net, folded = BENCH.folded
  data = BENCH.apply(Recipe(None, 4)).data
  seen = programs(net).tensors(folded, IMAGES[:4], data)
  assert set(seen) == {"a", "b", "c", "fc"}
  for name, (inputs, outputs) in seen.items():
    layer = adaround.alone(net, name)
    own = {
      k: x for k, x in folded["params"].items() if k.startswith(f"{name}_")
    }
    run = jax.jit(
      lambda p, x, layer=layer: Model(layer).apply({"params": p}, x, False),
    )
    np.testing.assert_allclose(run(own, inputs), outputs, rtol=1e-4, atol=1e-5)


def test_adaround_leaves_weights_on_their_grids_and_makes_less_noise():
  net, folded = BENCH.folded
  recipe = Recipe(3, 8, weight_rule="least_squares")
  rounded = BENCH.apply(dataclasses.replace(recipe, steps=("fold", "round")))
  moved = 0
  for node in net.nodes:
    if not node.has_weights:
      continue
    grid, _ = rounded.data[f"{node.name}.weight"]
    kernel = rounded.variables["params"][f"{node.name}_kernel"]
    codes = kernel / grid.step
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-4)
    nearest = np.rint(folded["params"][f"{node.name}_kernel"] / grid.step)
    moved += (np.rint(codes) != np.clip(nearest, grid.low, grid.high)).sum()
  assert moved > 0
  error = np.square(logits(rounded) - np.asarray(LOGITS)).mean()
  assert error < noise(recipe)
  both = BENCH.apply(
    dataclasses.replace(recipe, steps=("fold", "round", "correct"))
  )
  kernels = (q.variables["params"]["a_kernel"] for q in (rounded, both))
  np.testing.assert_array_equal(*kernels)
  in_float = gridded.data(net, {})
  kept = rounding.round_network(
    programs(net).tensors,
    *(net, folded["params"], in_float, BENCH.batches[:1]),
    *(jax.random.key(0), BENCH.rounding),
  )
  jax.tree.map(np.testing.assert_array_equal, kept, folded["params"])


@pytest.mark.parametrize(
  "wrong, message",
  [
    (dict(weight_bits=9), "weight_bits is 9"),
    (dict(weight_form="unsigned"), "weight_form is 'unsigned'"),
    (dict(activation_rule="mse"), "activation_rule is 'mse'"),
    (dict(steps=("correct", "fold")), "in this order"),
    (dict(steps=("equalize",)), "'equalize' needs folded"),
    (
      dict(weight_rule="sawb", weight_bits=4),
      "'sawb', weight_bits 4, per_channel True, expected 2 to 4 bits and one "
      "range for a layer.*9 weights of a depthwise channel",
    ),
    (dict(weight_rule="sawb", per_channel=False), "weight_bits 8.*2 to 4 bits"),
  ],
)
def test_recipes_that_cannot_be_are_refused(wrong, message):
  with pytest.raises(ValueError, match=message):
    Recipe(**wrong)


def test_recipes_have_different_names():
  names = [
    Recipe(steps=steps, per_channel=per_channel).name
    for steps in ((), ("fold",), ("fold", "round"), ("fold", "correct"))
    for per_channel in (True, False)
  ]
  assert len(set(names)) == len(names)
