"""Equalized networks compute the same with equal ranges in every pair."""

import numpy as np
import pytest
from ptq_cases import TINY, both, variables

from fbq import nets
from fbq.nets import Net, Node
from fbq.ptq import equalization, folding
from fbq.quantizers import range_rules

RELU = dict(bias=True, activation="relu")
# A chain through both kinds of pools; a shortcut; a GELU.
NET = Net(
  "tiny",
  (8, 8, 3),
  (
    Node("a", "conv", ("input",), 4, (3, 3), 1, 1, **RELU),
    Node("b", "depthwise", ("a",), 0, (3, 3), 1, 1, **RELU),
    Node("c", "conv", ("b",), 5, **RELU),
    Node("max", "max_pool", ("c",), kernel=(2, 2), stride=2),
    Node("d", "conv", ("max",), 5, bias=True),
    Node("sum", "add", ("d", "max"), activation="relu"),
    Node("e", "conv", ("sum",), 6, activation="gelu"),
    Node("f", "conv", ("e",), 4, **RELU),
    Node("pool", "avg_pool", ("f",), kernel=(2, 2), stride=2),
    Node("fc", "linear", ("pool",), 3, bias=True, is_output=True),
  ),
)

NORM = dict(norm=True, activation="relu")
NORMED = Net(
  "normed",
  (6, 6, 3),
  (
    Node("a", "conv", ("input",), 8, (3, 3), 1, 1, **NORM),
    Node("b", "depthwise", ("a",), 0, (3, 3), 1, 1, **NORM),
    Node("c", "conv", ("b",), 8, **NORM),
    Node("d", "depthwise", ("c",), 0, (3, 3), 1, 1, **NORM),
    Node("e", "conv", ("d",), 8, **NORM),
    Node("pool", "avg_pool", ("e",), kernel=None),
    Node("fc", "linear", ("pool",), 3, bias=True, is_output=True),
  ),
)


def spread(params, seed):
  """Channels of very different ranges: what per-layer weights suffer from."""
  random = np.random.default_rng(seed)
  return {
    key: np.float32(x * np.exp(random.uniform(-2, 2, x.shape[-1])))
    for key, x in params.items()
  }


def test_pairs_are_those_that_nothing_else_reads():
  # c goes to the adder too, sum is an adder, e has a GELU.
  assert equalization.pairs(NET) == (("a", "b"), ("b", "c"), ("f", "fc"))


def test_networks_stay_the_same_and_ranges_of_pairs_are_equal():
  """With a pool of four pixels before the classifier, which flattens them."""
  start = spread(variables(NET)["params"], 1)
  start["a_kernel"][..., 2] = 0  # only its bias is left
  found = equalization.equalize(NET, start)
  before, after = both(NET, {"params": start}, NET, {"params": found})
  largest = np.abs(before).max()
  np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * largest)
  made = lambda name: np.abs(found[f"{name}_kernel"]).max((0, 1, 2))
  read = {
    "a": made("b"),  # depthwise: channel to channel
    "b": np.abs(found["c_kernel"]).max((0, 1, 3)),
    "f": np.abs(found["fc_kernel"]).reshape(4, 4, 3).max((0, 2)),
  }
  for name, expected in read.items():
    alive = made(name) > 0
    np.testing.assert_allclose(made(name)[alive], expected[alive], rtol=5e-3)
  np.testing.assert_array_equal(found["d_kernel"], start["d_kernel"])
  assert found["a_bias"][2] == start["a_bias"][2]  # nothing to equalize
  assert set(found) == set(start)


@pytest.mark.parametrize("name", ["mobilenet_v1", "resnet18"])
def test_equalized_networks_of_builders_stay_the_same(name):
  net, start = folding.fold(
    nets.build(name, **TINY[name]), variables(nets.build(name, **TINY[name]))
  )
  found = {"params": equalization.equalize(net, start["params"])}
  before, after = both(net, start, net, found)
  largest = np.abs(before).max()
  np.testing.assert_allclose(after, before, rtol=0, atol=2e-5 * largest)
  assert len(equalization.pairs(net)) == (27 if name == "mobilenet_v1" else 8)


def test_no_other_factors_give_channels_more_of_the_range_of_their_layer():
  """Eq. 9: sum over channels of (r1 / R1) (r2 / R2), over random factors."""
  found = equalization.equalize(NET, spread(variables(NET)["params"], 3))
  made = np.abs(found["f_kernel"]).max((0, 1, 2))
  read = np.abs(found["fc_kernel"]).reshape(4, 4, 3).max((0, 2))
  s = np.exp(np.random.default_rng(4).normal(0, 0.5, (500, 4)))

  def share(s):
    one, other = made / s, read * s
    most = one.max(-1, keepdims=True) * other.max(-1, keepdims=True)
    return (one * other / most).sum(-1)

  assert (share(s) <= share(np.ones(4)) * (1 + 5e-3)).all()
  assert share(s).min() < 0.8 * share(np.ones(4))


def test_a_network_with_one_range_a_layer_keeps_its_logits():
  """What it is for: depthwise layers whose channels differ, at 8 bits."""
  net, start = folding.fold(NORMED, variables(NORMED, 5))
  params = spread(start["params"], 7)
  equal = equalization.equalize(net, params)

  def rounded(params):
    result = dict(params)
    for key in params:
      if key.endswith("_kernel"):
        range_ = range_rules.min_max(params[key].ravel())
        result[key] = range_rules.quantized(params[key], range_, 8, "symmetric")
    return {"params": result}

  wanted, plain = both(net, {"params": params}, net, rounded(params))
  _, found = both(net, {"params": params}, net, rounded(equal))
  error = lambda y: float(np.square(y - wanted).mean())
  assert error(found) < 0.3 * error(plain)


def test_norms_are_refused():
  with pytest.raises(ValueError, match="fold them first"):
    equalization.equalize(NORMED, {})
