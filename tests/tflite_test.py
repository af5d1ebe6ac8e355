"""TFLite files, run by LiteRT, against the integer network.

FBQ_SLOW asks for all networks.
"""

import os

import litert_rules
import numpy as np
import pytest
from deploy_cases import (
  CONV,
  MIX,
  assignments,
  images,
  integers,
  one_layer,
  variables,
)

pytest.importorskip("ai_edge_litert", reason="needs pip install fbq[tflite]")

from c_code_test import NETS  # noqa: E402

from fbq import precision  # noqa: E402
from fbq.deploy import (  # noqa: E402
  integer,
  lowering,
  tflite,
  tflite_requant,
  tflite_run,
)
from fbq.deploy.files import ArtifactError  # noqa: E402
from fbq.nets import Net, Node, from_tflite, tflite_file  # noqa: E402
from fbq.nets.graph import INPUT  # noqa: E402

CASES = NETS if os.environ.get("FBQ_SLOW") else ["mix", "lite"]


def lowered(net, bits):
  return lowering.lower(net, variables(net), bits, 64)


def some_bits(net):
  (bits,) = assignments(net, 1, seed=64)
  return bits


def codes_of(net, count=8):
  return np.asarray(integer.quantize_images(images(net, count)))


def run(built, network, count=8, kernels="AUTO"):
  """Codes of every tensor by LiteRT, and logits."""
  session = tflite_run.session(built.data, kernels, keeps=True)
  return tflite_run.tensors(session, network, codes_of(network.net, count))


def compared(network, built, kernels="AUTO"):
  """(node, differences of its codes) of all layers but the last.

  Each is given the codes that LiteRT made before.
  """
  for node, inputs, found in layers_of(network, built, kernels):
    expected = one_layer(network, node, inputs, [])
    yield node, np.abs(found.reshape(expected.shape) - expected)


def layers_of(network, built, kernels="AUTO"):
  """(node, codes it read, codes LiteRT made) of all layers but the last."""
  found = run(built, network, kernels=kernels)
  zero = np.array(network.net.image_zero or 0)
  for node in network.net.nodes[:-1]:
    inputs = [found[name].astype(np.int64) for name in node.inputs]
    if node.inputs[0] == INPUT:
      inputs[0] = inputs[0] - zero
    yield node, inputs, found[node.name]


def scales_of(network, node, stored):
  """Steps of what a layer reads, of its weights and of what it makes."""
  read, made = (network.step(x) for x in (node.inputs[0], node.name))
  return np.float32(read), stored.scale, np.float32(made)


def by_rule(network, node, inputs, stored, rule):
  """Codes by one of LiteRT's rules, of the constants in the file."""
  total = litert_rules.sums(node, inputs, stored)
  scales, ends = scales_of(network, node, stored), network.ends(node.name)
  return litert_rules.codes(total, scales, ends, rule)


def plain(network, node):
  """Constants as any converter has them: a bias in products, no factor."""
  affine = network.affine[node.name]
  sign = np.where(affine.slope < 0, -1, 1)
  read, made = (network.step(x) for x in (node.inputs[0], node.name))
  slope = np.abs(affine.slope)
  weight = network.layers[node.name]["weight"].astype(np.int64) * sign
  bias = np.rint(affine.offset / slope).astype(np.int64)
  scale = np.float32(slope * made / read)
  return tflite_requant.Stored(weight, 8, scale, bias, slope < 0, 0)


@pytest.mark.parametrize("name", CASES)
def test_codes_are_those_that_the_constants_say(name):
  """By XNNPACK's rule; int4 convolutions by that of a kernel rounding twice."""
  net, narrow = NETS[name], 0
  for bits, int4 in (
    (precision.uniform(net, 8), False),
    (some_bits(net), False),
    (some_bits(net), True),
  ):
    network = lowered(net, bits)
    built = tflite.build(network, int4)
    for node, inputs, found in layers_of(network, built):
      if not (stored := built.layers.get(node.name)):
        continue
      rules = [litert_rules.once]
      if stored.bits == 4 and node.op != "linear":
        rules, narrow = [litert_rules.twice_up, litert_rules.twice_away], 1
      given = network, node, inputs, stored
      made = [by_rule(*given, rule) for rule in rules]
      found = found.reshape(made[0].shape)
      assert any(np.array_equal(found, each) for each in made), node.name
  assert narrow


@pytest.mark.parametrize("portable", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_channels_that_are_proven_have_the_exact_codes(name, portable):
  """Given the same codes; fewer of the others are off than in plain files."""
  net, proven, off, off_plain = NETS[name], 0, 0, 0
  for bits in (precision.uniform(net, 8), some_bits(net)):
    network = lowered(net, bits)
    built = tflite.build(network, int4=False, portable=portable)
    for node, inputs, found in layers_of(network, built):
      expected = one_layer(network, node, inputs, [])
      apart = np.abs(found.reshape(expected.shape) - expected)
      if node.op in ("max_pool", "add"):
        assert not apart.any(), node.name
        continue
      layer = built.layers[node.name]
      assert not apart[..., layer.is_equal].any(), node.name
      assert apart.max() <= 1 + layer.clipped, node.name
      if node.op == "avg_pool":
        assert layer.is_equal.all()
        continue
      proven += layer.is_equal.sum()

      # Channels that have all their weights
      constants = plain(network, node)
      weights = constants.weight.reshape(-1, constants.weight.shape[-1])
      whole = (weights.max(0) < 128) & (weights.min(0) > -128)
      made = by_rule(network, node, inputs, constants, litert_rules.once)
      off += apart[..., whole].sum()
      off_plain += np.abs(made - expected)[..., whole].sum()
  assert proven and off < off_plain


@pytest.mark.parametrize("portable", [True, False])
def test_weights_of_128_are_clipped_and_counted(portable, tmp_path):
  """As TFLite's specification has it; or those alone that are no bytes."""
  network = lowered(MIX, precision.uniform(MIX, 8))
  built = tflite.build(network, portable=portable)
  counted, lowest = 0, 0
  for name, stored in built.layers.items():
    if MIX.node[name].op == "avg_pool":
      continue
    weight = plain(network, MIX.node[name]).weight
    beyond = (weight == 128) | (portable & (weight == -128))
    assert stored.clipped == beyond.sum()
    counted, lowest = counted + stored.clipped, min(lowest, stored.weight.min())

    # Small ones are stored larger
    channels = np.abs(weight).reshape(-1, weight.shape[-1]).max(0) > 63
    expected = np.where(beyond, 127 * np.sign(weight), weight)[..., channels]
    np.testing.assert_array_equal(stored.weight[..., channels], expected)
    touched = beyond.reshape(-1, beyond.shape[-1]).any(0)
    assert not stored.is_equal[touched].any()
  assert counted and lowest == (-127 if portable else -128)

  path = tmp_path / "net.tflite"
  path.write_bytes(built.data)
  found = from_tflite.read(path).for_images()
  assert found.on_grids()


def test_other_kernels_round_twice_and_differ_by_one_at_most():
  network = lowered(MIX, some_bits(MIX))
  built = tflite.build(network, int4=False)
  for kernels in tflite_run.KERNELS[1:]:
    for node, apart in compared(network, built, kernels):
      if node.op in ("avg_pool", "max_pool", "add"):
        assert not apart.any(), (kernels, node.name)
      elif not built.layers[node.name].clipped:
        assert apart.max() <= 1 and np.mean(apart > 0) < 0.2


def test_weights_of_4_and_2_bits_are_stored_in_4():
  bits = precision.uniform(MIX, 8)
  bits |= {"a.weight": 4, "b.weight": 2, "fc.weight": 4}
  network = lowered(MIX, bits)
  wide, narrow = (tflite.build(network, int4) for int4 in (False, True))
  assert {x.bits for x in wide.layers.values()} == {8}
  weights = {name: x.weight.size for name, x in wide.layers.items()}
  weights["fc"] = network.layers["fc"]["weight"].size
  saved = 0
  for name in ("a", "b", "fc"):
    layer = narrow.layers.get(name)
    if layer and layer.weight.max() > 7:
      assert layer.bits == 8  # -8 times a negative batch norm
    else:
      assert layer is None or layer.bits == 4
      saved += weights[name] // 2
  assert saved and narrow.weight_bytes == wide.weight_bytes - saved
  for node, apart in compared(network, narrow):
    layer = narrow.layers.get(node.name)
    assert apart.max() <= 1 or (layer and layer.clipped), node.name


def test_a_comparison_counts_codes_end_to_end():
  network = lowered(MIX, precision.uniform(MIX, 8))
  built, codes = tflite.build(network, portable=False), codes_of(MIX, 64)
  compared_ = tflite_run.compare(built.data, network, codes)
  found = run(built, network, 64)
  expected, _ = integers(network, codes)
  logits = expected.pop("fc")
  assert np.sum(compared_.classes == logits.argmax(-1)) >= 62
  np.testing.assert_array_equal(compared_.classes, found["fc"].argmax(-1))
  del expected[INPUT]
  apart = [np.abs(found[x].reshape(y.shape) - y) for x, y in expected.items()]
  assert compared_.values == sum(x.size for x in apart)
  assert compared_.equal == sum((x == 0).sum() for x in apart)
  assert compared_.largest == max(x.max() for x in apart)
  assert 0.9 < compared_.equal / compared_.values < 1


@pytest.mark.parametrize("bits", [2, 4])
def test_signed_codes_of_few_bits_are_clipped_at_both_ends(bits):
  net = Net(
    "signed",
    (6, 5, 2),
    (
      Node("a", "conv", (INPUT,), 8, (3, 3), 1, 1, **CONV),
      Node("b", "conv", ("a",), 8, norm=True),
      Node("fc", "linear", ("b",), 3, bias=True, is_output=True),
    ),
    fixes_adders=False,
  )
  given = variables(net)
  narrow = {**given["ranges"], "b.out": given["ranges"]["b.out"] / 3}
  assigned = precision.uniform(net, 8) | {"b.out": bits}
  network = lowering.lower(net, {**given, "ranges": narrow}, assigned, 64)
  built = tflite.build(network, int4=False)
  found = run(built, network)["b"]
  assert (found.min(), found.max()) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
  (*_, (node, apart)) = compared(network, built)
  assert node.name == "b" and apart.max() <= 1
  assert not apart[..., built.layers["b"].is_equal].any()


def padded(zero=(), pool=None, relu=True):
  last = CONV if relu else dict(norm=True)
  nodes = [
    Node("a", "conv", (INPUT,), 8, (3, 3), 2, (0, 1, 1, 1), **CONV),
    Node("b", "conv", ("a",), 8, (3, 3), 1, 1, **last),
    Node("fc", "linear", ("b",), 3, bias=True, is_output=True),
  ]
  if pool is not None:
    nodes[2:] = [
      Node("max", "max_pool", ("b",), 0, (3, 3), 2, pool),
      Node("fc", "linear", ("max",), 3, bias=True, is_output=True),
    ]
  return Net("padded", (7, 6, 2), tuple(nodes), image_zero=zero)


def test_images_are_padded_with_their_zero_where_that_is_one_number():
  net = padded((90, 90))
  network = lowered(net, precision.uniform(net, 8))
  for node, apart in compared(network, built := tflite.build(network)):
    assert not apart[..., built.layers[node.name].is_equal].any()
  net = padded((90, 7))
  with pytest.raises(
    lowering.UnsupportedError, match="padded with zero .90, 7"
  ):
    tflite.build(lowered(net, precision.uniform(net, 8)))


def test_maxima_of_signed_numbers_are_padded_as_tflite_does_or_refused():
  for pool, relu in (((1, 1, 0, 1), True), ((0, 1, 1, 1), True), (1, False)):
    net = padded(pool=pool, relu=relu)
    network = lowered(net, precision.uniform(net, 8))
    if relu or pool == 1:
      for node, apart in compared(network, tflite.build(network)):
        assert node.op != "max_pool" or not apart.any()
  net = padded(pool=(1, 0, 1, 0), relu=False)
  with pytest.raises(lowering.UnsupportedError, match="'max' .*maxima of sign"):
    tflite.build(lowered(net, precision.uniform(net, 8)))


# ---- read again


@pytest.mark.parametrize("int4", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_what_is_read_again_has_the_codes_of_litert(name, int4, tmp_path):
  """fbq's own integers, of the file alone, code by code."""
  net = NETS[name]
  network = lowered(net, some_bits(net) if int4 else precision.uniform(net, 8))
  built = tflite.build(network, int4)
  path = tmp_path / "net.tflite"
  path.write_bytes(built.data)
  found = from_tflite.read(path).for_images()
  assert [n.op for n in found.net.nodes] == [n.op for n in net.nodes]
  again, given, bits = found.on_grids()
  network_again = lowering.lower(again, given, bits, 64)
  expected = run(built, network)
  for node, original in zip(again.nodes[:-1], net.nodes, strict=False):
    assert found.labels[node.name] == original.name
    assert (
      bits[again.site_of[node.name]] == network.bits[net.site_of[original.name]]
    )
    source = dict(zip(again.shapes, net.shapes, strict=True))
    inputs = [expected[source[x]] for x in node.inputs]
    made = one_layer(network_again, node, inputs, [])
    apart = np.abs(expected[original.name].reshape(made.shape) - made)

    # int4 runs in kernels that round twice, and float32 near ties either way
    stored = built.layers.get(original.name)
    if stored is None:
      assert not apart.any(), original.name
    elif stored.bits == 8:
      total = litert_rules.sums(original, inputs, stored)
      scales = scales_of(network, original, stored)
      assert not apart[~litert_rules.near_ties(total, scales)].any()
      assert apart.sum() <= 1, original.name
    else:
      assert apart.max() <= 1, node.name


def test_a_file_without_integers_has_no_grids(tmp_path):
  import tflite_writer

  w = tflite_writer.Writer((4,))
  out = w.node(
    "FULLY_CONNECTED", [w.image, w.array(np.ones((3, 4))), -1], (1, 3),
    "FullyConnectedOptions",
  )  # fmt: skip
  path = tmp_path / "net.tflite"
  path.write_bytes(w.bytes(out))
  with pytest.raises(ValueError, match="no integers at 'fc1.weight'"):
    from_tflite.read(path).on_grids()


def test_altered_and_cut_files_are_refused(tmp_path):
  data = tflite.build(lowered(MIX, precision.uniform(MIX, 8))).data
  path = tmp_path / "net.tflite"
  path.write_bytes(data)
  assert tflite_run.load(path) == data
  assert tflite_file.File(path).facts["net"] == "mix"

  random = np.random.default_rng(0)
  seal = data.index(b'{"net"')
  places = [*random.integers(0, len(data), 60), *range(seal, seal + 120, 3)]
  for place in places:
    altered = bytearray(data)
    altered[place] ^= 1 << int(random.integers(8))
    path.write_bytes(altered)
    with pytest.raises(ArtifactError) as error:
      tflite_run.load(path)
    assert "\n" not in str(error.value)
  for size in (*random.integers(0, len(data), 20), len(data) - 1):
    path.write_bytes(data[:size])
    with pytest.raises(ArtifactError):
      tflite_run.load(path)

  # LiteRT would run one whose weights alone are others; the import does not
  weights = tflite.build(lowered(MIX, precision.uniform(MIX, 8))).layers["e"]
  place = data.index(weights.weight.T.astype(np.int8).tobytes())
  altered = bytearray(data)
  altered[place] ^= 1
  tflite_run.session(bytes(altered)).allocate_tensors()
  path.write_bytes(altered)
  with pytest.raises(ValueError, match="was cut short or altered"):
    from_tflite.read(path)


def test_files_of_others_are_not_taken_for_ours(tmp_path):
  import tflite_writer

  w = tflite_writer.Writer((4,))
  path = tmp_path / "net.tflite"
  path.write_bytes(w.bytes(w.node("RELU", [w.image], (1, 4))))
  with pytest.raises(ArtifactError, match="no seal of fbq"):
    tflite_run.load(path)
  assert tflite_file.File(path).facts == {}
