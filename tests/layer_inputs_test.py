"""What layers read: as much as their outputs are made of, and its moments."""

import jax
import numpy as np
import pytest

from fbq.model import Model
from fbq.nets.graph import INPUT, Net
from fbq.nets.node import Node
from fbq.ptq import layer_inputs
from fbq.ptq.walk import Walk

NET = Net(
  "reads",
  (5, 7, 2),
  (
    Node("conv", "conv", (INPUT,), 4, (3, 2), 2, (0, 1, 1, 0), bias=True),
    Node("dw", "depthwise", ("conv",), None, (3, 3), 1, 1, bias=True),
    Node("pw", "conv", ("dw",), 3, bias=True),
    Node("fc", "linear", ("pw",), 5, bias=True, is_output=True),
  ),
)


@pytest.fixture(scope="module")
def case():
  images = jax.random.uniform(jax.random.key(0), (3, *NET.input_shape))
  variables = Model(NET).init(jax.random.key(1), images, False)
  _, seen = Model(NET).apply(
    variables, images, False, mutable=["intermediates"]
  )
  read, walk = {}, Walk(NET, variables, [images[:2], images[1:]])
  for node in NET.nodes:
    inputs = [tensors[0] for tensors in walk.read(node.name)]
    read[node.name] = layer_inputs.patches(NET, node.name, inputs)
    walk.step(node.name, variables)
  return variables["params"], seen["intermediates"], read


@pytest.mark.parametrize("node", NET.nodes, ids=lambda node: node.name)
def test_patches_by_weights_are_outputs(case, node):
  """All pixels are seen of so small tensors, in the order of images."""
  params, seen, read = case
  kernel = np.asarray(params[f"{node.name}_kernel"])
  columns = layer_inputs.columns_of(node, kernel)
  rows = layer_inputs.grouped(node, read[node.name])
  made = np.einsum("gpn,gno->pgo", rows, columns)
  expected = np.asarray(seen[node.name][0])
  expected = np.concatenate([expected[:2], expected[1:]])
  made = made.reshape(4, -1, expected.shape[-1])
  np.testing.assert_allclose(
    made.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5
  )
  again = layer_inputs.kernel_of(node, columns, kernel.shape)
  np.testing.assert_array_equal(again, kernel)


def test_some_pixels_are_the_same_in_every_pass():
  images = np.random.default_rng(0).uniform(size=(2, *NET.input_shape))
  some = layer_inputs.patches(NET, "conv", [images], 3)
  again = layer_inputs.patches(NET, "conv", [images[:1], images[1:]], 3)
  assert some.shape == (6, 6, 2)
  np.testing.assert_array_equal(some, again)


@pytest.mark.parametrize("node", NET.nodes[:3], ids=lambda node: node.name)
def test_targets_are_least_squares_of_what_is_read(node):
  """Against numpy's own least squares, with a column of ones for the mean."""
  random = np.random.default_rng(0)
  taps, channels = (9, 4) if node.name == "dw" else (2, 3)
  outputs = 4 if node.name == "dw" else 5
  shape = (3, 3, 1, 4) if node.name == "dw" else (2, 1, 3, 5)
  kernel = random.normal(size=shape).astype(np.float32)
  x = random.normal(size=(400, taps, channels)) + 1.0
  q = (x + 0.3 * random.normal(size=x.shape) - 0.2).astype(np.float32)
  found = layer_inputs.moments(node, kernel, q, x.astype(np.float32))
  columns = layer_inputs.columns_of(node, kernel)
  rows, float_rows = (layer_inputs.grouped(node, y) for y in (q, x))
  for g in range(len(rows)):
    ones = np.ones((400, 1))
    solved, *_ = np.linalg.lstsq(
      np.hstack([rows[g], ones]), float_rows[g] @ columns[g], rcond=None
    )
    # 1 % of damping towards the weights as they are
    np.testing.assert_allclose(found.target[g], solved[:-1], atol=0.05)
    at = g if len(rows) > 1 else slice(0, outputs)
    np.testing.assert_allclose(found.shift[at], solved[-1], atol=0.15)


def test_what_is_read_as_in_float_moves_no_weight():
  random = np.random.default_rng(0)
  node = NET.node["pw"]
  kernel = random.normal(size=(1, 1, 4, 3)).astype(np.float32)
  x = random.normal(size=(50, 1, 4)).astype(np.float32)
  found = layer_inputs.moments(node, kernel, x, x)
  np.testing.assert_allclose(found.target[0], kernel[0, 0], rtol=1e-4)
  np.testing.assert_allclose(found.shift, 0, atol=1e-5)


@pytest.mark.parametrize("count", [20, 30])
def test_few_rows_are_given_where_they_are_the_cheaper_form(count):
  random = np.random.default_rng(0)
  node = Node("fc", "linear", ("pw",), 3, bias=True)
  x = random.normal(size=(count, 1, 50)).astype(np.float32)
  found = layer_inputs.moments(
    node, random.normal(size=(50, 3)).astype(np.float32), x, x
  )
  if count == 30:
    assert found.rows is None
    return
  product = found.rows[0].T @ found.rows[0]
  more = found.inputs[0] - product
  off_diagonal = more - np.diag(np.diag(more))
  np.testing.assert_allclose(off_diagonal, 0, atol=1e-5)
  mean = np.trace(product) / 50
  np.testing.assert_allclose(np.diag(more), 0.01 * mean, rtol=1e-3)


@pytest.mark.parametrize("takes_mean", [False, True])
def test_few_places_are_not_learned_by_heart(takes_mean):
  """Found by one half and judged by the other, written with the data itself.

  60 numbers from 40 places: with 1 % of damping alone the outputs for other
  data are far worse than if weights stay.
  """
  random = np.random.default_rng(0)
  node = Node("fc", "linear", ("pw",), 3, bias=takes_mean)
  kernel = random.normal(size=(60, 3))
  x = random.normal(size=(540, 60)) @ random.normal(size=(60, 60)) + 2.0
  q = 0.6 * x + 0.3 * x.std() * random.normal(size=x.shape)
  found = layer_inputs.moments(
    node, *(y.astype(np.float32) for y in (kernel, q[:40, None], x[:40, None]))
  )

  def solved(q, x, share):
    """V of || x W - q V ||^2 + share |V - W|^2 by rows for the damping."""
    if takes_mean:
      q, x = q - q.mean(0), x - x.mean(0)
    level = np.sqrt(share * np.mean(np.square(q)) * len(q)) * np.eye(60)
    rows, wanted = np.vstack([q, level]), np.vstack([x, level]) @ kernel
    return np.linalg.lstsq(rows, wanted, rcond=None)[0]

  def error(columns, q, x):
    off = x @ kernel - q @ columns
    return np.sum(np.square(off - off.mean(0) if takes_mean else off))

  halves = np.s_[:20], np.s_[20:40]
  tried = [
    sum(
      error(solved(q[by], x[by], share), q[at], x[at])
      for by, at in (halves, halves[::-1])
    )
    for share in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
  ]
  share = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)[np.argmin(tried)]
  assert share > 0.01
  expected = solved(q[:40], x[:40], share)
  np.testing.assert_allclose(found.target[0], expected, atol=1e-3)

  others = q[40:], x[40:]
  by_heart = error(solved(q[:40], x[:40], 0.01), *others)
  assert error(found.target[0], *others) < 0.9 * error(kernel, *others)
  assert error(found.target[0], *others) < 0.9 * by_heart


def test_weights_stay_where_nothing_mends():
  """What is read is off by noise alone, and few places tell nothing of it."""
  random = np.random.default_rng(1)
  node = Node("fc", "linear", ("pw",), 3)
  kernel = random.normal(size=(60, 3)).astype(np.float32)
  x = random.normal(size=(12, 1, 60)).astype(np.float32)
  q = x + random.normal(size=x.shape).astype(np.float32)
  for places in (1, 12):
    found = layer_inputs.moments(node, kernel, q[:places], x[:places])
    if places == 1:
      np.testing.assert_array_equal(found.target[0], kernel)
    error = np.linalg.norm(found.target[0] - kernel)
    assert error < 0.5 * np.linalg.norm(kernel)
