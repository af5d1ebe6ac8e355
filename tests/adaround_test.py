"""Adaptive rounding against every rounding there is, and single layers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ptq_cases import variables

from fbq.model import Model
from fbq.nets import Net, Node
from fbq.ptq import adaround
from fbq.quantizers import affine, range_rules

NET = Net(
  "tiny",
  (4, 4, 2),
  (
    Node("a", "conv", ("input",), 4, (3, 3), 2, 1, bias=True),
    Node("b", "depthwise", ("a",), 0, (3, 3), 1, 1, activation="relu"),
    Node("c", "conv", ("b",), 3, bias=True, layer_scale=0.5),
    Node("pool", "avg_pool", ("c",), kernel=None),
    Node("fc", "linear", ("pool",), 2, bias=True, is_output=True),
  ),
)
LINEAR = Net(
  "linear", (1, 1, 6), (Node("fc", "linear", ("input",), 24, is_output=True),)
)
QUICK = adaround.Settings(steps=400, learning_rate=0.03, strength=0.05)


def correlated(count, features, random):
  """Positive and of two factors mostly: errors of weights can cancel."""
  factors = np.abs(random.normal(size=(count, 2)))
  x = factors @ np.abs(random.normal(size=(2, features)))
  noise = 0.1 * np.abs(random.normal(size=x.shape))
  return (x + noise).astype(np.float32).reshape(count, 1, 1, features)


def grid_of(kernel, bits, form):
  low, high = range_rules.min_max(range_rules.columns(kernel, True))
  return affine.grid(jnp.asarray(low), jnp.asarray(high), bits, form)


@pytest.mark.parametrize("form", ["affine", "restricted"])
def test_among_the_best_of_all_roundings(form):
  """Six weights of each output: 64 roundings, with their errors in numpy.

  It descends from where nothing is rounded, so it need not find the best one.
  """
  random = np.random.default_rng(0)
  kernel = random.normal(size=(6, 24)).astype(np.float32)
  x = correlated(128, 6, random)
  targets = x[:, 0, 0] @ kernel
  grid = grid_of(kernel, jnp.int32(3), form)
  found = adaround.round_layer(
    *(LINEAR, "fc", {"fc_kernel": kernel}, grid, x, targets),
    *(jax.random.key(0), QUICK),
  )
  step, zero, low, high = (np.asarray(part, float) for part in grid[:4])
  errors = []
  for up in itertools.product((0, 1), repeat=6):
    position = np.floor(kernel / step) + np.array(up)[:, None]
    rounded = np.clip(position, low - zero, high - zero) * step
    errors.append(np.square(x[:, 0, 0] @ rounded - targets).mean(0))
  got = np.square(x[:, 0, 0] @ found.kernel - targets).mean(0)
  nearest = np.asarray(affine.quantize(jnp.asarray(kernel), grid))
  plain = np.square(x[:, 0, 0] @ nearest - targets).mean(0)
  assert found.error == pytest.approx(got.mean(), rel=1e-3)
  assert found.nearest_error == pytest.approx(plain.mean(), rel=1e-3)
  assert got.mean() < 0.7 * plain.mean()
  better = lambda error: np.mean(errors < error * (1 - 1e-4))
  assert better(got) < 0.6 * better(plain)
  # On the grid, and one of the two neighbours of each weight.
  on_grid = affine.quantize(jnp.asarray(found.kernel), grid)
  np.testing.assert_allclose(on_grid, found.kernel, atol=1e-6)
  inside = (kernel > (low - zero) * step) & (kernel < (high - zero) * step)
  assert (np.abs(found.kernel - kernel) < step * (1 + 1e-5))[inside].all()


@pytest.mark.parametrize("name", ["a", "b", "c", "fc"])
def test_a_layer_alone_makes_what_it_makes_in_the_network(name):
  params = variables(NET)["params"]
  images = (
    np.random.default_rng(2).uniform(size=(3, 4, 4, 2)).astype(np.float32)
  )
  _, seen = Model(NET).apply(
    {"params": params}, images, False, mutable="intermediates"
  )
  tensors = {key: value[0] for key, value in seen["intermediates"].items()}
  tensors |= {"input": images, "b.relu": jax.nn.relu(tensors["b"])}
  source = {"c": "b.relu"}.get(name, NET.node[name].inputs[0])
  layer = adaround.alone(NET, name)
  own = {key: x for key, x in params.items() if key.startswith(f"{name}_")}
  found = Model(layer).apply({"params": own}, tensors[source], False)
  np.testing.assert_allclose(found, tensors[name], rtol=1e-5, atol=1e-6)


def test_a_depthwise_layer_and_the_same_key():
  params = variables(NET)["params"]
  x = np.tile(correlated(32, 4, np.random.default_rng(1)), (1, 2, 2, 1))
  layer = adaround.alone(NET, "b")
  own = {"b_kernel": params["b_kernel"]}
  targets = np.asarray(Model(layer).apply({"params": own}, x, False))
  grid = grid_of(params["b_kernel"], jnp.int32(2), "symmetric")
  settings = adaround.Settings(steps=60, batch=16, learning_rate=0.1)
  runs = [
    adaround.round_layer(
      *(NET, "b", params, grid, x, targets, jax.random.key(1), settings)
    )
    for _ in range(2)
  ]
  assert runs[0].error < 0.9 * runs[0].nearest_error
  np.testing.assert_array_equal(runs[0].kernel, runs[1].kernel)


def test_roundings_start_where_weights_are_and_end_exactly():
  """Eq. 23: the sigmoid is stretched so that 0 and 1 are reached."""
  share = np.float32([0.0, 0.1, 0.5, 0.999])
  start = adaround._inverse(share)
  np.testing.assert_allclose(adaround._share(start), share, atol=1e-6)
  ends = adaround._share(jnp.float32([-4.0, 4.0]))
  np.testing.assert_array_equal(ends, [0, 1])


def test_mistakes_are_refused():
  x = np.zeros((3, 4, 4, 2), np.float32)
  grid = grid_of(np.ones((1, 4)), 4, "affine")
  args = {}, grid, x, x, jax.random.key(0)
  with pytest.raises(ValueError, match="'pool' is no layer with weights"):
    adaround.round_layer(NET, "pool", *args)
  with pytest.raises(ValueError, match="3 inputs, 3 targets.*32"):
    adaround.round_layer(NET, "a", *args)
