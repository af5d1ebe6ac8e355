"""A network computed row by row: the same as all of it at once."""

import jax
import numpy as np
import pytest
from deploy_cases import MIX
from deploy_cases import variables as with_ranges

from fbq import precision
from fbq.model import Model
from fbq.ptq.walk import Walk
from fbq.schemes.fixed import Fixed


@pytest.mark.parametrize("scheme", [None, Fixed()], ids=["float", "fixed"])
def test_every_row_is_that_of_the_whole(scheme):
  """In float by all that the model sows, quantized by what follows of it."""
  variables = with_ranges(MIX)
  images = jax.random.uniform(jax.random.key(2), (4, *MIX.input_shape))
  bits = precision.to_array(MIX, precision.uniform(MIX, 4))
  data = None if scheme is None else bits
  logits, seen = Model(MIX, scheme).apply(
    variables, images, False, data, mutable=["intermediates"]
  )
  walk = Walk(MIX, variables, [images[:2], images[2:]], scheme, data)
  made = {}
  for node in MIX.nodes:
    assert [len(x) for x in walk.read(node.name)] == [len(node.inputs)] * 2
    made[node.name] = np.concatenate(walk.step(node.name, variables))
    expected = np.asarray(seen["intermediates"][node.name][0])
    if node.activation == "relu":
      expected = np.maximum(expected, 0)
    if scheme is None:
      np.testing.assert_allclose(made[node.name], expected, atol=1e-5)
  np.testing.assert_allclose(made["fc"], logits, rtol=1e-5, atol=1e-5)
  if scheme is not None:  # codes of 4 bits
    assert len(np.unique(made["b"])) <= 16


def test_what_no_later_layer_reads_is_forgotten():
  variables = with_ranges(MIX)
  images = jax.random.uniform(jax.random.key(2), (2, *MIX.input_shape))
  walk = Walk(MIX, variables, [images])
  for node in MIX.nodes[:4]:
    walk.step(node.name, variables)
  assert set(walk._tensors) == {"half", "c"}  # both operands of the sum
