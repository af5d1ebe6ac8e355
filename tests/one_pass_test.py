"""Means set right in one pass: as in one pass for each layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fbq.model import Model
from fbq.nets.graph import INPUT, Net
from fbq.nets.node import Node
from fbq.ptq import bias_correction, one_pass
from fbq.schemes.fixed import Fixed


def net(norm):
  return Net(
    "means",
    (6, 6, 2),
    (
      Node("a", "conv", (INPUT,), 4, (3, 3), 1, 1, norm=norm, bias=not norm,
           activation="relu"),
      Node("b", "depthwise", ("a",), None, (3, 3), 1, 1, norm=norm,
           bias=not norm, activation="relu", clip=1.0),
      Node("c", "linear", ("b",), 5, bias=True, is_output=True),
    ),
  )  # fmt: skip


def case(norm):
  images = jax.random.uniform(jax.random.key(0), (16, 6, 6, 2))
  model = Model(net(norm), Fixed())
  bits = jnp.full(len(model.net.workload.sites), 3, jnp.int32)
  made = model.init(jax.random.key(1), images, False, bits)
  reference = {
    "params": made["params"],
    "batch_stats": made.get("batch_stats", {}),
  }
  return model, images, bits, reference, {**reference, "ranges": made["ranges"]}


def test_biases_are_those_of_a_pass_for_each_layer():
  model, images, bits, reference, variables = case(norm=False)
  found = one_pass.correct(
    model.net, Fixed(), variables, reference, images, bits
  )
  # Clips come before what that sees, so only where none is before it
  expected = bias_correction.correct(
    model, variables, reference, [images], bits
  )
  np.testing.assert_allclose(
    found["params"]["a_bias"], expected["params"]["a_bias"], atol=1e-6
  )
  assert np.abs(found["params"]["a_bias"]).max() > 1e-3


@pytest.mark.parametrize("norm", [False, True])
def test_outputs_have_the_means_of_the_float_network(norm):
  model, images, bits, reference, variables = case(norm)
  found = one_pass.correct(
    model.net, Fixed(), variables, reference, images, bits
  )
  found = jax.tree.map(jnp.asarray, found)
  wanted = Model(model.net).apply(reference, images, False).mean(0)
  got = model.apply(found, images, False, bits).mean(0)

  # But for what `Fixed` rounds off the bias of outputs, at 3 bits
  bias, ranges = found["params"]["c_bias"], found["ranges"]
  unit = ranges["c.weight"] / 4 * ranges["b.out"] / 7
  off = bias - jnp.round(bias / unit) * unit
  np.testing.assert_allclose(got + off, wanted, atol=1e-5)


def test_norms_get_the_statistics_of_what_the_quantized_layers_make():
  """As flax itself estimates them in training, a momentum of 0.9 taken off."""
  model, images, bits, reference, variables = case(norm=True)
  found = one_pass.correct(
    model.net, Fixed(), variables, reference, images, bits
  )
  _, moved = model.apply(variables, images, True, bits, mutable=["batch_stats"])
  for name in ("a_norm", "b_norm"):
    for kind in ("mean", "var"):
      old = np.asarray(reference["batch_stats"][name][kind], np.float64)
      new = np.asarray(moved["batch_stats"][name][kind], np.float64)
      np.testing.assert_allclose(
        found["batch_stats"][name][kind],
        (new - 0.9 * old) / 0.1,
        rtol=1e-4,
        atol=1e-5,
      )
