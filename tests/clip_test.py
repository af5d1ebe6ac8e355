"""ReLU6 and other clips: in floating point, quantized and in integers."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from deploy_cases import CONV, images, variables
from onnx import numpy_helper

from fbq import precision
from fbq.deploy import dory_limits, integer, lowering, onnx_qdq
from fbq.model import Model
from fbq.nets import Net, Node
from fbq.ptq import adaround, equalization, folding
from fbq.schemes.fixed import Fixed
from hwsim.pulp import XPULPNN_V1

CLIP = 1.5
NET = Net(
  "clipped",
  (6, 6, 2),
  (
    Node("a", "conv", ("input",), 8, (3, 3), 1, 1, clip=CLIP, **CONV),
    Node("b", "depthwise", ("a",), 0, (3, 3), 2, 1, clip=CLIP, **CONV),
    Node("c", "conv", ("b",), 8, (1, 1), norm=True, clip=0.25),
    Node("pool", "avg_pool", ("c",), kernel=None),
    Node("fc", "linear", ("pool",), 3, bias=True, is_output=True),
  ),
)
BITS = precision.uniform(NET, 8) | {"a.out": 4}


def with_ranges(share):
  """Variables whose ranges are `share` of the clip of each layer."""
  ranges = dict(variables(NET)["ranges"])
  for node in NET.nodes[:3]:
    ranges[f"{node.name}.out"] = jnp.float32(share * node.clip)
  return {**variables(NET), "ranges": ranges}


def seen(model, given, **more):
  _, found = model.apply(
    given, images(NET), False, mutable=["intermediates"], **more
  )
  return {k: np.asarray(v[0]) for k, v in found["intermediates"].items()}


def test_a_clip_bounds_what_a_layer_makes():
  plain = dataclasses.replace(
    NET, nodes=(dataclasses.replace(NET.nodes[0], clip=0.0), *NET.nodes[1:])
  )
  free, found = (seen(Model(net), variables(net)) for net in (plain, NET))
  assert free["a"].max() > 2 * CLIP
  np.testing.assert_array_equal(found["a"], np.minimum(free["a"], CLIP))
  assert found["a"].min() < 0  # the ReLU comes after


@pytest.mark.parametrize("share", [0.8, 1.0, 1.7])
def test_integers_are_those_of_the_quantized_network(share):
  """Wherever the range ends: below the clip, at it, or above."""
  given = with_ranges(share)
  network = lowering.lower(NET, given, BITS)
  assert network.ends("a") == (0, min(15, round(15 / share)))
  assert network.ends("c") == (-128, min(127, round(128 / share)))
  codes = integer.quantize_images(jnp.asarray(images(NET)))
  logits = np.asarray(integer.integer_apply(network, codes))
  step = float(network.steps["fc"])
  bits = jnp.asarray(precision.to_array(NET, BITS))
  trained = Model(NET, Fixed()).apply(given, images(NET), False, bits)
  np.testing.assert_allclose(logits * step, trained, atol=2 * step)


def test_onnx_clips_at_the_same_codes():
  network = lowering.lower(NET, with_ranges(1.7), BITS)
  session = onnx_qdq.session(onnx_qdq.build(network))
  codes = integer.quantize_images(jnp.asarray(images(NET)))
  logits = np.asarray(integer.integer_apply(network, codes))
  np.testing.assert_allclose(
    onnx_qdq.run(session, images(NET)),
    logits * float(network.steps["fc"]),
    atol=2 * float(network.steps["fc"]),
  )
  # Without quantizers the clips themselves are left.
  plain = onnx_qdq.build_float(network)
  arrays = {array.name: array for array in plain.graph.initializer}
  clips = [node for node in plain.graph.node if node.op_type == "Min"]
  assert [
    float(numpy_helper.to_array(arrays[node.input[1]])) for node in clips
  ] == [node.clip for node in NET.nodes[:3]]


def test_dory_takes_a_clip_at_its_highest_code_alone():
  good = lowering.lower(NET, with_ranges(1.0), BITS)
  dory_limits.check_supported(good, XPULPNN_V1)
  network = lowering.lower(NET, with_ranges(1.7), BITS)
  with pytest.raises(
    lowering.UnsupportedError, match="'a' .*code 9 of 15; giv"
  ):
    dory_limits.check_supported(network, XPULPNN_V1)


def test_logits_are_not_clipped():
  head = dataclasses.replace(NET.nodes[-1], clip=1.0)
  net = dataclasses.replace(NET, nodes=(*NET.nodes[:-1], head))
  with pytest.raises(lowering.UnsupportedError, match="'fc' .* the logits"):
    lowering.check_supported(net)


def test_clipped_channels_are_not_equalized():
  net, _ = folding.fold(NET, variables(NET))
  assert equalization.pairs(net) == ()
  free = [dataclasses.replace(node, clip=0.0) for node in net.nodes]
  net = dataclasses.replace(net, nodes=tuple(free))
  assert equalization.pairs(net) == (("a", "b"), ("b", "c"), ("c", "fc"))


def test_adaround_minds_what_is_clipped_away():
  """Targets and outputs are those behind the clip."""
  net, _ = folding.fold(NET, variables(NET))
  assert adaround.alone(net, "a").nodes[0].clip == CLIP


@pytest.mark.parametrize(
  ("clip", "activation"),
  [(6.0, "gelu"), (-1.0, "relu"), (float("inf"), "relu")],
)
def test_a_clip_is_positive_and_of_a_relu(clip, activation):
  node = Node("a", "conv", ("input",), 2, activation=activation, clip=clip,
              is_output=True)  # fmt: skip
  with pytest.raises(ValueError, match="'a' clips .* expected a positive"):
    Net("bad", (4, 4, 1), (node,))
