"""Training in bfloat16: what is exact in it, and that it learns the same."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from backend_test import BATCH, SCHEMES, SMALL, programs
from model_cases import IMAGES, NET, calibrated
from stablehlo import lowered, products_of_strided_slices

from fbq import backend, halves, precision
from fbq.model import Model
from fbq.quantizers import uniform
from fbq.schemes.fixed import Fixed
from fbq.schemes.free_bits import FreeBits
from fbq.schemes.groups import gate_groups

CODES = np.arange(-128, 256, dtype=np.float32)


def test_codes_survive_but_codes_times_a_step_do_not():
  """The table of `fbq.halves`, number by number."""
  assert (CODES.astype(ml_dtypes.bfloat16) == CODES).all()
  for step, lost in ((2.0**-7, 0), (3 * 2.0**-8, 127), (1 / 255, 382)):
    numbers = CODES * np.float32(step)
    halved = numbers.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert (halved != numbers).sum() == lost


@hypothesis.given(
  step=st.floats(2.0**-40, 2.0**20, width=32),
  factor=st.integers(-3, 3),
)
@hypothesis.settings(deadline=None)
def test_codes_are_recovered_from_any_step(step, factor):
  """Also where the unit is off by a few units in the last place."""
  unit = np.float32(step)
  for _ in range(abs(factor)):
    unit = np.nextafter(unit, np.float32(np.sign(factor) * np.inf))
  kept = halves.keep(jnp.asarray(CODES * np.float32(step)), unit, "bfloat16")
  assert kept.numbers.dtype == jnp.bfloat16
  np.testing.assert_array_equal(kept.numbers.astype(jnp.float32), CODES)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_product_is_that_of_codes_rounded_once(bits, signed):
  """Sums of up to 2^24 are exact in float32, in any order."""
  random = np.random.default_rng(bits)
  x = random.normal(size=(5, 40)).astype(np.float32)
  kernel = random.normal(size=(40, 3)).astype(np.float32)
  ranges = np.float32(1.37), np.float32([[0.3, 1.7, 2.9]])
  kept, codes = [], []
  for array, range_, sign in zip(
    (x, kernel), ranges, (signed, True), strict=True
  ):
    y = uniform.quantize(array, range_, jnp.int32(bits), sign)
    step = uniform.step(range_, bits, sign)
    kept.append(halves.keep(y, step, "bfloat16"))
    codes.append(
      np.asarray(uniform.codes(array, range_, jnp.int32(bits), sign), int)
    )
  found = jax.jit(lambda x, k: halves.product(jnp.matmul, x, k))(*kept)
  sums = (codes[0] @ codes[1]).astype(ml_dtypes.bfloat16)
  units = np.asarray(kept[0].unit * kept[1].unit.reshape(-1))
  np.testing.assert_array_equal(found, sums.astype(np.float32) * units)


def test_float32_keeps_numbers_as_they_are():
  x = jnp.ones(3)
  assert halves.keep(x, 0.5, "float32") == halves.Kept(x, None)


@pytest.mark.parametrize("name", [*SCHEMES])
def test_what_a_scheme_quantizes_is_kept_exactly(name, monkeypatch):
  """All tensors of a decided network: codes of at most 8 bits."""
  if name in ("float", "hard"):
    pytest.skip("not quantized, or as 'mixture'")
  lost = []
  keep = halves.keep

  def watched(x, unit, compute_dtype):
    kept = keep(x, unit, compute_dtype)
    whole = jnp.round(x / kept.unit)
    is_on_grid = jnp.abs(x / kept.unit - whole).max() < 1e-3
    lost.append((is_on_grid, jnp.abs(kept.numbers - whole).max()))
    return kept

  monkeypatch.setattr(halves, "keep", watched)
  scheme = SCHEMES[name][0](gate_groups(SMALL, False))
  model = Model(SMALL, scheme, compute_dtype="bfloat16")
  sites = len(SMALL.workload.sites)
  run = {
    "bits": jnp.full(sites, 8, jnp.int32),
    "temperature": jnp.float32([1e-6, 1e-6]),
    "temperature_steps": jnp.int32(1),
    "formats": jnp.tile(jnp.int32([8, 5, 16]), (sites, 1)),
    "tops": jnp.zeros(sites, jnp.int32),
  }
  data = scheme.data(run, jnp.int32(0))
  images = jax.random.uniform(jax.random.key(0), (BATCH, 8, 8, 1))
  variables = dict(model.init(jax.random.key(1), images, False, data))
  if "logits" in variables.get("gates", {}):
    logits = variables["gates"]["logits"]
    variables["gates"] |= {"logits": jnp.full_like(logits, 30.0)}
  if name == "mixture":
    shape = variables["gates"]["logits"].shape
    variables["gates"] = {"logits": jnp.zeros(shape).at[:, 2].set(1.0)}
  lost.clear()
  model.apply(variables, images, False, data)
  on_grid = [bool(is_on_grid) for is_on_grid, _ in lost]
  exact = [float(most) == 0 for is_on_grid, most in lost if is_on_grid]
  if name != "blocks":  # their steps differ from block to block
    assert on_grid == [True] * (len(lost) - 1) + [False]  # the logits
  assert all(exact)


def logits_of(scheme, dtype, variables, data):
  model = Model(NET, scheme, compute_dtype=dtype)
  run = jax.jit(lambda v: model.apply(v, IMAGES, False, data))
  return np.asarray(run(variables))


def test_logits_are_close_to_those_of_float32():
  bits = precision.to_array(NET, precision.uniform(NET, 8))
  variables = calibrated()
  exact, halved = (
    logits_of(Fixed(), dtype, variables, bits) for dtype in halves.TYPES
  )
  assert 0 < np.abs(halved - exact).max() < 0.05 * np.ptp(exact)


def test_gradients_point_where_those_of_float32_do():
  scheme = FreeBits(gate_groups(NET, False))
  variables = {
    **calibrated(),
    "gates": {"logits": jnp.zeros((scheme.groups.count, 2))},
  }
  labels = jnp.arange(len(IMAGES)) % 3
  found = []
  for dtype in halves.TYPES:
    model = Model(NET, scheme, compute_dtype=dtype)

    def loss(values, model=model):
      logits, _ = model.apply(
        {**variables, **values}, IMAGES, True, mutable=["batch_stats"]
      )
      return -jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels].mean()

    kinds = {k: variables[k] for k in ("params", "gates")}
    found.append(jax.jit(jax.grad(loss))(kinds))
  for kind in ("params", "gates"):
    exact, halved = (
      np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree[kind])])
      for tree in found
    )
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(found[1][kind]))
    cosine = exact @ halved / np.linalg.norm(exact) / np.linalg.norm(halved)
    assert 0.95 < cosine < 1


@pytest.mark.parametrize("name", ["float", "fixed", "free bits"])
def test_on_a_gpu_all_products_are_of_bfloat16(name):
  with backend.written_for("cuda"):
    (step, arguments), _ = programs(SMALL, name, compute_dtype="bfloat16")
    program = lowered(step, *arguments)
  assert products_of_strided_slices(program) == []
  types = {
    line.split(" : ")[-1]
    for line in program.as_text().splitlines()
    if "stablehlo.convolution" in line or "stablehlo.dot_general" in line
  }
  assert types and all("f32" not in line for line in types)


def test_float32_products_are_fast_in_training_and_exact_elsewhere():
  for platform, expected in (("cuda", "HIGHEST"), ("cpu", "DEFAULT")):
    with backend.written_for(platform):
      training, evaluation = programs(SMALL, "fixed")
      for (function, arguments), found in (
        (training, "DEFAULT"),
        (evaluation, expected),
      ):
        text = lowered(function, *arguments, platform=platform).as_text()
        assert {
          part
          for line in text.splitlines()
          if "stablehlo.convolution" in line or "dot_general" in line
          for part in ("HIGHEST", "DEFAULT")
          if part in line
        } == {found}


def test_other_types_are_refused():
  message = "compute_dtype is 'float16', expected one of .*'bfloat16'"
  with pytest.raises(ValueError, match=message):
    halves.keep(jnp.ones(3), 1.0, "float16")
