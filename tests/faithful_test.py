"""The integer network against the fake-quantized model, in codes off by N."""

import numpy as np
import pytest
from deploy_cases import (
  MIX,
  assignments,
  exact,
  images,
  one_layer,
  variables,
)

from fbq import precision
from fbq.deploy import faithful, integer, lowering

ALL_8 = precision.uniform(MIX, 8)


def trained(bits):
  found = faithful.trained_codes(
    MIX, variables(MIX), precision.to_array(MIX, bits), images(MIX)
  )
  return {name: np.asarray(x) for name, x in found.items()}


def test_the_model_rounds_as_float64_does():
  """Means of 4 integers tie often; the model must round them up."""
  ties = 0
  for bits in (ALL_8, *assignments(MIX, 2)):
    found = trained(bits)
    for name, expected in exact(MIX, variables(MIX), bits, images(MIX)).items():
      if name != "fc":
        np.testing.assert_array_equal(found[name], expected, name)
    x = found["sum"][:, :4, :4].reshape(4, 2, 2, 2, 2, 8).sum((2, 4))
    np.testing.assert_array_equal(found["mean"], (x + 2) // 4)
    ties += np.sum(x % 8 == 2)  # to even, these would go down
  assert ties > 10


@pytest.mark.parametrize("width", [32, 64])
def test_layers_are_compared_given_the_same_codes(width):
  for bits in (ALL_8, *assignments(MIX, 2)):
    network = lowering.lower(MIX, variables(MIX), bits, width)
    report = faithful.compare(network, variables(MIX), images(MIX), batch=2)
    codes = trained(bits)
    for layer, node in zip(report.layers, MIX.nodes, strict=False):
      inputs = [codes[name] for name in node.inputs]
      expected = codes[node.name]
      apart = np.abs(one_layer(network, node, inputs, []) - expected)
      counted = {int(n): int(np.sum(apart == n)) for n in np.unique(apart) if n}
      assert layer.off_by == counted
      assert layer.values == expected.size
      if node.op in ("avg_pool", "max_pool"):
        assert not counted and layer.differing == layer.float_noise == 0
      elif width == 64 or node.op == "add":
        assert not counted and layer.equal_channels == layer.channels
      if counted:
        assert layer.cause
    logits = codes["fc"].argmax(-1)
    np.testing.assert_array_equal(report.trained_classes, logits)
    found = integer.integer_apply(network, codes["input"])
    np.testing.assert_array_equal(report.classes, np.argmax(found, -1))
    assert report.same_class == np.sum(report.classes == logits)
    proven = all(x.equal_channels == x.channels for x in report.layers)
    assert (report.exact_classes is not None) == proven
    if width == 64:
      assert proven and report.same_exact_class == report.images
      in_float64 = exact(MIX, variables(MIX), bits, images(MIX))["fc"]
      right = in_float64.argmax(-1)
      np.testing.assert_array_equal(report.exact_classes, right)
  assert report.images == 4


def test_logits_tie_where_the_integers_do():
  """Float32 noise, or a bias in finer steps, would choose between equals."""
  found = dict(variables(MIX))
  ties = 0
  for bits in assignments(MIX, 4, seed=1):
    bits |= {"fc.weight": 2, "e.out": 4}
    network = lowering.lower(MIX, found, bits, 64)
    report = faithful.compare(network, found, images(MIX, 300))
    for layer in report.layers:
      assert layer.float_noise == 0  # else codes differ, not ties
    codes = faithful.trained_codes(
      MIX, found, precision.to_array(MIX, bits), images(MIX, 300)
    )
    logits = integer.integer_apply(network, codes["input"])
    top = np.sort(logits, axis=-1)
    ties += np.sum(top[:, -1] == top[:, -2])
    assert report.same_class == report.same_exact_class == 300
    steps = network.steps["fc"]
    np.testing.assert_allclose(codes["fc"], logits * steps, rtol=1e-6)
  assert ties > 10
