"""Folded networks compute what the float ones do; numpy has the formula."""

import numpy as np
import pytest
from ptq_cases import TINY, both, variables

from fbq import nets
from fbq.nets import Net, Node
from fbq.ptq import folding


@pytest.mark.parametrize("name", TINY)
def test_networks_stay_the_same(name):
  net = nets.build(name, **TINY[name])
  start = variables(net)
  folded, result = folding.fold(net, start)
  assert not any(node.norm for node in folded.nodes)
  assert all(node.bias for node in folded.nodes if net.node[node.name].norm)
  assert folded.site_of == net.site_of
  expected, found = both(net, start, folded, result)
  largest = np.abs(expected).max()
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * largest)
  assert np.ptp(expected) > 0.01 * largest


def test_a_network_without_batch_norm_is_returned_as_it_is():
  net = nets.convnext(width=0.1, resolution=32, depths=(1, 1, 1, 1))
  params = {"stem_kernel": np.ones(3)}
  assert folding.fold(net, {"params": params}) == (net, {"params": params})


def test_fold_in_numpy_with_a_bias_and_a_layer_scale():
  """((w x + b) l - mean) scale / sqrt(var + 1e-5) + offset."""
  node = Node("a", "conv", ("input",), 3, norm=True, bias=True, layer_scale=0.5)
  net = Net(
    "one", (1, 1, 2), (node, Node("b", "linear", ("a",), 2, is_output=True))
  )
  start = variables(net)
  params, stats = start["params"], start["batch_stats"]["a_norm"]
  folded, result = folding.fold(net, start)
  x = np.random.default_rng(1).normal(size=(5, 2))
  y = (x @ params["a_kernel"][0, 0] + params["a_bias"]) * params["a_scale"]
  y = (y - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
  y = y * params["a_norm"]["scale"] + params["a_norm"]["bias"]
  got = x @ result["params"]["a_kernel"][0, 0] + result["params"]["a_bias"]
  np.testing.assert_allclose(got, y, rtol=1e-5, atol=1e-6)
  assert set(result["params"]) == {"a_kernel", "a_bias", "b_kernel"}
  assert folded.node["a"].layer_scale == 0
  # What was given is left as it was.
  assert "a_norm" in params and "a_scale" in params


def test_a_norm_after_an_adder_is_refused():
  nodes = (
    Node("a", "conv", ("input",), 2),
    Node("sum", "add", ("a", "input"), norm=True),
    Node("fc", "linear", ("sum",), 2, is_output=True),
  )
  net = Net("adder", (1, 1, 2), nodes)
  with pytest.raises(ValueError, match=r"norm of 'sum' \(add\) cannot"):
    folding.fold(net, variables(net))


def test_a_dead_channel_makes_the_others_small():
  net = nets.build("mobilenet_v1", **TINY["mobilenet_v1"])
  found = variables(net)
  before = {row.layer: row for row in folding.spreads(net, found)}
  var = np.array(found["batch_stats"]["dw1_norm"]["var"])
  var[1] = 0.0
  stats = dict(found["batch_stats"])
  stats["dw1_norm"] = {**stats["dw1_norm"], "var": var}
  found = {**found, "batch_stats": stats}
  rows = {row.layer: row for row in folding.spreads(net, found)}
  kernel = np.abs(found["params"]["dw1_kernel"]).max((0, 1, 2))
  assert rows["dw1"].before == pytest.approx(kernel.max() / np.median(kernel))
  kernel = kernel * np.abs(found["params"]["dw1_norm"]["scale"])
  kernel /= np.sqrt(var + 1e-5)
  assert rows["dw1"].after == pytest.approx(kernel.max() / np.median(kernel))
  assert kernel.argmax() == 1 and rows["dw1"].variance == 0.0
  assert rows["dw1"].after > 30 * before["dw1"].after
  assert rows["dw1"].lost == np.mean(kernel < kernel.max() / 254)
  assert rows["pw1"] == before["pw1"]
