"""No reduction that is to find NaN loses it, however large the tensor is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fbq.nets import Net, Node
from fbq.quantizers import bfp, blocks, extremes, histograms, qat_rules
from fbq.schemes import ranges
from fbq.schemes.fixed import Fixed, Form
from fbq.schemes.scheme import Call

# XLA on a CPU loses NaN from 4,096 elements on.
SHAPES = [(7,), (4095,), (4096,), (4099,), (64, 64), (3, 3, 16, 32)]
NET = Net(
  "wide",
  (8, 8, 64),
  (
    Node("a", "conv", ("input",), 64, (3, 3), padding=1, norm=True),
    Node("pool", "avg_pool", ("a",), kernel=None),
    Node("fc", "linear", ("pool",), 65, is_output=True),
  ),
)


def tensor(shape, bad=None):
  """Random numbers, with `bad` at a random place."""
  random = np.random.default_rng(len(shape))
  x = random.normal(size=shape).astype(np.float32)
  if bad is not None:
    x.reshape(-1)[random.integers(x.size)] = bad
  return x


@pytest.mark.parametrize("bad", [None, np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", SHAPES)
def test_extremes_are_those_of_numpy(shape, bad):
  x = tensor(shape, bad)
  for axes in (None, tuple(range(x.ndim - 1)), (x.ndim - 1,)):
    low, high = jax.jit(extremes.ends, static_argnums=(1, 2))(x, axes, True)
    magnitude = jax.jit(extremes.magnitude, static_argnums=1)(x, axes)
    # numpy keeps a NaN, which then stands at both ends.
    np.testing.assert_array_equal(low, x.min(axes, keepdims=True))
    np.testing.assert_array_equal(high, x.max(axes, keepdims=True))
    np.testing.assert_array_equal(magnitude, np.abs(x).max(axes))


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_histogram_is_not_made_of_what_is_not_finite(shape, bad):
  good, spoilt = (
    jax.jit(histograms.count)(tensor(shape, b)) for b in (None, bad)
  )
  with pytest.raises(ValueError, match="fc.out.* batch 1 are not finite"):
    histograms.merge("fc.out", [good, spoilt])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
  "tile", [(0, 0), (0, 1), (1, 0), (0, 10), (1, 8), (16, 0), (3, 0)]
)
@pytest.mark.parametrize("shape", [(64, 80), (128, 66), (4100, 1)])
def test_a_block_with_a_bad_number_is_told(shape, tile, bad):
  x = tensor(shape, bad)
  fields = np.asarray(jax.jit(blocks.largest_field, static_argnums=1)(x, tile))
  assert (fields == blocks.NOT_FINITE).sum() == 1
  assert bfp.top_exponent(jnp.asarray(x)) == 127


@pytest.mark.parametrize("name", ["a", "fc"])
def test_ranges_of_weights_that_have_nan_are_nan(name):
  shape = {"a": (3, 3, 64, 64), "fc": (64, 65)}[name]
  kernel = tensor(shape, np.nan)
  for find in (ranges.weight_range, ranges.current_weight_range):
    found = np.asarray(jax.jit(find, static_argnums=1)(kernel, NET.node[name]))
    assert np.isnan(found).sum() == 1


@pytest.mark.parametrize("form", [Form(), Form("affine", "affine")])
def test_min_max_ranges_of_data_that_have_nan_are_nan(form):
  """Both ends that a batch is seen to have, and weights' grids."""
  scheme = Fixed(qat_rules.MIN_MAX, form)
  updates = {}
  call = Call(
    NET,
    lambda kind, name, start, *args: start(*args),
    True,
    4,
    jnp.full(len(NET.workload.sites), 8),
    None,
    lambda kind, name, value: updates.update({name: value}),
  )
  quantizer = scheme.quantizer(call)
  x = tensor((4, 8, 8, 64), np.nan)
  quantizer.activation(jnp.asarray(x), "a.out")
  assert np.isnan(updates["a.out"]).any()
  kernel = tensor((3, 3, 64, 64), np.nan)
  y = np.asarray(quantizer.weight(jnp.asarray(kernel), NET.node["a"]))
  channel = np.argwhere(np.isnan(kernel))[0][-1]
  assert np.isnan(y[..., channel]).all()
