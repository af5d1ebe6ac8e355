"""TFLite files, run by LiteRT, against the integer network.

FBQ_SLOW asks for all networks.
"""

import os

import numpy as np
import pytest
from deploy_cases import CONV, MIX, assignments, images, one_layer, variables

pytest.importorskip("ai_edge_litert", reason="needs pip install fbq[tflite]")

from c_code_test import NETS  # noqa: E402

from fbq import precision  # noqa: E402
from fbq.deploy import integer, lowering, tflite, tflite_run  # noqa: E402
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
  found = run(built, network, kernels=kernels)
  for node in network.net.nodes[:-1]:
    inputs = [found[name] for name in node.inputs]
    zero = np.array(network.net.image_zero or 0)
    inputs = [
      x - zero if name == INPUT else x
      for name, x in zip(node.inputs, inputs, strict=True)
    ]
    expected = one_layer(network, node, inputs, [])
    yield node, np.abs(found[node.name].reshape(expected.shape) - expected)


@pytest.mark.parametrize("name", CASES)
def test_channels_that_are_proven_have_the_exact_codes(name):
  """Given the same codes; of the others few are off, by one."""
  net = NETS[name]
  for bits in (precision.uniform(net, 8), some_bits(net)):
    network = lowered(net, bits)
    built, proven = tflite.build(network, int4=False), 0
    for node, apart in compared(network, built):
      if node.op in ("max_pool", "add"):
        assert not apart.any(), node.name
        continue
      layer = built.layers[node.name]
      assert not apart[..., layer.is_equal].any(), node.name
      assert apart.max() <= 1 + layer.clipped, node.name
      if not layer.clipped:
        assert np.mean(apart > 0) < 0.1, node.name
      if node.op == "avg_pool":
        assert layer.is_equal.all()
      proven += layer.is_equal.sum()
    assert proven > 5


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


def test_a_whole_network_agrees_with_the_integers():
  """In classes, and in nearly all codes, end to end."""
  found = tflite_run.compare(
    tflite.build(lowered(MIX, precision.uniform(MIX, 8)), False).data,
    network := lowered(MIX, precision.uniform(MIX, 8)),
    codes := codes_of(MIX, 64),
  )
  ours = np.asarray(integer.integer_apply(network, codes)).argmax(-1)
  assert np.sum(found.classes == ours) >= 62
  assert found.equal / found.values > 0.9 and found.largest <= 8


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

    # int4 runs in kernels that round twice
    stored = built.layers.get(original.name)
    if stored is None or stored.bits == 8:
      assert not apart.any(), original.name
    else:
      assert apart.max() <= 1 and np.mean(apart > 0) < 0.1


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
