"""The scheme of microscaling formats: what it quantizes, and along what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from block_float_test import TOPS, quantizer, run, variables
from microscaling_test import by_definition, nvfp4_by_definition
from model_cases import IMAGES, NET

from fbq.model import Model
from fbq.nets import Node
from fbq.quantizers.microscaling import ELEMENTS, FORMATS, Format
from fbq.schemes.block_float import Data
from fbq.schemes.microscaling import Microscaling, row_of
from fbq.train.steps import compile_once

SITES = NET.workload.sites


def rows(*names):
  """Formats of every site, one after the other."""
  named = [names[i % len(names)] for i in range(len(SITES))]
  return jnp.array([row_of(Format(name)) for name in named], jnp.int32)


@pytest.mark.parametrize(
  "op, shape, tile",
  [
    ("conv", (3, 3, 40, 2), (1, 1, 32, 1)),
    ("depthwise", (3, 3, 1, 40), (1, 1, 1, 32)),
    ("linear", (70, 3), (32, 1)),
  ],
)
def test_blocks_of_weights_lie_along_the_sum(op, shape, tile):
  kernel = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
  name = {"conv": "a", "depthwise": "b", "linear": "fc"}[op]
  node = Node(name, op, ("input",))
  for element in ELEMENTS:
    y = quantizer(Microscaling(), rows(element)).weight(kernel, node)
    expected = by_definition(kernel, element, tile)
    np.testing.assert_array_equal(y, expected)
  halves = tuple(16 if size == 32 else size for size in tile)
  y = quantizer(Microscaling((16,), "E4M3"), rows("E2M1")).weight(kernel, node)
  np.testing.assert_array_equal(y, nvfp4_by_definition(kernel, halves))


def test_activations_have_the_element_of_their_site_and_no_one_elses_scale():
  x = np.random.default_rng(1).standard_normal((2, 3, 3, 40))
  x = x.astype(np.float32)
  mixed = quantizer(Microscaling(), rows(*ELEMENTS))
  for i, site in enumerate(SITES):
    if not site.endswith(".weight"):
      element = list(ELEMENTS)[i % len(ELEMENTS)]
      given = x if NET.is_signed[site] else np.maximum(x, 0)
      expected = by_definition(given, element, (1, 1, 1, 32))
      np.testing.assert_array_equal(mixed.activation(x, site), expected)

  # 2^5 is above all that calibration saw, so t is 32 / 2688.
  assert TOPS[0] == 4
  y = quantizer(Microscaling((16,), "E4M3"), rows("E2M1")).activation(
    x, "c.out"
  )
  t = np.float32(32) / np.float32(2688)
  np.testing.assert_array_equal(y, nvfp4_by_definition(x, (1, 1, 1, 16), t))


def test_one_trace_serves_all_elements():
  scheme = Microscaling()
  forward = compile_once(
    lambda v, x, d: Model(NET, scheme).apply(v, x, False, d)
  )
  exact = run(None, None)[0]
  found = lambda name: forward(variables(), IMAGES, Data(rows(name), TOPS))
  errors = {name: jnp.abs(found(name) - exact).max() for name in ELEMENTS}
  assert 0 < errors["INT8"] < errors["E4M3"] < errors["E2M1"]


@pytest.mark.parametrize("name", ["MXFP4", "NVFP4"])
def test_images_do_not_depend_on_each_other_and_gradients_pass(name):
  format_ = FORMATS[name]
  scheme = Microscaling((format_.block_size,), format_.scale)
  data = Data(rows(format_.element), TOPS)
  louder = IMAGES.at[3:].multiply(100)
  logits, other = run(scheme, data)[0], run(scheme, data, louder)[0]
  np.testing.assert_array_equal(other[:3], logits[:3])
  loss = lambda v: jnp.sum(
    Model(NET, scheme).apply(v, IMAGES, False, data) ** 2
  )
  for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(variables())["params"]):
    assert jnp.isfinite(leaf).all() and (leaf != 0).any()


def test_unknown_elements_are_nan():
  x = jnp.ones((1, 3, 3, 4))
  unknown = jnp.tile(jnp.array([[7, 3, 32]], jnp.int32), (len(SITES), 1))
  y = quantizer(Microscaling(), unknown).activation(x, "c.out")
  assert jnp.isnan(y).all()
