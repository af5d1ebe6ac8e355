"""The integer network: against numpy, against float64, and what it refuses."""

import dataclasses

import numpy as np
import pytest
from deploy_cases import (
  MIX,
  ZOO,
  assignments,
  exact,
  images,
  integers,
  one_layer,
  variables,
)

from fbq import nets, precision
from fbq.deploy import integer, lowering
from fbq.nets import Node
from fbq.nets.graph import INPUT, Net


def codes_of(net):
  return np.asarray(integer.quantize_images(images(net)))


@pytest.mark.parametrize("net", [MIX, ZOO["resnet8"]], ids=lambda n: n.name)
def test_one_compiled_run_equals_int64_for_every_assignment(net):
  before = integer._tensors._cache_size()
  for bits in (precision.uniform(net, 8), *assignments(net, 2)):
    network = lowering.lower(net, variables(net), bits)
    found = integer.integer_tensors(network, codes_of(net))
    expected, largest = integers(network, codes_of(net))
    assert largest < 2**31
    assert set(found) == set(expected) == {INPUT, *net.node}
    for tensor, value in expected.items():
      assert found[tensor].dtype == np.int32
      np.testing.assert_array_equal(found[tensor], value, tensor)
  assert integer._tensors._cache_size() <= before + 1


@pytest.mark.parametrize("name", ["mix", *ZOO])
def test_with_64_bits_it_is_the_fake_quantized_network(name):
  """End to end, adders included, all tensors: nothing is off by even one."""
  net = ZOO.get(name, MIX)
  for bits in (precision.uniform(net, 8), *assignments(net, 1, seed=1)):
    network = lowering.lower(net, variables(net), bits, width=64)
    found, _ = integers(network, codes_of(net))
    expected = exact(net, variables(net), bits, images(net))
    for node in net.nodes[:-1]:
      assert np.ptp(expected[node.name]) > 0  # something to compare
      np.testing.assert_array_equal(
        found[node.name], expected[node.name], node.name
      )
      if node.op != "max_pool":
        assert network.agreement(node.name).is_equal
    logits = found[net.nodes[-1].name] * network.steps[net.nodes[-1].name]
    np.testing.assert_allclose(
      logits,
      expected[net.nodes[-1].name],
      rtol=0,
      atol=0.51 * network.steps[net.nodes[-1].name],  # the bias is rounded
    )


def test_64_bits_in_jax_equal_int64():
  network = lowering.lower(MIX, variables(MIX), precision.uniform(MIX, 8), 64)
  expected, largest = integers(network, codes_of(MIX))
  assert largest > 2**31  # 32 bits would not do
  found = integer.integer_tensors(network, codes_of(MIX))
  for tensor, value in expected.items():
    np.testing.assert_array_equal(found[tensor], value, tensor)
  np.testing.assert_array_equal(
    integer.integer_apply(network, codes_of(MIX)), expected["fc"]
  )


def test_32_bits_differ_only_where_the_proof_says_so():
  """Given the exact codes, a layer errs as often as its thresholds allow."""
  differing = 0
  for bits in (precision.uniform(MIX, 8), *assignments(MIX, 8, seed=2)):
    network = lowering.lower(MIX, variables(MIX), bits)
    expected = exact(MIX, variables(MIX), bits, images(MIX))
    for node in MIX.nodes[:-1]:
      if node.op == "max_pool":
        continue
      agreement = network.agreement(node.name)
      inputs = [expected[name] for name in node.inputs]
      found = one_layer(network, node, inputs, [])
      apart = np.abs(found - expected[node.name])
      channels = tuple(range(apart.ndim - 1))
      assert (apart.max(channels) <= agreement.largest).all()
      differing += int((apart > 0).sum())
      equal = np.broadcast_to(agreement.differing == 0, apart.shape[-1:])
      assert not apart[..., equal].any()
  assert differing > 0  # else this test compares nothing


@pytest.mark.parametrize("seed", range(3))
def test_an_adder_is_exact_for_every_pair_of_codes(seed):
  found = variables(MIX, seed)
  network = lowering.lower(MIX, found, precision.uniform(MIX, 8))
  a, b = np.meshgrid(np.arange(-128, 128), np.arange(256))
  codes = one_layer(network, MIX.node["sum"], [a, b], [])
  # In units of each tensor's own range.
  range_a = found["ranges"]["a.out"].astype(np.float64)
  a, b = a * (range_a / 255), b * (range_a / 255)
  value = (a + b) / found["ranges"]["sum.out"] * 255
  expected = np.clip(np.rint(value), 0, 255)
  assert np.ptp(expected) > 100
  np.testing.assert_array_equal(codes, expected)
  assert network.agreement("sum").is_equal


# ---- overflow ----------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("width", [32, 64])
def test_the_worst_inputs_of_every_layer_do_not_overflow(bits, width):
  network = lowering.lower(
    MIX, variables(MIX), precision.uniform(MIX, bits), width
  )
  limit = 2 ** (width - 1)
  for node in MIX.nodes:
    part, ends = network.layers[node.name], network.codes[node.inputs[0]]
    if np.any(node.padding):
      ends = np.minimum(ends.low, 0), np.maximum(ends.high, 0)
    if node.has_weights:
      weight = part["weight"].astype(np.int64)
      low, high = (worst_sums(node, weight, *ends, sign) for sign in (1, -1))
      if node.is_output:
        sums = np.ravel([low + part["bias"], high + part["bias"]])
        assert np.abs(sums).max() < 2**31
        continue
      np.testing.assert_array_equal([low, high], network.reach[node.name])
      assert np.abs([low, high]).max() < 2**31
    elif node.op == "avg_pool":
      low, high = 4 * ends[0].min(), 4 * ends[1].max()
    elif node.op == "add":
      low, high = np.sum([ends_of(network, x) for x in node.inputs], axis=0)
    else:
      continue
    check_products([low, high], part, limit)


def worst_sums(node, weight, low, high, sign):
  """Sums of the inputs, one by one, that make them least (or, -1, most)."""
  if node.op == "linear":
    low, high = (np.resize(end, len(weight)) for end in (low, high))
  total = np.zeros(weight.shape[-1], np.int64)
  for index in np.ndindex(weight.shape):
    c = index[-1] if node.op == "depthwise" else index[-2]
    is_low = sign * weight[index] > 0
    total[index[-1]] += weight[index] * (low[c] if is_low else high[c])
  return total


@pytest.mark.parametrize("bits", [2, 8])
def test_codes_stay_within_what_is_proven(bits):
  """For images that provoke: extremes, checkers, noise."""
  random = np.random.default_rng(0)
  # A channel that is never dark: only padding is, in the layer after it.
  found = variables(MIX)
  norm = {key: x.copy() for key, x in found["params"]["a_norm"].items()}
  norm["bias"][1] = 50
  params = {**found["params"], "a_norm": norm}
  network = lowering.lower(
    MIX, {**found, "params": params}, precision.uniform(MIX, bits)
  )
  shape = (40, *MIX.input_shape)
  provoking = np.where(random.uniform(size=shape) < 0.5, 0, 255)
  provoking[:10] = random.integers(0, 256, (10, *MIX.input_shape))
  provoking[10], provoking[11] = 0, 255
  tensors, _ = integers(network, provoking)
  is_tight = 0
  for name, (low, high) in network.codes.items():
    ends = network.ends(name)
    channels = tensors[name].reshape(-1, len(low))
    assert (low >= ends[0]).all() and (high <= ends[1]).all()
    assert (channels.min(0) >= low).all() and (channels.max(0) <= high).all()
    is_tight += np.sum(channels.max(0) == high)
  assert is_tight > 10
  assert network.codes["half"].low[1] > 0
  low, _ = network.reach["b"]
  weight = network.layers["b"]["weight"].astype(int)[:, :, 0, 1]
  code = network.ends("half")[1]
  assert low[1] <= np.minimum(weight, 0).sum() * code  # rest is padding


def test_a_dead_channel_costs_the_next_layer_no_bits():
  """Batch norm makes of its zero variance a huge, harmless slope."""
  found = variables(MIX)
  params, stats = dict(found["params"]), dict(found["batch_stats"])
  norm = {key: x.copy() for key, x in params["a_norm"].items()}
  norm["scale"][2], norm["bias"][2] = 0.01, -50
  params["a_norm"] = norm
  stat = {key: x.copy() for key, x in stats["b_norm"].items()}
  stat["var"][2] = 0
  stats["b_norm"] = stat
  changed = {**found, "params": params, "batch_stats": stats}
  bits = precision.uniform(MIX, 8)
  before = lowering.lower(MIX, found, bits).layers["b"]["shift"]
  assert lowering.lower(MIX, changed, bits).layers["b"]["shift"] >= before


def ends_of(network, tensor):
  site = network.net.site_of[tensor]
  return integer.code_range(network.bits[site], network.net.is_signed[site])


def check_products(sums, part, limit):
  """In Python's integers, which do not overflow."""
  for total in sums:
    for x, mul, add in np.broadcast(total, part["mul"], part["add"]):
      product = int(x) * int(mul)
      assert -limit <= product < limit
      assert -limit <= product + int(add) < limit


def test_sums_too_long_for_32_bits_are_refused_by_name():
  node = Node("wide", "linear", (INPUT,), 1, bias=True, is_output=True)
  net = Net("net", (260, 260, 1), (node,))
  found = dict(
    params={"wide_kernel": np.ones((67600, 1)), "wide_bias": np.zeros(1)},
    ranges={"wide.weight": np.float32(1)},
  )
  with pytest.raises(lowering.UnsupportedError, match="'wide' can sum up to"):
    lowering.lower(net, found, precision.uniform(net, 8))


# ---- refusals ----------------------------------------------------------------


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(op="layer_norm"), "'b' .layer_norm. has no integer form"),
    (dict(activation="gelu"), "'b' .* has activation 'gelu'"),
    (dict(layer_scale=0.1), "'b' .* has a layer scale"),
  ],
)
def test_layers_without_an_integer_form_are_refused_by_name(change, message):
  nodes = list(MIX.nodes)
  nodes[2] = dataclasses.replace(
    nodes[2], **{"norm": "op" not in change, "activation": "none"} | change
  )
  net = Net("other", MIX.input_shape, tuple(nodes))
  with pytest.raises(lowering.UnsupportedError, match=message):
    lowering.check_supported(net)


@pytest.mark.parametrize("build", [nets.googlenet, nets.convnext])
def test_networks_with_other_operators_are_refused(build):
  with pytest.raises(lowering.UnsupportedError, match="has no integer form"):
    lowering.check_supported(build())


def test_logits_must_come_from_a_plain_linear_layer():
  node = dataclasses.replace(MIX.nodes[-1], norm=True, bias=False)
  net = Net("other", MIX.input_shape, (*MIX.nodes[:-1], node))
  with pytest.raises(
    lowering.UnsupportedError, match="'fc' .* makes the logits"
  ):
    lowering.check_supported(net)


def test_variables_must_be_those_of_the_network():
  bits = precision.uniform(MIX, 8)
  full = variables(MIX)
  with pytest.raises(ValueError, match="no ranges\\['a.out'\\]"):
    lowering.lower(MIX, {**full, "ranges": {}}, bits)
  ranges = {**full["ranges"], "b.out": np.float32(0)}
  with pytest.raises(ValueError, match="range of 'b.out' is 0 at least"):
    lowering.lower(MIX, {**full, "ranges": ranges}, bits)
  ranges = {**full["ranges"], "c.out": np.float32(1)}
  with pytest.raises(ValueError, match="'c.out'.* mix adds that to 'a.out'"):
    lowering.lower(MIX, {**full, "ranges": ranges}, bits)


def test_large_networks_run_few_images_at_a_time():
  small = nets.build("resnet8")
  large = nets.efficientnet_lite0(resolution=224, classes=1000)
  assert integer.images_at_a_time(small) == 360
  few = integer.images_at_a_time(large)
  numbers = sum(h * w * c for h, w, c in large.shapes.values())
  assert 1 <= few <= 16 and 32 * numbers * few <= 2**31
