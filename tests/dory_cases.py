"""A network with all that DORY reads, written for it."""

import dataclasses

import numpy as np
import pytest
from deploy_cases import CONV, images, variables

from fbq import precision
from fbq.deploy import dory, integer, lowering
from fbq.nets import Node
from fbq.nets.graph import INPUT, Net
from hwsim.pulp import XPULP_V2

# The image feeds 8-bit weights; a square linear layer; both kinds of adders.
NET = Net(
  "dory",
  (6, 6, 2),
  (
    Node("a", "conv", (INPUT,), 4, (3, 3), 1, (1, 1, 0, 1), **CONV),
    Node("half", "max_pool", ("a",), kernel=(2, 2), stride=2, padding=1),
    Node("b", "depthwise", ("half",), 0, (3, 3), 1, 1, **CONV),
    Node("c", "conv", ("b",), 4, (1, 1), norm=True),
    Node("sum", "add", ("c", "half"), activation="relu"),
    Node("d", "conv", ("sum",), 4, (1, 1), norm=True),
    Node("more", "add", ("d", "sum")),
    Node("e", "conv", ("more",), 16, (2, 2), **CONV),
    Node("pool", "avg_pool", ("e",), kernel=None),
    Node("f", "linear", ("pool",), 16, **CONV),
    Node("fc", "linear", ("f",), 3, bias=True, is_output=True),
  ),
)


def written(tmp_path, net=NET, bits=None, width=32, target=XPULP_V2):
  bits = bits or precision.uniform(net, 8) | {"e.weight": 2, "e.out": 4}
  network = lowering.lower(net, variables(net), bits, width)
  image = np.asarray(integer.quantize_images(images(net)))[2]
  dory.write(network, target, tmp_path, image)
  return network, image


def refused(net, bits, target=XPULP_V2):
  network = lowering.lower(net, variables(net), bits)
  with pytest.raises(lowering.UnsupportedError) as error:
    dory.build(network, target)
  return str(error.value)


def changed(name, **fields):
  nodes = [
    dataclasses.replace(node, **fields) if node.name == name else node
    for node in NET.nodes
  ]
  return Net("changed", NET.input_shape, tuple(nodes))
