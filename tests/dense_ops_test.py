"""Operators of dense prediction and attention against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense_cases import attention, pyramid

from fbq import ops
from fbq.deploy.lowering import UnsupportedError, check_supported
from fbq.model import Model
from fbq.nets import Net, Node
from fbq.train.torch_weights import _kernel
from hwsim import pulp
from hwsim.workload import Layer


def normal(*shape):
  return np.random.default_rng(len(shape)).standard_normal(shape, np.float32)


def made(net, images):
  """(variables with values that no default hides, output, all tensors)."""
  init = jax.jit(lambda k: Model(net).init(k, images, False))
  variables = init(jax.random.key(0))
  random = np.random.default_rng(1)
  shifted = lambda x: x + 0.3 * random.random(x.shape, np.float32)
  kept = ("params", "batch_stats")
  variables = {k: jax.tree.map(shifted, variables.get(k, {})) for k in kept}
  apply = jax.jit(
    lambda v: Model(net).apply(v, images, False, mutable=["intermediates"])
  )
  y, seen = apply(variables)
  seen = {k: np.asarray(v[0]) for k, v in seen["intermediates"].items()}
  return variables, y, seen


def test_upsampling():
  x = normal(2, 3, 2, 4)
  y = ops.upsample(x, 3, smooth=False)
  np.testing.assert_array_equal(y, x.repeat(3, 1).repeat(3, 2))

  # Pixel centres at halves; beyond the last centre its value goes on.
  def along(x, axis, factor):
    size = x.shape[axis]
    place = (np.arange(size * factor) + 0.5) / factor - 0.5
    place = np.clip(place, 0, size - 1)
    low = np.minimum(np.floor(place).astype(int), size - 1)
    share = np.expand_dims(place - low, [i for i in range(4) if i != axis])
    high = np.minimum(low + 1, size - 1)
    return x.take(low, axis) * (1 - share) + x.take(high, axis) * share

  y = ops.upsample(x, 4, smooth=True)
  np.testing.assert_allclose(y, along(along(x, 1, 4), 2, 4), atol=1e-6)


def test_transposed_convolution():
  """Every pixel makes a patch: loops over pixels, taps and channels."""
  x, kernel = normal(2, 3, 4, 5), normal(2, 2, 5, 3)
  expected = np.zeros((2, 6, 8, 3), np.float64)
  for y, x_ in np.ndindex(3, 4):
    for r, s in np.ndindex(2, 2):
      expected[:, 2 * y + r, 2 * x_ + s] = x[:, y, x_] @ kernel[r, s]
  np.testing.assert_allclose(
    ops.conv_transpose(x, kernel), expected, rtol=1e-5, atol=1e-6
  )
  # PyTorch has the inputs first.
  net = pyramid()
  theirs = kernel.transpose(2, 3, 0, 1)
  ours = _kernel(net, net.node["up"], theirs, "torch")
  np.testing.assert_array_equal(ours, kernel)


@pytest.mark.parametrize("heads", [1, 2])
def test_attention(heads):
  net = attention(heads=heads)
  images = normal(2, 3, 3, 3)
  variables, y, seen = made(net, images)
  params = jax.tree.map(np.float64, variables["params"])
  linear = lambda x, name: (
    x @ params[f"{name}_kernel"][0, 0] + params[f"{name}_bias"]
  )
  tokens = linear(np.float64(images), "patch").reshape(2, 9, 8)
  first = np.broadcast_to(params["embed_first"][:, 0], (2, 1, 8))
  x = np.concatenate([first, tokens], 1) + params["embed_positions"][:, 0]
  centred = x - x.mean(-1, keepdims=True)
  z = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
  z = z * params["norm_norm"]["scale"] + params["norm_norm"]["bias"]
  q, k, v = (linear(z, name) for name in "qkv")
  parts = []
  for h in np.split(np.arange(8), heads):
    weights = np.exp(q[..., h] @ k[..., h].swapaxes(1, 2) / np.sqrt(len(h)))
    weights /= weights.sum(-1, keepdims=True)
    np.testing.assert_allclose(
      seen["weights"][:, :, len(parts)], weights, rtol=1e-4
    )
    parts.append(weights @ v[..., h])
  x = x + linear(np.concatenate(parts, -1), "project")
  expected = x[:, 0] @ params["fc_kernel"] + params["fc_bias"]
  np.testing.assert_allclose(y, expected, rtol=2e-4, atol=1e-5)


def test_several_outputs_and_silu():
  variables, y, seen = made(pyramid(), normal(2, 8, 8, 2))
  assert {k: v.shape for k, v in y.items()} == {
    "large": (2, 16, 16, 2),
    "small": (2, 2, 2, 2),
  }
  assert seen["a"].min() > -0.2785 and seen["a"].min() < 0
  expected = seen["near"].reshape(2, 2, 2, 2, 2, 6)
  np.testing.assert_array_equal(expected[:, :, 0], expected[:, :, 1])
  gradient = jax.grad(
    lambda v: sum(
      jnp.sum(x**2) for x in Model(pyramid()).apply(v, y_images, False).values()
    )
  )
  y_images = normal(1, 8, 8, 2)
  leaves = jax.tree.leaves(jax.jit(gradient)(variables)["params"])
  assert all(jnp.isfinite(g).all() and (g != 0).any() for g in leaves)


def test_counts():
  net = attention()
  work, layer = net.workload, lambda name: work.layers[work.index[name]]
  assert layer("qk").macs == layer("av").macs == 10 * 10 * 8
  assert layer("q").macs == 10 * 8 * 8
  assert net.shapes["qk"] == (10, 2, 10) and net.shapes["av"] == (10, 1, 8)
  linear = lambda i, o: i * o + o
  assert net.parameter_count == (
    linear(3, 8) + (1 + 10) * 8 + 16 + 4 * linear(8, 8) + linear(8, 5)
  )
  up = pyramid().workload.layers[4]
  assert up.macs == 4 * 4 * 10 * 4 * 3 and up.out_height == 8


def test_sites_and_blocks():
  """What only moves keeps its site; blocks lie along what is summed."""
  net = attention()
  assert net.site_of["tokens"] == "patch.out"
  assert net.site_of["first"] == "add.out"
  assert not net.is_signed["weights.out"] and net.is_signed["av.out"]
  # Queries by heads, values along tokens: as they are stored and priced.
  assert net.stored_shapes["q"] == net.stored_shapes["k"] == (10, 2, 4)
  assert net.stored_shapes["v"] == (8, 1, 10)
  work = net.workload
  assert work.input_shapes(work.index["av"]) == ((10, 2, 10), (8, 1, 10))
  net = pyramid()
  assert net.site_of["near"] == net.site_of["b"] == "b.out"
  assert net.site_of["large"] is None and net.site_of["small"] is None


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(op="scores", inputs=("q", "k"), heads=3), "3 heads, expected tokens"),
    (dict(op="scores", inputs=("q", "image")), "expected tokens of one width"),
    (dict(op="attend", inputs=("q", "image")), "expected a row for each of 8"),
    (dict(op="maps", inputs=("q",), kernel=(2, 3)), "makes \\(2, 3\\) pixels"),
    (dict(op="select", inputs=("image",)), "expected tokens, one wide"),
    (dict(op="softmax", inputs=("q",), norm=True), "has a norm or an activ"),
    (dict(op="embed", inputs=("q",), norm=True), "has a batch norm"),
    (
      dict(
        op="conv_transpose",
        inputs=("image",),
        kernel=(3, 3),
        stride=2,
        features=2,
      ),
      "expected a kernel of the stride's size",
    ),
  ],
)
def test_wrong_shapes_are_named(change, message):
  nodes = [
    Node("image", "conv", ("input",), 8),
    Node("q", "tokens", ("image",)),
    Node("k", "tokens", ("image",)),
    Node("wrong", **change),
    Node("fc", "linear", ("wrong",), 2, is_output=True),
  ]
  with pytest.raises(ValueError, match=message):
    Net("n", (3, 3, 2), tuple(nodes))


def test_operands_of_products_are_read_once():
  """Another reader would need other blocks."""
  nodes = list(attention().nodes)
  nodes[10] = Node("project", "conv", ("v",), 8, bias=True)
  with pytest.raises(ValueError, match="'project' reads 'v', whose blocks"):
    Net("n", (3, 3, 3), tuple(n for n in nodes))


@pytest.mark.parametrize("net", [pyramid(), attention()])
def test_integers_refuse_them_by_name(net):
  with pytest.raises(UnsupportedError, match="layer '(a|tokens)'"):
    check_supported(net)
  with pytest.raises(ValueError, match="layer '(near|both|tokens|a)'"):
    pulp.latency_table(net.workload, pulp.XPULPNN_V1)


def test_layers_by_hand_are_checked():
  with pytest.raises(ValueError, match="expected a kernel of the stride's"):
    Layer("up", "conv_transpose", 2, 3, 4, 4, 2, 2, 2, (1, 1, 1, 1))
  assert Layer("up", "conv_transpose", 2, 3, 1, 1, 2, 2, 2).out_width == 2
