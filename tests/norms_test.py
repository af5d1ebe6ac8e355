"""Batch norm that is folded, corrected and frozen, against the plain one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from model_cases import CONV, randomize

from fbq import norms, precision
from fbq.model import Model
from fbq.nets import Net, Node
from fbq.ptq.folding import fold
from fbq.quantizers import qat_rules
from fbq.quantizers.site_ranges import FLOAT_BITS
from fbq.schemes import ranges as range_lib
from fbq.schemes.fixed import Fixed, Form
from fbq.train import optimizer, steps

NET = Net(
  "small",
  (4, 4, 2),
  (
    Node("a", "conv", ("input",), 4, (3, 3), 1, 1, **CONV),
    Node("b", "depthwise", ("a",), 0, (3, 3), 1, 1, **CONV),
    Node("fc", "linear", ("b",), 3, is_output=True),
  ),
)
IMAGES = jax.random.uniform(jax.random.key(0), (6, 4, 4, 2))
LABELS = jnp.arange(6) % 3
WEIGHTS = Form(quantizes="weights")


@functools.cache
def start():
  """Params and statistics, one gamma negative and one all but 0."""
  variables = Model(NET).init(jax.random.key(1), IMAGES, False)
  variables = randomize(dict(variables), jax.random.key(2))
  scale = variables["params"]["a_norm"]["scale"]
  variables["params"]["a_norm"]["scale"] = scale.at[:2].set([-0.8, 1e-9])
  return variables


def wide():
  """With ranges that clip none of the folded weights."""
  model = Model(NET, Fixed(form=WEIGHTS), norms.CORRECT)
  made = steps.complete(model, start(), bits(8))["ranges"]
  return {**start(), "ranges": jax.tree.map(lambda r: 2 * r, made)}


def bits(b):
  every = precision.to_array(NET, precision.uniform(NET, 8))
  return jnp.full_like(jnp.asarray(every), b)


def trained(norm, scheme, frozen=False, variables=None, b=FLOAT_BITS):
  """(logits, statistics, gradients) of a training pass."""
  model = Model(NET, scheme, norm)
  given = start() if variables is None else variables

  def loss(params, frozen):
    extra = {} if norm == norms.ABSORB else {"frozen": frozen}
    logits, moved = model.apply(
      {**given, "params": params},
      IMAGES,
      True,
      bits(b),
      mutable=["batch_stats", "ranges"],
      **extra,
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, LABELS)
    return losses.mean(), (logits, moved["batch_stats"])

  gradient = jax.jit(jax.grad(loss, has_aux=True))
  gradients, (logits, stats) = gradient(given["params"], jnp.bool_(frozen))
  return logits, stats, gradients


def test_it_is_plain_batch_norm_where_nothing_is_quantized():
  """In 24 bits, folded and unfolded, and in floating point."""
  plain = trained(norms.ABSORB, None)
  for scheme in (None, Fixed(form=WEIGHTS)):
    found = trained(norms.CORRECT, scheme, variables=wide())
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5),
      found,
      plain,
    )
  moved = jax.tree.map(
    lambda x, y: float(np.abs(x - y).max()), plain[1], start()["batch_stats"]
  )
  assert min(jax.tree.leaves(moved)) > 1e-3  # statistics did move


def test_frozen_norms_are_those_of_evaluation_and_stand_still():
  logits, stats, gradients = trained(
    norms.CORRECT, Fixed(form=WEIGHTS), frozen=True, variables=wide()
  )
  expected = Model(NET).apply(start(), IMAGES, False)
  np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
  jax.tree.map(
    np.testing.assert_array_equal, stats, dict(start()["batch_stats"])
  )
  assert np.abs(gradients["a_kernel"]).max() > 0


@pytest.mark.parametrize("per_channel", [True, False])
def test_what_is_quantized_is_the_folded_network(per_channel):
  """At 4 bits in evaluation; per layer it is another one than unfolded."""
  form = Form(quantizes="weights", per_channel=per_channel)
  scheme = Fixed(qat_rules.MIN_MAX, form)
  # A fold of 1e-6 or less is not undone: of a channel that has none to show.
  variables = jax.tree.map(jnp.asarray, start())
  variables["params"]["a_norm"]["scale"] = jnp.float32([-0.8, 0.3, 2, 0.9])

  def evaluate(net, variables, norm):
    return Model(net, scheme, norm).apply(variables, IMAGES, False, bits(4))

  found = evaluate(NET, variables, norms.CORRECT)
  folded = evaluate(*fold(NET, variables), norms.ABSORB)
  np.testing.assert_allclose(found, folded, rtol=1e-4, atol=1e-5)
  unfolded = evaluate(NET, variables, norms.ABSORB)
  if not per_channel:
    assert np.abs(found - unfolded).max() > 0.02 * np.abs(folded).max()


def test_the_step_freezes_at_the_step_that_is_given():
  scheme = Fixed()
  model = Model(NET, scheme, norms.CORRECT)
  updates = optimizer.make(8, 0.05, range_learning_rate=0.01)
  kinds = ("params", "ranges")
  step = steps.train_step(model, updates, kinds, lambda key: (IMAGES, LABELS))
  state = steps.initial_state(
    steps.complete(model, start(), bits(4)), kinds, updates
  )
  run = {
    "key": jax.random.key(0),
    "bits": bits(4),
    "freeze_step": jnp.int32(2),
  }
  means, kernels = [], []
  for _ in range(5):
    state, _ = step(state, run)
    means.append(np.asarray(state.variables["batch_stats"]["b_norm"]["mean"]))
    kernels.append(np.asarray(state.variables["params"]["b_kernel"]))
  assert np.abs(means[1] - means[0]).max() > 0
  for later in means[2:]:
    np.testing.assert_array_equal(later, means[1])
  assert np.abs(kernels[4] - kernels[3]).max() > 0


def test_ranges_start_at_the_folded_weights():
  model = Model(NET, Fixed(), norms.CORRECT)
  made = steps.complete(model, start(), bits(8))["ranges"]
  kernel = fold(NET, start())[1]["params"]["b_kernel"]
  expected = range_lib.weight_range(kernel, NET.node["b"])
  np.testing.assert_allclose(made["b.weight"], expected, rtol=1e-5)
