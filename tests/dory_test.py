"""Files for DORY: what is written is what it reads."""

import json

import pytest
from deploy_cases import ZOO, assignments, integers

pytest.importorskip("onnx", reason="needs onnx: pip install fbq[deploy]")

from dory_cases import NET, written  # noqa: E402

from fbq import nets, precision  # noqa: E402
from fbq.deploy import dory_check  # noqa: E402
from hwsim.pulp import XPULP_V2  # noqa: E402


@pytest.mark.parametrize("width", [32, 64])
def test_what_is_written_is_what_dory_reads(tmp_path, width):
  for i, bits in enumerate([precision.uniform(NET, 8), *assignments(NET, 3)]):
    bits = dict(bits) | {"a.weight": 8, "b.weight": max(4, bits["b.weight"])}
    network, image = written(tmp_path / str(i), NET, bits, width)
    assert dory_check.problems(tmp_path / str(i)) == []
    expected, _ = integers(network, image[None])
    for j, node in enumerate(NET.nodes):
      text = (tmp_path / str(i) / f"out_layer{j}.txt").read_text().split("\n")
      assert text[0].startswith("#") and text[-1] == ""
      found = [int(line.rstrip(",")) for line in text[1:-1]]
      assert found == expected[node.name].ravel().tolist()
    config = json.loads((tmp_path / str(i) / "config.json").read_text())
    assert config["BNRelu_bits"] == width and not config["input_signed"]
    assert config["code reserved space"] == XPULP_V2.code_reserved_bytes


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet8", "vgg9"])
def test_networks_pass_the_check(tmp_path, name):
  net = (
    ZOO[name]
    if name != "mobilenet_v2"
    else nets.mobilenet_v2(0.1, 48, 10, 2, stem_stride=1)
  )
  bits = precision.uniform(net, 4)
  bits |= {f"{net.nodes[0].name}.weight": 8}
  written(tmp_path, net, bits)
  assert dory_check.problems(tmp_path) == []
