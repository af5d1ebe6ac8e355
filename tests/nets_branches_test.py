"""Concatenation, gates and norms in the table: sites, costs, refusals."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fbq import nets
from fbq.model import Model
from fbq.nets import Net, Node
from hwsim import latency_io, proxies
from hwsim.latency_table import LatencyTable
from hwsim.pulp import XPULPNN_V1, latency_table, simulate
from hwsim.workload import Layer

RELU = dict(norm=True, activation="relu")
FC = Node("fc", "linear", ("last",), 3, is_output=True)


def net(*nodes):
  """Nodes on an 8x8x2 image, the classifier after the last of them."""
  fc = dataclasses.replace(FC, inputs=(nodes[-1].name,))
  return Net("net", (8, 8, 2), (*nodes, fc))


def conv(name, before, features=2, **changes):
  return Node(name, "conv", (before,), features, **(RELU | changes))


def concat(name, *parts):
  return Node(name, "concat", parts)


def max_pool(name, before, stride=1):
  return Node(
    name, "max_pool", (before,), kernel=(3, 3), stride=stride, padding=1
  )


# ---- sites -------------------------------------------------------------------


def test_an_inception_block_has_one_site():
  """Its pool reads what others read, and keeps that site."""
  table = nets.googlenet()
  for node in table.nodes:
    if node.op == "concat":
      site = f"{node.name}.out"
      sites = {table.site_of[name] for name in (*node.inputs, node.name)}
      assert sites == {site}
      assert not table.is_signed[site] and site in table.workload.free_sites
  assert table.site_of["inception3b.pool"] == "inception3a.out"
  assert table.site_of["pool3"] == table.site_of["inception4a.pool"]
  assert len(table.parts) == 9 * 4
  # The image, 58 weights, and the outputs of 3 + 9 x (2 reductions + 1).
  assert len(table.workload.sites) == 1 + 58 + 3 + 9 * 3
  assert table.fixed_bits == {"input.out": 8}


def test_a_part_that_others_read_keeps_its_site():
  table = net(
    conv("a", "input"),
    conv("b", "a"),
    concat("cat", "a", "b"),
  )
  assert table.site_of["a"] == "a.out"
  assert table.site_of["b"] == table.site_of["cat"] == "cat.out"
  assert table.parts == {"b"}
  work = table.workload
  assert work.input_sites[2] == ("a.out", "cat.out")
  assert work.in_place == frozenset()


def test_pools_are_followed_to_their_source():
  """Inception v3's reductions: the pooled part is read elsewhere or not."""
  alone = (conv("a", "input"), max_pool("p", "a"), conv("b", "input"))
  table = net(*alone, concat("cat", "p", "b"))
  assert set(table.site_of.values()) == {"input.out", "cat.out", None}
  assert table.parts == {"p", "b"} and table.workload.in_place == {3}

  shared = (conv("a", "input"), max_pool("p", "a"), conv("b", "a"))
  table = net(*shared, concat("cat", "p", "b"))
  assert table.site_of["p"] == table.site_of["a"] == "a.out"
  assert table.parts == {"b"} and table.workload.in_place == frozenset()


def test_nested_and_shared_concatenations():
  parts = (conv("a", "input"), conv("b", "input"), conv("c", "input"))
  table = net(*parts, concat("inner", "a", "b"), concat("cat", "inner", "c"))
  assert {table.site_of[n] for n in ("a", "b", "c", "inner")} == {"cat.out"}
  assert table.workload.in_place == {3, 4}
  # Read by two concatenations: `b` cannot lie in both.
  table = net(*parts, concat("ab", "a", "b"), concat("bc", "b", "c"),
              concat("cat", "ab", "bc"))  # fmt: skip
  assert table.site_of["b"] == "b.out"
  assert table.workload.in_place == {5}
  twice = net(conv("a", "input"), concat("cat", "a", "a"))
  assert twice.parts == {"a"} and twice.workload.in_place == frozenset()
  image = net(conv("a", "input"), concat("cat", "input", "a"))
  assert image.workload.input_sites[1] == ("input.out", "cat.out")
  assert image.parts == {"a"} and image.workload.in_place == frozenset()


def test_one_negative_part_makes_the_whole_signed():
  signed = conv("b", "input", activation="none")
  table = net(conv("a", "input"), signed, concat("cat", "a", "b"))
  assert table.is_signed == {"input.out": False, "cat.out": True}
  assert table.fixed_bits == {"input.out": 8, "cat.out": 8}
  # Requantized, an input that is signed at a site of its own counts as well.
  read = conv("c", "b", activation="relu")
  table = net(signed, read, concat("cat", "b", "c"))
  assert table.is_signed["cat.out"] and table.site_of["b"] == "b.out"


def test_an_adder_fixes_what_it_is_concatenated_with():
  table = net(
    conv("a", "input"),
    Node("sum", "add", ("a", "input"), activation="relu"),
    conv("b", "input"),
    concat("cat", "sum", "b"),
  )
  assert table.fixed_bits == dict.fromkeys(("input.out", "a.out", "cat.out"), 8)


def test_activation_functions_and_gates_decide_the_sign():
  table = net(
    conv("g", "input", activation="gelu"),
    Node("mean", "avg_pool", ("g",), kernel=None),
    Node(
      "gate", "channel_conv", ("mean",), kernel=(1, 3), activation="sigmoid"
    ),
    Node("signed", "scale", ("g", "gate")),
    conv("r", "input"),
    Node("unsigned", "scale", ("r", "gate")),
    Node("norm", "layer_norm", ("unsigned",)),
  )
  signed = {site for site, is_signed in table.is_signed.items() if is_signed}
  assert signed == {"g.out", "signed.out", "norm.out"}
  assert table.site_of["mean"] == "g.out"
  assert {"gate.out", "r.out", "unsigned.out"} <= set(table.workload.free_sites)
  assert table.workload.functions == (("g", "gelu"), ("gate", "sigmoid"))


# ---- quantizers --------------------------------------------------------------


class Recorder:
  """A scheme and a quantizer that notes what it is given."""

  def __init__(self):
    self.seen = []

  def quantizer(self, call):
    del call
    return self

  def weight(self, kernel, node):
    self.seen.append((f"{node.name}.weight", kernel.shape))
    return kernel

  def activation(self, x, site):
    self.seen.append((site, x.shape[1:]))
    return jnp.maximum(x, 0.0) + 1.0


def quantized(table):
  """(what the scheme was given, every tensor) of a pass with random weights."""
  scheme = Recorder()
  images = jax.random.uniform(jax.random.key(0), (4, *table.input_shape))

  @jax.jit
  def run(images):
    variables = Model(table).init(jax.random.key(1), images, False)
    return Model(table, scheme).apply(
      variables, images, False, mutable="intermediates"
    )[1]["intermediates"]

  tensors = {name: value[0] for name, value in run(images).items()}
  activations = [x for x in scheme.seen if not x[0].endswith("weight")]
  return activations, tensors


def test_a_concatenated_tensor_is_quantized_once_and_whole():
  activations, seen = quantized(
    net(
      conv("a", "input", 2),
      Node("mean", "avg_pool", ("a",), kernel=(3, 3), padding=1),
      conv("b", "input", 3),
      concat("cat", "mean", "b"),
      concat("twice", "cat", "input"),
    )
  )
  assert activations == [
    ("input.out", (8, 8, 2)),
    ("twice.out", (8, 8, 2)),  # what the mean is taken of
    ("twice.out", (8, 8, 7)),
  ]
  # The image was quantized when the concatenation read it (plus 1 here).
  image, parts = seen["twice"][..., 5:], seen["twice"][..., :5]
  assert image.min() >= 1 and image.max() <= 2
  np.testing.assert_array_equal(parts, seen["cat"])


def test_the_relu_of_a_part_is_done_where_its_quantizer_is_signed():
  signed = conv("b", "input", 8, activation="none")
  _, seen = quantized(
    net(conv("a", "input", 8), signed, concat("cat", "a", "b"))
  )
  a, b = seen["cat"][..., :8], seen["cat"][..., 8:]
  np.testing.assert_array_equal(a, np.maximum(seen["a"], 0.0))
  assert seen["a"].min() < 0 and b.min() < 0
  _, seen = quantized(
    net(conv("a", "input", 8), conv("b", "input"), concat("cat", "a", "b"))
  )
  assert seen["cat"].min() < 0  # left to the unsigned quantizer


# ---- costs -------------------------------------------------------------------


def test_parts_written_in_place_need_no_memory_of_their_own():
  parts = (conv("a", "input", 3), conv("b", "input", 5))
  table = net(*parts, concat("cat", "a", "b"), conv("c", "cat", 1))
  bits = dict.fromkeys(table.workload.free_sites, 4)
  peak = proxies.peak_activation_bytes(table.workload, bits)
  assert peak == 128 + (64 * 3 + 64 * 5) // 2  # image and both, at layer b
  table = net(*parts, concat("cat", "a", "b"), conv("c", "cat", 16))
  bits = dict.fromkeys(table.workload.free_sites, 4)
  peak = proxies.peak_activation_bytes(table.workload, bits)
  assert peak == (64 * 8 + 64 * 16) // 2  # they stay for layer c
  # A copy where the parts stay for others.
  table = net(*parts, concat("cat", "a", "b"), conv("c", "a", 8),
              Node("sum", "add", ("cat", "c")))  # fmt: skip
  work = table.workload
  bits = dict.fromkeys(work.free_sites, 4)
  assert work.output_sites[:3] == ("a.out", "cat.out", "cat.out")
  assert proxies.peak_activation_bytes(work, bits | {"a.out": 4}) == max(
    64 * 3 // 2 + 64 * 5 + 64 * 8,  # at the concatenation; adders have 8 bits
    64 * (8 + 8 + 8),  # at the adder
  )


def test_the_image_is_counted_where_a_concatenation_reads_it():
  table = net(concat("cat", "input", "input"), conv("a", "cat", 1))
  peak = proxies.peak_activation_bytes(
    table.workload, dict.fromkeys(table.workload.free_sites, 2)
  )
  assert peak == 128 + 256 // 4


def test_bit_operations_are_those_of_the_kernels():
  table = net(
    conv("a", "input", 5),
    Node("mean", "avg_pool", ("a",), kernel=None),
    Node(
      "gate", "channel_conv", ("mean",), kernel=(1, 3), activation="sigmoid"
    ),
    Node("scale", "scale", ("a", "gate")),
    Node("norm", "layer_norm", ("scale",)),
  )
  work = table.workload
  assert work.layers[2] == Layer(
    "gate", "conv", 1, 1, 1, 5, 1, 3, 1, (0, 0, 1, 1)
  )
  bits = dict.fromkeys(work.free_sites, 4) | {"gate.weight": 2}
  found = proxies.bops(work, bits)
  assert found == 8 * 4 * 640 + 4 * 2 * 15 + 8 * 4 * (320 * 3)
  assert proxies.weight_bytes(work, bits) == 5 + 1 + 480
  assert table.parameter_count == 10 + 10 + 3 + 10 + 320 * 3


def test_pulp_says_what_it_has_no_kernel_for():
  with pytest.raises(ValueError, match="'inception3a': .* have no concat, onl"):
    latency_table(nets.googlenet(0.25, 32).workload, XPULPNN_V1)
  with pytest.raises(ValueError, match="'stem.norm': .* have no layer_norm, o"):
    latency_table(nets.convnext(0.25, 32).workload, XPULPNN_V1)
  with pytest.raises(ValueError, match="'block1.scale': .* have no scale, onl"):
    eca = nets.mobilenet_v2(0.25, 32, attention="adaptive")
    latency_table(eca.workload, XPULPNN_V1)
  smooth = net(conv("a", "input", activation="gelu"))
  with pytest.raises(ValueError, match="'a': .* not in gelu; .* load a table"):
    latency_table(smooth.workload, XPULPNN_V1)
  with pytest.raises(ValueError, match="layer 'x': .* have no scale"):
    simulate(Layer("x", "scale", 2, 2), 8, 8, 8, XPULPNN_V1)


def test_a_measured_table_serves_what_pulp_refuses(tmp_path):
  work = net(
    conv("a", "input"), conv("b", "input"), concat("cat", "a", "b"),
    Node("norm", "layer_norm", ("cat",)),
  ).workload  # fmt: skip
  quantized = tuple(site is not None for site in work.output_sites)
  cycles = np.full((5, 3, 3, 3), 7, np.int64)
  measured = ("measured",) * 5
  table = LatencyTable("board", work.layers, quantized, cycles, measured)
  latency_io.save(table, tmp_path / "table.csv")
  loaded = latency_io.load(tmp_path / "table.csv", work)
  np.testing.assert_array_equal(loaded.cycles, cycles)


# ---- what is refused ---------------------------------------------------------

GATE = dict(op="channel_conv", inputs=("mean",), kernel=(1, 3))
MEAN = Node("mean", "avg_pool", ("input",), kernel=None)


@pytest.mark.parametrize(
  "nodes, message",
  [
    ((concat("x", "input"),), "'x' (concat) reads 1 tensors, expected two"),
    (
      (max_pool("p", "input", 2), concat("x", "input", "p")),
      "'x' concatenates tensors of shapes [(8, 8, 2), (4, 4, 2)]",
    ),
    (
      (Node("x", "concat", ("input", "input"), activation="relu"),),
      "'x' (concat) has a norm or an activation function, expected neither",
    ),
    (
      (Node("x", "concat", ("input", "input"), norm=True),),
      "'x' (concat) has a norm",
    ),
    (
      (Node("x", "scale", ("input", "input")),),
      "'x' scales a tensor of shape (8, 8, 2) by one of shape "
      "(8, 8, 2), expected (1, 1, 2)",
    ),
    ((Node("x", "scale", ("input",)),), "'x' (scale) reads 1 tensors, ex"),
    (
      (Node("x", "channel_conv", ("input",), kernel=(1, 3)),),
      "'x' (channel_conv) reads shape (8, 8, 2) with kernel (1, 3)",
    ),
    (
      (MEAN, Node("x", **(GATE | dict(kernel=(1, 2))))),
      "with kernel (1, 2), expected one pixel and a kernel of (1, odd",
    ),
    ((MEAN, Node("x", bias=True, **GATE)), "'x' (channel_conv) has a bias"),
    (
      (Node("x", "max_pool", ("input",), layer_scale=0.1),),
      "'x' (max_pool) has a bias or a layer scale",
    ),
    (
      (Node("x", "layer_norm", ("input",), norm=True),),
      "'x' (layer_norm) has a batch norm, expected none",
    ),
  ],
)
def test_broken_branches_are_refused(nodes, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    net(*nodes)


@pytest.mark.parametrize(
  "builder, settings, message",
  [
    ("googlenet", dict(width=0), "width is 0, expected a positive"),
    ("googlenet", dict(wide_kernel=4), "wide_kernel is 4, expected an odd"),
    ("convnext", dict(width=-1), "width is -1, expected a positive"),
    ("convnext", dict(kernel=6), "kernel is 6, expected an odd"),
    (
      "convnext",
      dict(resolution=31),
      "resolution is 31, but 4 stages after patches of 4 need at least 32",
    ),
    (
      "mobilenet_v2",
      dict(attention="se"),
      "attention is 'se', expected one of ('none', 'adaptive', 'released'",
    ),
  ],
)
def test_wrong_settings_are_refused(builder, settings, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    nets.build(builder, **settings)
