"""The Flax module: fixed precision against integers, and its variables."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import (
  IMAGES,
  MIXED,
  NET,
  calibrated,
  fixed,
  interpret,
)

from fbq import nets, precision
from fbq.model import Model
from fbq.schemes import ranges as range_lib
from fbq.schemes.fixed import Fixed
from fbq.schemes.free_bits import FreeBits
from fbq.schemes.groups import gate_groups

MOBILE = nets.mobilenet_v1(1 / 32, 8, classes=4, in_channels=1, stem_stride=1)

# ---- fixed mode --------------------------------------------------------------


def test_8_bits_are_close_to_float_and_fewer_are_farther():
  exact = Model(NET).apply(calibrated(), IMAGES, False)
  scale = np.abs(exact).max()
  errors = [
    np.abs(fixed(precision.uniform(NET, bits)) - exact).max() / scale
    for bits in (8, 4, 2)
  ]
  assert 0 < errors[0] < 0.05  # 12 quantizers, steps of 0.4 or 0.8 %
  assert 4 * errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize(
  "assignment",
  [*(precision.uniform(NET, bits) for bits in (2, 4, 8)), MIXED],
  ids=["2", "4", "8", "mixed"],
)
def test_fixed_mode_equals_integer_arithmetic(assignment):
  expected = interpret(NET, calibrated(0.5), assignment, IMAGES)
  assert np.ptp(expected, axis=0).max() > 0.1  # the images do differ
  np.testing.assert_allclose(
    fixed(assignment, 0.5), expected, rtol=1e-5, atol=1e-6
  )


def test_one_trace_serves_every_assignment():
  chex.clear_trace_counter()
  network, variables = Model(NET, Fixed()), calibrated()

  @jax.jit
  @chex.assert_max_traces(n=1)
  def run(bits):
    return network.apply(variables, IMAGES, False, bits)

  found = []
  for assignment in (
    precision.uniform(NET, 2),
    MIXED,
    precision.uniform(NET, 8),
  ):
    found.append(run(precision.to_array(NET, assignment)))
    np.testing.assert_allclose(
      found[-1], fixed(assignment), rtol=1e-4, atol=1e-5
    )
  assert not np.allclose(found[0], found[1], atol=1e-3)
  assert not np.allclose(found[1], found[2], atol=1e-3)


# ---- variables ---------------------------------------------------------------


def shapes(net, scheme, batch=4):
  """Variables and logits under a scheme, traced, not computed."""
  network = Model(net, scheme)
  bits = jnp.zeros(len(net.workload.sites), jnp.int32)
  images = jnp.zeros((batch, *net.input_shape))
  return jax.eval_shape(
    lambda: network.init_with_output(
      jax.random.key(0), images, False, bits, mutable=True
    )
  )


@pytest.mark.parametrize(
  "net", [NET, MOBILE, nets.resnet8(0.1)], ids=lambda net: net.name
)
def test_variables_have_the_sites_of_the_workload(net):
  sites, weights = set(net.workload.sites), set()
  ranged = sites - {s for s, owner in net.step_site.items() if s != owner}
  for layer in net.workload.layers:
    if layer.has_weights:
      weights.add(net.workload.weight_site(layer))
  groups = gate_groups(net, locked=True)
  for scheme in (None, Fixed(), FreeBits(groups)):
    out, variables = shapes(net, scheme)
    assert out.shape == (
      4,
      net.node["fc" if net is NET else "classifier"].features,
    )
    sown = {name for name in variables["intermediates"]}
    assert sown == {node.name for node in net.nodes}
    found = set(variables.get("ranges", {}))
    if scheme is None:
      assert not found and "gates" not in variables
    elif scheme == Fixed():
      assert found == ranged - {"input.out"} and "gates" not in variables
    else:
      assert found == ranged - {"input.out"} - weights
      assert variables["gates"]["logits"].shape == (groups.count, 2)
    trained = sum(x.size for x in jax.tree.leaves(variables["params"]))
    assert trained == net.parameter_count


def test_weights_have_a_range_for_each_channel_and_the_classifier_one():
  ranges = shapes(NET, Fixed())[1]["ranges"]
  found = {s: x.shape for s, x in ranges.items() if s.endswith("weight")}
  expected = {"a": (4,), "b": (4,), "c": (4,), "d": (5,), "fc": ()}
  assert found == {f"{name}.weight": shape for name, shape in expected.items()}
  zeros = jnp.zeros((3, 3, 1, 4))
  np.testing.assert_array_equal(
    range_lib.weight_range(zeros, NET.node["b"]), np.float32(1e-8)
  )


def test_batch_statistics_move_in_training_alone():
  variables = calibrated()
  evaluated = Model(NET).apply(variables, IMAGES, False, mutable="batch_stats")
  chex.assert_trees_all_equal(
    evaluated[1], {"batch_stats": variables["batch_stats"]}
  )
  _, seen = Model(NET).apply(
    variables, IMAGES, True, mutable=["batch_stats", "intermediates"]
  )
  old, new = variables["batch_stats"]["a_norm"], seen["batch_stats"]["a_norm"]
  kernel = np.asarray(variables["params"]["a_kernel"], np.float64)
  y = correlate_float(np.asarray(IMAGES, np.float64), kernel)
  np.testing.assert_allclose(
    new["mean"], 0.9 * old["mean"] + 0.1 * y.mean((0, 1, 2)), rtol=1e-5
  )
  np.testing.assert_allclose(
    new["var"], 0.9 * old["var"] + 0.1 * y.var((0, 1, 2)), rtol=1e-5
  )
  for name, stat in seen["batch_stats"].items():
    assert not np.allclose(stat["mean"], variables["batch_stats"][name]["mean"])


def correlate_float(images, kernel):
  """Layer `a` of `NET` by definition."""
  padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
  out = np.zeros((len(images), 3, 3, kernel.shape[-1]))
  for i, j in np.ndindex(3, 3):
    window = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
    out[:, i, j] = np.einsum("bhwc,hwco->bo", window, kernel)
  return out
