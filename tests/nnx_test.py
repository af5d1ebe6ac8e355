"""A network of fbq as a module of Flax's newer interface, nnx."""

import chex
import jax
import numpy as np
import optax
import pytest
from flax import nnx

import fbq

NET = fbq.Net(
  "two",
  (8, 8, 1),
  (
    fbq.Node(
      *("conv", "conv", ("input",), 4, (3, 3)), norm=True, activation="relu"
    ),
    fbq.Node("pool", "avg_pool", ("conv",), kernel=None),
    fbq.Node("fc", "linear", ("pool",), 3, bias=True, is_output=True),
  ),
)
LINEN = fbq.Model(NET, fbq.Fixed())
IMAGES = jax.random.uniform(jax.random.key(0), (5, *NET.input_shape))
LABELS = np.arange(5) % 3


def bits(number):
  return fbq.precision.to_array(NET, fbq.precision.uniform(NET, number))


def bridged():
  rngs = nnx.Rngs(params=jax.random.key(1))
  module = nnx.bridge.ToNNX(LINEN, rngs=rngs)
  return module.lazy_init(IMAGES, False, bits(8))


def of_linen(module):
  """Linen's variables that hold the numbers of a bridged module."""
  attributes = {
    name: value
    for name, value in vars(module).items()
    if not name.startswith(("to_nnx__", "_pytree__"))
  }
  return nnx.bridge.variables.nnx_attrs_to_linen_vars(attributes)


def loss_of(logits):
  return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()


@pytest.mark.parametrize("number", [2, 8])
def test_a_model_bridged_to_nnx_trains_alike(number):
  """Logits, a step of an nnx optimizer, and the running statistics."""
  module = bridged()
  variables = of_linen(module)
  assert set(variables) == {"params", "ranges", "batch_stats"}
  np.testing.assert_array_equal(
    module(IMAGES, False, bits(number)),
    LINEN.apply(variables, IMAGES, False, bits(number)),
  )

  # In nnx: the module changes
  def in_nnx(module):
    mutable = ["batch_stats"]
    return loss_of(module(IMAGES, True, bits(number), mutable=mutable))

  optimizer = nnx.Optimizer(module, optax.sgd(0.1), wrt=nnx.Param)
  loss, gradients = nnx.value_and_grad(in_nnx)(module)
  optimizer.update(module, gradients)

  # In Linen: functions of trees
  def in_linen(params):
    logits, moved = LINEN.apply(
      *({**variables, "params": params}, IMAGES, True, bits(number)),
      mutable=["batch_stats"],
    )
    return loss_of(logits), moved["batch_stats"]

  (expected, moved), gradients = jax.value_and_grad(in_linen, has_aux=True)(
    variables["params"]
  )
  trained = jax.tree.map(
    lambda x, g: x - 0.1 * g, variables["params"], gradients
  )
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  found = of_linen(module)
  chex.assert_trees_all_close(found["params"], trained, rtol=1e-5, atol=1e-7)
  chex.assert_trees_all_close(found["batch_stats"], moved, rtol=1e-5)
  assert not np.allclose(gradients["conv_kernel"], 0)
