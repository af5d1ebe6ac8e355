"""MX formats and NVFP4 against their definitions, in float64 and ml_dtypes."""

import functools
import json

import bfp_oracle
import golden_cases
import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from compiling import AS_SHIPPED

from fbq.quantizers import bfp, microscaling, minifloat, nvfp4
from fbq.quantizers import microscaling_codes as codes
from fbq.quantizers.microscaling import ELEMENTS, FORMATS, RULES
from fbq.train.steps import compile_once

GOLDEN = json.loads((golden_cases.GOLDEN / "dense_golden.json").read_text())[
  "mx"
]
TYPES = {
  "E4M3": ml_dtypes.float8_e4m3fn,
  "E5M2": ml_dtypes.float8_e5m2,
  "E2M3": ml_dtypes.float6_e2m3fn,
  "E3M2": ml_dtypes.float6_e3m2fn,
  "E2M1": ml_dtypes.float4_e2m1fn,
}
SHAPE = (6, 70)
TILE = (1, 32)


def by_definition(x, element, tile, rule="floor"):
  """Section 6.3 of OCP MX v1.0, rounding to elements by ml_dtypes."""
  x = bfp_oracle.flushed(x).astype(np.float64)
  largest = bfp_oracle.largest_of_blocks(np.abs(x), tile)
  most = (
    127 / 64
    if element == "INT8"
    else float(ml_dtypes.finfo(TYPES[element]).max)
  )
  emax, peak = np.frexp(most)[1] - 1, np.where(largest > 0, largest, 1)
  if rule == "rceil":
    exponent = np.ceil(np.log2(peak / most))
  elif rule == "ceil":
    exponent = np.ceil(np.log2(peak)) - emax
  elif rule == "even":
    mantissa_bits = 6 if element == "INT8" else int(element[3])
    unit = np.ldexp(1.0, np.frexp(peak)[1] - 1 - mantissa_bits)
    exponent = np.floor(np.log2(np.floor(peak / unit + 0.5) * unit)) - emax
  else:
    exponent = np.frexp(peak)[1] - 1 - emax
  exponent = np.where(largest > 0, exponent, -127)
  scale = np.ldexp(1.0, np.clip(exponent, -127, 127).astype(int))
  v = np.clip(x / scale, -most, most)
  if element == "INT8":
    p = np.rint(v * 64) / 64
  else:
    p = v.astype(np.float32).astype(TYPES[element]).astype(np.float64)
  return bfp_oracle.flushed((p * scale).astype(np.float32))


def nvfp4_by_definition(x, tile, t=None):
  """Each operation in float32, as docs/facts/dense.md 5 has them."""
  x = bfp_oracle.flushed(x)
  largest = bfp_oracle.largest_of_blocks(np.abs(x), tile)
  t = np.float32(np.abs(x).max() / np.float32(2688)) if t is None else t
  s = np.minimum(largest / np.float32(6) / t, np.float32(448))
  s = s.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
  total = np.clip(s, np.float32(2.0**-6), np.float32(448)) * t
  p = np.clip(x / total, -6, 6).astype(ml_dtypes.float4_e2m1fn)
  return p.astype(np.float32) * total


@functools.partial(compile_once, compiler_options=AS_SHIPPED)
def all_elements(x, rows):
  """One compiled function for all elements."""
  quantize = lambda row: microscaling.quantize(x, row)
  return jax.vmap(quantize)(rows)


def tensor() -> np.ndarray:
  """Blocks of all kinds: ordinary, wide, powers of two, ties, zeros, tiny."""
  random = np.random.default_rng(5)
  x = random.standard_normal(SHAPE).astype(np.float32)
  x[:, 32:64] *= np.exp2(random.integers(-30, 31, (6, 32)))
  x[:2, 64:] = np.sign(x[:2, 64:]) * np.exp2(random.integers(-9, 9, (2, 6)))
  x[2:4, :32] = (random.integers(-64, 64, (2, 32)) + 0.5) / 64
  x[2, 64:] = 0
  x[3, 64:] = 0, -0.0, 1e-40, 0, 0, 0
  x[4:, :32] *= np.float32(2.0**-124)
  x[5, 32:64] *= np.float32(2.0**90)
  return x


def test_golden_block():
  """Values and scales that microxcaling and ml_dtypes confirm."""
  v = np.float32(GOLDEN["vector"])
  for rule in ("floor", "rceil"):
    for name, (expected, exponent) in GOLDEN[rule].items():
      element = ELEMENTS[name.upper()]
      y = microscaling.quantize(v, element, 8, rule=rule)
      bfp_oracle.assert_same_bits(y, np.float32(expected))
      found = microscaling.scale_exponents(v, element, (8,), rule)
      assert found.tolist() == [exponent]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("element", ELEMENTS)
def test_equal_to_the_definition(element, rule):
  x = tensor()
  y = microscaling.quantize(x, ELEMENTS[element], rule=rule)
  bfp_oracle.assert_same_bits(y, by_definition(x, element, TILE, rule))


def test_elements_are_data():
  """One compilation, as shipped, for every element; equal one by one."""
  x, rows = tensor(), microscaling.table()
  found = all_elements(x, rows)
  for y, element in zip(found, ELEMENTS, strict=True):
    bfp_oracle.assert_same_bits(y, by_definition(x, element, TILE))


FINITE = st.floats(-(2.0**20), 2.0**20, width=32, allow_subnormal=False)


@hypothesis.given(
  hnp.arrays(np.float32, SHAPE, elements=FINITE), st.sampled_from(list(TYPES))
)
@hypothesis.settings(max_examples=20, deadline=None)
def test_any_tensor_definition_and_idempotence(x, element):
  y = np.asarray(microscaling.quantize(x, ELEMENTS[element]))
  bfp_oracle.assert_same_bits(y, by_definition(x, element, TILE))
  again = microscaling.quantize(y, ELEMENTS[element])
  bfp_oracle.assert_same_bits(again, y)


@hypothesis.given(hnp.arrays(np.float32, SHAPE, elements=FINITE))
@hypothesis.settings(max_examples=20, deadline=None)
def test_any_tensor_in_nvfp4(x):
  hypothesis.assume(np.abs(x).max() > 1e-20)
  y = nvfp4.quantize(x)
  bfp_oracle.assert_same_bits(y, nvfp4_by_definition(x, (1, 16)))


@pytest.mark.parametrize("t", [None, np.float32(1), np.float32(0.37)])
def test_nvfp4_is_the_same_compiled_as_shipped(t):
  """XLA would join its two divisions, and multiply by a sixth."""
  random = np.random.default_rng(3)
  x = random.standard_normal((400, 48)).astype(np.float32)
  x *= np.exp2(random.integers(-8, 4, (400, 1)))
  arguments = () if t is None else (t,)
  compiled = compile_once(
    lambda x, *t: nvfp4.quantize(x, -1, None, *t), compiler_options=AS_SHIPPED
  )
  y = compiled(x, *arguments)
  bfp_oracle.assert_same_bits(y, nvfp4_by_definition(x, (1, 16), t))


def test_signal_to_noise_of_gaussian():
  """The published order: INT8 first, and E2M3 as good as E4M3."""
  x = np.random.default_rng(1).standard_normal((4000, 32)).astype(np.float32)

  def ratio(y):
    noise = np.mean((np.float64(y) - x) ** 2)
    return 10 * np.log10(np.mean(np.float64(x) ** 2) / noise)

  for name, expected in GOLDEN["sqnr_db"].items():
    if name.upper() in ELEMENTS:
      for rule in RULES:
        y = microscaling.quantize(x, ELEMENTS[name.upper()], rule=rule)
        assert abs(ratio(y) - expected[rule]) < 0.1, (name, rule)
  assert abs(ratio(nvfp4.quantize(x)) - 20.43) < 0.1
  one_level = nvfp4.quantize(x, tensor_scale=jnp.float32(1))
  assert abs(ratio(one_level) - 20.43) < 0.1


@pytest.mark.parametrize("element", TYPES)
def test_codes_are_those_of_the_specification(element):
  """All of them, bit for bit as ml_dtypes has them."""
  known = codes.numbers(element)
  theirs = np.arange(len(known), dtype=np.uint8).view(TYPES[element])
  theirs = theirs.astype(np.float32)
  np.testing.assert_array_equal(
    known, np.where(np.isfinite(theirs), theirs, np.nan)
  )


CASES = [((2, 5, 5, 40), -1), ((3, 3, 70, 5), 2), ((7, 6), 0), ((33,), 0)]


@pytest.mark.parametrize(("shape", "axis"), CASES)
@pytest.mark.parametrize("name", FORMATS)
def test_packed_tensor_is_the_quantized_one(name, shape, axis):
  random = np.random.default_rng(len(shape))
  x = random.standard_normal(shape) * np.exp2(random.integers(-9, 9, shape))
  x, format_ = x.astype(np.float32), FORMATS[name]
  if name == "NVFP4":
    y = nvfp4.quantize(x, axis)
  else:
    y = microscaling.quantize(
      x, ELEMENTS[format_.element], format_.block_size, axis
    )
  encoded = codes.encode(x, format_, axis)
  bfp_oracle.assert_same_bits(codes.decode(encoded), y)

  data = codes.pack(encoded)
  assert len(data) == -(-codes.storage_bits(shape, encoded.tile, format_) // 8)
  again = codes.unpack(data, shape, encoded.tile, format_)
  np.testing.assert_array_equal(again.codes, encoded.codes)
  np.testing.assert_array_equal(again.scales, encoded.scales)
  bfp_oracle.assert_same_bits(codes.decode(again), y)
  with pytest.raises(ValueError, match="expected"):
    codes.unpack(data + b"0", shape, encoded.tile, format_)


def test_layout_of_the_bytes():
  """By hand: 2^0 is field 127; 6 is 0111, -0.5 is 1001, 1 is 0010 as E2M1."""
  x = np.float32([6, -0.5, 1, 0])
  data = codes.pack(codes.encode(x, FORMATS["MXFP4"]))
  assert data == bytes([127, 0b0111_1001, 0b0010_0000])
  x = np.float32([1, -1, 1 / 64, 0])
  data = codes.pack(codes.encode(x, FORMATS["MXINT8"]))
  assert data == bytes([127, 64, 256 - 64, 1, 0])


def test_mxint8_is_block_floating_point_but_for_ties():
  x = np.random.default_rng(2).standard_normal((50, 32)).astype(np.float32)
  y = bfp.quantize(x, bfp.Format(8, 8, 32), rounding="even")
  z = microscaling.quantize(x, ELEMENTS["INT8"])
  bfp_oracle.assert_same_bits(z, y)


def test_exponents_are_cut_not_rounded():
  """microxcaling's Python rounds the logarithm of such maxima up."""
  below = np.nextafter(np.float32(2.0), np.float32(0))
  for steps in range(1, 45):
    x = np.float32([below, 1.0, 0.3])
    below = np.nextafter(below, np.float32(0))
    found = microscaling.scale_exponents(x, ELEMENTS["INT8"], (3,))
    assert found.tolist() == [0], steps


def test_block_minifloats_are_other_formats():
  """BM<4, 3> reaches 480 where E4M3 stops at 448; BM<5, 2> has one exponent
  more."""

  def both(x, name, exponent_bits, mantissa_bits):
    theirs = minifloat.Minifloat(exponent_bits, mantissa_bits)
    return (
      minifloat.quantize(x, theirs, (1, 0), "even"),
      microscaling.quantize(x, ELEMENTS[name], 0),
    )

  theirs, ours = both(np.float32([[479, 1]]), "E4M3", 4, 3)
  assert theirs.tolist() == [[480, 1]] and ours.tolist() == [[448, 1]]
  powers = np.ldexp(np.float32(1), -np.arange(40))[None]
  kept = lambda pair: [int((y > 0).sum()) for y in pair]
  assert kept(both(powers, "E5M2", 5, 2)) == [31 + 2, 30 + 2]
  assert kept(both(powers, "E4M3", 4, 3)) == [15 + 3, 15 + 3]


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_block_with_a_value_that_is_not_finite_is_nan(bad):
  x = np.ones(SHAPE, np.float32)
  x[3, 20] = bad
  y = np.array(microscaling.quantize(x, ELEMENTS["E4M3"]))
  assert np.isnan(y[3, :32]).all()
  y[3, :32] = 1
  np.testing.assert_array_equal(y, 1)
  y = np.array(nvfp4.quantize(x))
  assert np.isnan(y[3, 16:32]).all() and np.isfinite(y[3, :16]).all()
  with pytest.raises(ValueError, match="1 of 420 values are not finite"):
    codes.encode(x, FORMATS["NVFP4"])


def test_gradient_passes_to_all():
  x, g = jnp.asarray(tensor()), jnp.asarray(tensor()[:, ::-1])
  for quantize in (
    nvfp4.quantize,
    functools.partial(microscaling.quantize, element=ELEMENTS["E2M1"]),
  ):
    (dx,) = jax.vjp(quantize, x)[1](g)
    np.testing.assert_array_equal(dx, g)


def test_bad_arguments_are_named():
  x = jnp.ones((2, 2))
  with pytest.raises(ValueError, match="rule is 'up'"):
    microscaling.quantize(x, ELEMENTS["E4M3"], rule="up")
  with pytest.raises(ValueError, match="bfloat16"):
    microscaling.quantize(x.astype(jnp.bfloat16), ELEMENTS["E4M3"])
  with pytest.raises(ValueError, match="int32"):
    nvfp4.quantize(x.astype(jnp.int32))
  with pytest.raises(ValueError, match="axis is 3"):
    nvfp4.quantize(x, 3)


def test_native_products_are_configurations_that_jax_knows():
  native = {f.native for f in FORMATS.values()} - {""}
  assert native == {"mxfp8", "nvfp4"}
  for name in native:
    scale = jnp.ones(1, jnp.float32)
    more = () if name == "mxfp8" else (scale,)
    config = jax.nn.get_scaled_dot_general_config(name, *more)
    (format_,) = (f for f in FORMATS.values() if f.native == name)
    assert config.block_size == format_.block_size
    assert config.data_type == TYPES[format_.element]
