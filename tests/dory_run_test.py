"""DORY itself on exported files: it takes them, tiles and packs as we do.

Skipped unless two variables are set:

  FBQ_DORY         a checkout of pulp-platform/dory (be3d6dd), with its
                   submodules pulp-nn and pulp-nn-mixed
  FBQ_DORY_PYTHON  a Python with NumPy below 2, onnx, ortools and mako
"""

import dataclasses
import json
import os
import re
import shlex
import subprocess

import numpy as np
import pytest
from deploy_cases import CONV, images, variables

pytest.importorskip("onnx", reason="needs onnx: pip install fbq[deploy]")

from fbq import nets  # noqa: E402
from fbq.deploy import (  # noqa: E402
  dory,
  dory_target,
  integer,
  lowering,
  packing,
)
from fbq.nets import Node  # noqa: E402
from fbq.nets.graph import INPUT, Net  # noqa: E402
from hwsim.pulp import XPULP_V2, XPULPNN_V1, tiles  # noqa: E402

pytestmark = pytest.mark.skipif(
  not ("FBQ_DORY" in os.environ and "FBQ_DORY_PYTHON" in os.environ),
  reason="FBQ_DORY and FBQ_DORY_PYTHON name a checkout of DORY and its Python",
)

# A signed operand made after an unsigned one, and before it.
SIGNS = Net(
  "signs",
  (8, 8, 4),
  (
    Node("a", "conv", (INPUT,), 16, (3, 3), 1, 1, **CONV),
    Node("b", "conv", ("a",), 16, (3, 3), 1, 1, norm=True),
    Node("sum", "add", ("a", "b")),
    Node("c", "conv", ("sum",), 16, (3, 3), 1, 1, **CONV),
    Node("again", "add", ("sum", "c"), activation="relu"),
    Node("pool", "avg_pool", ("again",), kernel=None),
    Node("fc", "linear", ("pool",), 4, bias=True, is_output=True),
  ),
)
NETS = {
  "mobilenet_v1": nets.mobilenet_v1(0.25, 48, 10, 1, stem_stride=1),
  "resnet8": nets.resnet8(0.5, 32, in_channels=1),
  "ds_cnn": nets.ds_cnn(),
  "signs": SIGNS,
}


@pytest.fixture(scope="module", params=NETS)
def run(request, tmp_path_factory):
  """(network in integers, target, folder of the application DORY made)."""
  net = NETS[request.param]
  target = XPULPNN_V1 if request.param == "ds_cnn" else XPULP_V2
  width = 32 if request.param == "signs" else 64
  network = lowering.lower(net, variables(net), allowed(net), width)
  folder = tmp_path_factory.mktemp(request.param)
  image = np.asarray(integer.quantize_images(images(net)))[2]
  dory.write(network, target, folder / "dory", image)

  # In a folder of its own, where it leaves the graph that it made
  command = shlex.split(dory_target.invocation(target).command)
  program = os.path.join(os.environ["FBQ_DORY"], command[1])
  subprocess.run(
    [os.environ["FBQ_DORY_PYTHON"], program, *command[2:]],
    cwd=folder,
    check=True,
    capture_output=True,
  )
  return network, target, folder


def allowed(net):
  """Random bits that no kernel refuses."""
  random, first = np.random.default_rng(1), f"{net.nodes[0].name}.weight"
  bits = {site: int(random.choice([2, 4, 8])) for site in net.workload.sites}
  for node in net.nodes:
    if node.op == "depthwise":
      bits[f"{node.name}.weight"] = max(4, bits[f"{node.name}.weight"])
  return bits | net.fixed_bits | {first: 8}


def layers_of(folder):
  """DORY's own graph, layer by layer."""
  path = folder / "logs/HW_related/json_files/07_DORY_HW_with_checksums.json"
  return json.loads(path.read_text())["graph"]


def test_dory_writes_code_for_every_layer(run):
  """It exits with 0 where it finds no tile, so files tell."""
  network, _, folder = run
  sources = {path.name for path in (folder / "application/src").iterdir()}
  assert "network.c" in sources
  for i, layer in enumerate(layers_of(folder)):
    assert f"{layer['name']}{i}.c" in sources
  assert len(layers_of(folder)) == len(network.net.nodes)


def test_tiles_are_those_of_the_simulator(run):
  network, target, folder = run
  wide = dataclasses.replace(target, constant_bits=network.width)
  net = network.net
  found = zip(net.nodes, net.workload.layers, layers_of(folder), strict=True)
  for node, layer, made in found:
    if not node.has_weights:
      continue
    theirs = made["Tiling_parameters"]
    in_l2, in_l3 = (theirs[x]["output_dimensions"] for x in ("L2", "L3"))
    assert in_l2 == in_l3
    bits = [network.bits[network.site(node.inputs[0])]]
    bits += [network.bits[f"{node.name}.weight"]]
    bits += [32 if node.is_output else network.bits[network.site(node.name)]]
    _, tile = tiles(layer, *bits, wide)
    channels, height, width = theirs["L1"]["input_dimensions"]
    assert (channels, height, width) == (tile.in_channels, *tile[2:4]), node
    expected = [tile.out_channels, tile.out_height, tile.out_width]
    assert theirs["L1"]["output_dimensions"] == expected, node


def test_hex_files_are_weights_and_constants_as_packed_here(run):
  network, _, folder = run
  for i, (node, made) in enumerate(
    zip(network.net.nodes, layers_of(folder), strict=True)
  ):
    if not node.has_weights:
      continue
    part, bits = network.layers[node.name], network.bits[f"{node.name}.weight"]
    weights = packing.to_memory(node.op, part["weight"], bits)
    expected = packing.pack(weights, bits).tobytes()
    if "bias" in part:
      expected += part["bias"].astype("<i4").tobytes()
    for key in ("mul", "add"):
      if key in part:
        expected += part[key].astype(f"<i{network.width // 8}").tobytes()
    name = f"{made['name']}{i}_weights.hex"
    content = (folder / "application/hex" / name).read_bytes()
    assert content[: len(expected)] == expected, node
    assert not any(content[len(expected) :])


def test_constants_and_types_in_the_code_are_exact(run):
  """Multipliers of means, and operands of adders: the one made last first."""
  network, _, folder = run
  net = network.net
  order = {name: i for i, name in enumerate((INPUT, *net.node))}
  for i, (node, made) in enumerate(
    zip(net.nodes, layers_of(folder), strict=True)
  ):
    path = folder / f"application/src/{made['name']}{i}.c"
    code = path.read_text() if path.exists() else ""
    if node.op == "avg_pool":
      (arguments,) = re.findall(r"pulp_nn_avgpool\w*\(([^)]*)\)", code)
      mul, shift, add = arguments.split(",")[2:5]
      height, width, _ = net.shapes[node.inputs[0]]
      part = network.layers[node.name]
      assert float(mul) == int(part["mul"][0]) * height * width
      assert float(add) == int(part["add"][0])
      assert shift.strip() == "out_shift" or int(float(shift)) == part["shift"]
    if node.op == "add":
      (call,) = re.findall(r"pulp_nn_add_(\w+)\(", code)
      later, earlier = sorted(node.inputs, key=order.get, reverse=True)
      types = [
        ("i" if network.ends(name)[0] < 0 else "u") + "8"
        for name in (later, earlier, node.name)
      ]
      assert call == "_".join(types)
