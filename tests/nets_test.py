"""The table of layers: counts, shapes, sites, and what it refuses."""

import json
import pathlib
import re

import pytest

from fbq import nets
from fbq.nets import Net, Node
from hwsim import proxies

COUNTS = json.loads(
  (pathlib.Path(__file__).parent / "golden/bops_counts.json").read_text()
)
PUBLISHED = {
  "MobileNetV1-0.75-224": lambda: nets.build("mobilenet_v1", width=0.75),
  "MobileNetV1-1.0-224": lambda: nets.build("mobilenet_v1"),
  "ResNet8-CIFAR(quantlab)": lambda: nets.build("resnet8"),
}
CONV = dict(norm=True, activation="relu")


def published(name):
  return PUBLISHED[name](), COUNTS[name]


def weighted(net):
  return [node for node in net.nodes if node.has_weights]


# ---- counts ------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_layer_equals_the_published_list(name):
  """In the order of the list: size, MACs, weights and bias, batch norm."""
  net, counts = published(name)
  assert len(weighted(net)) == counts["layers"]
  for node, row in zip(weighted(net), counts["layer_list"], strict=True):
    layer = net.workload.layers[net.workload.index[node.name]]
    shape = net.shapes[node.name]
    assert shape == (row["hout"], row["hout"], row["cout"]), row
    assert (layer.in_channels, layer.stride) == (row["cin"], row["stride"])
    assert layer.macs == row["macs"], row
    assert layer.weight_count + node.bias * row["cout"] == row["params"], row
    assert 2 * node.norm * row["cout"] == row["bn"], row


@pytest.mark.parametrize("name", PUBLISHED)
def test_totals_equal_the_published_ones(name):
  net, counts = published(name)
  assert net.workload.macs == counts["macs"]
  assert max(x.macs for x in net.workload.layers) == counts["max_layer_macs"]
  assert net.parameter_count == counts["params_total"]
  norms = sum(2 * net.shapes[n.name][2] for n in net.nodes if n.norm)
  assert norms == counts["params_bn_affine"]


@pytest.mark.parametrize("name", list(PUBLISHED)[:2])
@pytest.mark.parametrize(
  "bits, key",
  [(2, "BOPs_2_2_input8"), (4, "BOPs_4_4_input8"), (8, "BOPs_8_8")],
)
def test_bit_operations_equal_the_published_ones(name, bits, key):
  """Where only the image is fixed; adders of ResNet fix more than the list."""
  net, counts = published(name)
  precision = dict.fromkeys(net.workload.free_sites, bits)
  assert proxies.bops(net.workload, precision) == counts[key]


def test_resnet8_at_8_bits_equals_the_published_bit_operations():
  net, counts = published("ResNet8-CIFAR(quantlab)")
  precision = dict.fromkeys(net.workload.free_sites, 8)
  assert proxies.bops(net.workload, precision) == counts["BOPs_8_8"]


# ---- shapes ------------------------------------------------------------------


def test_shapes_by_hand():
  """Stride, padding, a kernel that is not square, pools, and flattening."""
  net = Net(
    "shapes",
    (9, 7, 2),
    (
      Node("a", "conv", ("input",), 3, (3, 3), 2, 1, **CONV),
      Node("b", "depthwise", ("a",), 0, (3, 1), 1, 0, **CONV),
      Node("c", "max_pool", ("b",), kernel=(2, 2), stride=2, padding=1),
      Node("d", "linear", ("c",), 5, is_output=True),
    ),
  )
  assert net.shapes == {
    "input": (9, 7, 2),
    "a": (5, 4, 3),
    "b": (3, 4, 3),
    "c": (2, 3, 3),
    "d": (1, 1, 5),
  }
  linear = net.workload.layers[-1]
  assert (linear.in_channels, linear.macs) == (2 * 3 * 3, 90)
  assert net.parameter_count == 3 * 3 * 2 * 3 + 6 + 9 + 6 + 90


@pytest.mark.parametrize(
  "settings, expected",
  [
    (dict(width=1 / 32, resolution=1), (1, 1, 32)),
    (dict(width=0.25, resolution=32, stem_stride=1), (2, 2, 256)),
    (
      dict(width=0.25, resolution=32, stem_stride=1, last_stride=1),
      (4, 4, 256),
    ),
    (dict(width=0.75, resolution=33), (2, 2, 768)),
  ],
)
def test_mobilenet_sizes(settings, expected):
  net = nets.build("mobilenet_v1", **settings)
  assert net.shapes["pw13"] == expected
  assert net.shapes["pool"] == (1, 1, expected[2])


def test_a_net_of_a_fork_is_found_by_its_path():
  net = nets.build("fbq.nets.resnet:resnet8", width=0.5, resolution=16)
  assert net == nets.resnet8(width=0.5, resolution=16)
  assert hash(net) == hash(nets.resnet8(width=0.5, resolution=16))


# ---- sites -------------------------------------------------------------------


def residual_net():
  """conv -> (conv -> add with its input) -> pool -> classifier."""
  return Net(
    "residual",
    (6, 6, 2),
    (
      Node("a", "conv", ("input",), 3, (3, 3), 1, 1, **CONV),
      Node("b", "conv", ("a",), 3, (3, 3), 1, 1, norm=True),
      Node("sum", "add", ("b", "a"), activation="relu"),
      Node("c", "conv", ("sum",), 4, (1, 1), **CONV),
      Node("max", "max_pool", ("c",), kernel=(2, 2), stride=2),
      Node("mean", "avg_pool", ("max",), kernel=None),
      Node("fc", "linear", ("mean",), 5, bias=True, is_output=True),
    ),
  )


def test_pooled_tensors_keep_the_site_of_their_source():
  net = residual_net()
  assert net.site_of["max"] == net.site_of["mean"] == "c.out"
  assert net.workload.input_sites[-1] == ("c.out",)
  assert net.site_of["fc"] is None and net.workload.output_sites[-1] is None
  assert net.workload.sites == (
    *("input.out", "a.weight", "a.out", "b.weight", "b.out", "sum.out"),
    *("c.weight", "c.out", "fc.weight"),
  )


def test_operands_and_sums_of_adders_are_fixed():
  net = residual_net()
  fixed = dict.fromkeys(("input.out", "a.out", "b.out", "sum.out"), 8)
  assert net.fixed_bits == fixed == dict(net.workload.fixed_bits)
  assert net.workload.free_sites == (
    *("a.weight", "b.weight", "c.weight", "c.out", "fc.weight"),
  )
  signed = {site for site, is_signed in net.is_signed.items() if is_signed}
  assert signed == {"b.out"}


def test_a_pool_before_an_adder_fixes_its_source():
  net = Net(
    "pooled shortcut",
    (4, 4, 2),
    (
      Node("a", "conv", ("input",), 2, (1, 1), **CONV),
      Node("small", "max_pool", ("a",), kernel=(2, 2), stride=2),
      Node("b", "conv", ("a",), 2, (1, 1), 2, **CONV),
      Node("sum", "add", ("small", "b"), activation="relu"),
      Node("fc", "linear", ("sum",), 3, is_output=True),
    ),
  )
  assert net.fixed_bits["a.out"] == 8


# ---- what is refused ---------------------------------------------------------

FC = Node("fc", "linear", ("a",), 3, is_output=True)


def a(**changes):
  return Node(
    **dict(name="a", op="conv", inputs=("input",), features=2) | changes
  )


@pytest.mark.parametrize(
  "nodes, message",
  [
    ((), "net 'broken': has no nodes"),
    ((a(inputs=("x",)), FC), "node 'a' reads 'x', which no node before"),
    ((a(inputs=("a",)), FC), "node 'a' reads 'a', which no node before"),
    ((a(), a(), FC), "two nodes named 'a'"),
    ((a(name="input"), FC), "two nodes named 'input'"),
    ((a(activation="swish"), FC), "activation 'swish', expected one of"),
    ((a(),), "last node must be an output, and .*, got outputs \\[\\]"),
    ((a(is_output=True), FC), "may read one, got outputs \\['a', 'fc'\\]"),
    ((a(op="deconv"), FC), "layer 'a': op is 'deconv', expected one of"),
    ((a(features=0), FC), "layer 'a': out_channels is 0, expected"),
    ((a(stride=0), FC), "layer 'a': stride is 0, expected at least 1"),
    ((a(padding=-1), FC), "layer 'a': padding is \\(-1, -1, -1, -1\\)"),
    ((a(kernel=(5, 1)), FC), "kernel height 5 is larger than its padded inp"),
    ((a(kernel=(1, 5)), FC), "kernel width 5 is larger than its padded inpu"),
    ((a(inputs=()), FC), "node 'a' \\(conv\\) reads 0 tensors, expected 1"),
    (
      (a(), Node("s", "add", ("a",)), FC),
      "node 's' \\(add\\) reads 1 tensors, expected 2",
    ),
    (
      (a(), Node("s", "add", ("a", "a", "input")), FC),
      "node 's' \\(add\\) reads 3 tensors, expected 2",
    ),
    (
      (a(features=3), Node("s", "add", ("a", "input")), FC),
      "node 's' adds tensors of shapes .*, expected equal shapes",
    ),
  ],
)
def test_broken_tables_are_refused(nodes, message):
  with pytest.raises(ValueError, match=message):
    Net("broken", (4, 4, 2), nodes)


@pytest.mark.parametrize(
  "builder, settings, message",
  [
    ("mobilenet", {}, "net.builder is 'mobilenet', expected one of"),
    ("resnet8", dict(widht=1), "net.builder 'resnet8': .*'widht'"),
    ("fbq.nets:resnet8", dict(depth=20), "'fbq.nets:resnet8': .*'depth'"),
    ("mobilenet_v1", dict(width=0.03), "width is 0.03, which leaves 0 chan"),
    ("mobilenet_v1", dict(resolution=0), "in_height is 0, expected at least"),
    ("resnet8", dict(classes=0), "'classifier': out_channels is 0"),
  ],
)
def test_wrong_settings_are_refused(builder, settings, message):
  with pytest.raises(ValueError, match=message):
    nets.build(builder, **settings)


def test_unknown_builder_lists_the_known_ones():
  with pytest.raises(ValueError, match=re.escape(str(sorted(nets.BUILDERS)))):
    nets.build("mobilnet_v1")
