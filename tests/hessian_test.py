"""Hessian traces against the whole Hessian, and the values made of them."""

import functools

import jax
import jax.numpy as jnp
import model_cases
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from sensitivity_cases import IMAGES, NET, VARIABLES, judge

from fbq.model import Model
from fbq.nets import Net, Node
from fbq.schemes.perturbed import Perturbed
from fbq.search import hessian

KEY = jax.random.key(0)


def forward(variables, images, added, net=NET):
  return Model(net, Perturbed()).apply(variables, images, False, added)


def quadratic(matrix):
  def loss(tensors, scale):
    x = jnp.concatenate([tensors["a"].ravel(), tensors["b"]])
    return scale * 0.5 * x @ matrix @ x

  return loss


TENSORS = {"a": jnp.ones((2, 3)), "b": jnp.full(4, 2.0)}


def test_exact_for_a_diagonal_hessian():
  diagonal = np.arange(10.0) - 3
  loss = quadratic(np.diag(diagonal).astype(np.float32))
  found = hessian.traces(loss, TENSORS, [(1.0,), (2.0,)], KEY, 5)
  assert found.trace == {"a": 3 * diagonal[:6].sum(), "b": 3 * 18.0}
  assert found.standard_error == {"a": 0.0, "b": 0.0}
  assert found.size == {"a": 6, "b": 4}


def test_standard_errors_are_those_of_hutchinson():
  """Variance of one probe: 2 sum of squares off the diagonal in the block, and
  the squares outside of it."""
  random = np.random.default_rng(0)
  matrix = random.normal(size=(10, 10))
  matrix = (matrix + matrix.T) / 2
  loss = quadratic(matrix.astype(np.float32))
  # New signs for each of three batches of a third: a third of the variance.
  found = hessian.traces(loss, TENSORS, [(1 / 3,)] * 3, KEY, 400)
  for name, rows in (("a", slice(0, 6)), ("b", slice(6, 10))):
    block = matrix[rows, rows]
    off = np.sum(block**2) - np.sum(np.diag(block) ** 2)
    outside = np.sum(matrix[rows] ** 2) - np.sum(block**2)
    error = np.sqrt((2 * off + outside) / 3 / 400)
    assert found.standard_error[name] == pytest.approx(error, rel=0.12)
    assert abs(found.trace[name] - np.trace(block)) < 3 * error


SMALL = Net(
  "small",
  (4, 4, 2),
  (
    Node("a", "depthwise", ("input",), 0, (3, 3), 1, 1, **model_cases.CONV),
    Node("b", "conv", ("a",), 3, (1, 1), **model_cases.CONV),
    Node("pool", "avg_pool", ("b",), kernel=None),
    Node("fc", "linear", ("pool",), 3, bias=True, is_output=True),
  ),
)


def test_equals_the_whole_hessian_of_a_network():
  """All sites in one vector; three images, in two batches."""
  images, labels = IMAGES[5:, :4, :4], np.array([0, 2, 1])
  variables = Model(SMALL).init(jax.random.key(1), images, False)
  run = functools.partial(forward, net=SMALL)
  images_in_turn = judge(
    net=SMALL, variables=variables, images=images, labels=labels, batch=2
  )
  found = hessian.network_traces(
    SMALL, run, variables, images_in_turn.batches(), KEY, probes=250
  )
  shapes = {
    "a.weight": (3, 3, 1, 2),
    "a.out": (3, 4, 4, 2),
    "b.weight": (1, 1, 2, 3),
    "b.out": (3, 4, 4, 3),
    "fc.weight": (3, 3),
  }
  zeros = {site: jnp.zeros(shape) for site, shape in shapes.items()}
  start, restore = ravel_pytree(zeros)

  def loss(flat):
    log_p = jax.nn.log_softmax(run(variables, images, restore(flat)))
    return -log_p[np.arange(3), labels].mean()

  exact = restore(jnp.diag(jax.jit(jax.hessian(loss))(start)))
  assert found.trace.keys() == exact.keys() == found.size.keys()
  for site in exact:
    trace, error = float(exact[site].sum()), found.standard_error[site]
    assert abs(found.trace[site] - trace) < 3 * error, site
    images_in_it = 3 if site.endswith(".out") else 1
    assert found.size[site] == exact[site].size // images_in_it
  for site in ("a.weight", "a.out", "b.out"):  # a missing mean would show
    assert found.standard_error[site] < 0.3 * float(exact[site].sum())


LINEAR = Net(
  "linear",
  (2, 2, 2),
  (Node("fc", "linear", ("input",), 3, bias=True, is_output=True),),
)


def test_equals_the_formula_of_logistic_regression():
  """mean ||x||^2 sum_k p_k (1 - p_k)."""
  random = np.random.default_rng(3)
  images = random.uniform(size=(5, 2, 2, 2)).astype(np.float32)
  kernel = random.normal(size=(8, 3)).astype(np.float32)
  variables = {"params": {"fc_kernel": kernel, "fc_bias": np.zeros(3)}}
  logits = images.reshape(5, 8).astype(np.float64) @ kernel
  p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  exact = np.mean((images**2).sum((1, 2, 3)) * (p * (1 - p)).sum(1))
  # What fills a batch has no weight: this would outweigh all.
  padded = np.concatenate([images, np.full((1, 2, 2, 2), 9.0, np.float32)])
  found = hessian.network_traces(
    LINEAR,
    lambda v, x, added: forward(v, x, added, LINEAR),
    variables,
    [(padded, np.array([0, 1, 2, 2, 1, 0]), np.float32([1, 1, 1, 1, 1, 0]))],
    KEY,
    probes=200,
  )
  error = found.standard_error["fc.weight"]
  assert 0 < error < 0.1 * exact
  assert abs(found.trace["fc.weight"] - exact) < 3 * error


def test_probes_are_doubled_until_the_errors_are_small():
  random = np.random.default_rng(0)
  half = random.normal(size=(10, 10))
  loss = quadratic(half @ half.T)
  seen = []
  first = hessian.traces(loss, TENSORS, [(1.0,)], KEY, 4).error
  for error in (0.0, 0.6 * first, first):
    found = hessian.traces(loss, TENSORS, [(1.0,)], KEY, 4, 64, error)
    seen.append(found.probes)
    assert found.probes == 64 or found.error <= error
    # What was drawn before counts: the same as so many probes at once.
    at_once = hessian.traces(loss, TENSORS, [(1.0,)], KEY, found.probes)
    assert found == at_once
  assert seen[0] == 64 >= seen[1] > seen[2] == 4


def test_a_negative_trace_rewards_no_error():
  found = hessian.Traces(
    {"x": -6.0, "y": 4.0}, {"x": 3.0, "y": 1.0}, {"x": 3, "y": 2}, 32
  )
  errors = {"x": {2: 0.5, 4: 0.25}, "y": {2: 0.5, 4: 0.25}}
  assert hessian.omega(found, errors) == {
    "x": {2: 0.0, 4: 0.0},
    "y": {2: 1.0, 4: 0.5},
  }
  # Errors of 1/2 and 1/4 of the traces.
  assert str(found) == (
    "32 probes; the standard error is 37.5% of the trace for the median "
    "tensor; 1 of 2 negative, which count as zero"
  )


def test_two_probes_at_least():
  with pytest.raises(ValueError, match="1 probes, expected at least 2"):
    hessian.traces(quadratic(np.eye(10)), TENSORS, [(1.0,)], KEY, 1)


def test_omega():
  found = hessian.Traces({"x": 6.0}, {"x": 0.0}, {"x": 3}, 2)
  assert hessian.omega(found, {"x": {2: 0.5, 4: 0.25}}) == {
    "x": {2: 1.0, 4: 0.5}
  }


def test_half_omega_is_the_change_of_a_spherical_quadratic():
  loss = quadratic(4.0 * np.eye(10, dtype=np.float32))
  found = hessian.traces(loss, TENSORS, [(1.0,)], KEY, 2)
  error = np.linspace(-1, 1, 4)
  moved = loss({"a": 0 * TENSORS["a"], "b": jnp.array(error)}, 1.0)
  half = hessian.omega(found, {"b": {2: float(np.sum(error**2))}})["b"][2] / 2
  assert half == pytest.approx(float(moved), rel=1e-6)


def test_perturbed_is_float_plus_what_is_added():
  plain = Model(NET).apply(VARIABLES, IMAGES, False)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  close(forward(VARIABLES, IMAGES, {}), plain)
  params = VARIABLES["params"]
  added = jnp.full(params["d_kernel"].shape, 0.1)
  moved = {**params, "d_kernel": params["d_kernel"] + added}
  close(
    forward(VARIABLES, IMAGES, {"d.weight": added}),
    Model(NET).apply({**VARIABLES, "params": moved}, IMAGES, False),
  )
  # The mean over pixels moves by the mean of what is added, once: the pool has
  # the site of its source.
  added = jax.random.normal(KEY, (8, *NET.shapes["d"]))  # below 0 too
  close(
    forward(VARIABLES, IMAGES, {"d.out": added}),
    plain + added.mean((1, 2)) @ params["fc_kernel"],
  )
  with pytest.raises(ValueError, match=r"'d.out' has shape .* \(8, 5\)"):
    forward(VARIABLES, IMAGES, {"d.out": jnp.zeros((8, 5))})
