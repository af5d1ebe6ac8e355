"""Means of corrected networks, and what a convolution's error is by hand."""

import functools

import jax
import numpy as np
import pytest
from ptq_cases import variables

from fbq import precision
from fbq.model import Model
from fbq.nets import Net, Node
from fbq.ptq import bias_correction
from fbq.quantizers import range_rules, uniform
from fbq.schemes.fixed import Fixed
from fbq.train import steps

RELU = dict(bias=True, activation="relu")
NET = Net(
  "tiny",
  (6, 6, 3),
  (
    Node("a", "conv", ("input",), 4, (3, 3), 1, 1, **RELU),
    Node("b", "depthwise", ("a",), 0, (3, 3), 1, 1, **RELU),
    Node("c", "conv", ("b",), 4, bias=True, layer_scale=0.5),
    Node("sum", "add", ("c", "a"), activation="relu"),
    Node("d", "conv", ("sum",), 5),
    Node("pool", "avg_pool", ("d",), kernel=None),
    Node("fc", "linear", ("pool",), 3, bias=True, is_output=True),
  ),
)
RANDOM = np.random.default_rng(0)
BATCHES = list(np.float32(RANDOM.uniform(size=(3, 16, 6, 6, 3))))


def rounded(params, bits=3):
  """Kernels at `bits` bits, one range for each layer."""
  result = dict(params)
  for key, kernel in params.items():
    if key.endswith("_kernel"):
      range_ = range_rules.min_max(kernel.ravel())
      result[key] = range_rules.quantized(kernel, range_, bits, "affine")
  return result


@functools.partial(jax.jit, static_argnums=0)
def run(model, values, images, data):
  return model.apply(values, images, False, data=data, mutable="intermediates")


def outputs(model, values, data=None):
  """{node: [images, .., C]} before activation functions."""
  _, seen = run(model, values, np.concatenate(BATCHES), data)
  seen = seen["intermediates"]
  return {name: np.asarray(x) for name, (x,) in seen.items()}


def channel_means(model, values, data=None):
  return {
    name: x.reshape(-1, x.shape[-1]).mean(0)
    for name, x in outputs(model, values, data).items()
  }


def test_means_of_every_layer_are_those_of_the_float_network():
  start = {"params": variables(NET)["params"]}
  quantized = {"params": rounded(start["params"])}
  found = bias_correction.correct(Model(NET), quantized, start, BATCHES)
  wanted = channel_means(Model(NET), start)
  before = channel_means(Model(NET), quantized)
  after = channel_means(Model(NET), found)
  for name in ("a", "b", "c", "fc"):
    np.testing.assert_allclose(after[name], wanted[name], atol=2e-5)
    assert np.abs(before[name] - wanted[name]).max() > 0.01
    assert found["params"][f"{name}_bias"].dtype == np.float32
  for key, value in quantized["params"].items():
    if not key.endswith("_bias"):
      np.testing.assert_array_equal(found["params"][key], value)
  # Logits as a whole are nearer, not their means alone.
  error = lambda v: np.square(
    outputs(Model(NET), v)["fc"] - outputs(Model(NET), start)["fc"]
  ).mean()
  assert error(found) < 0.5 * error(quantized)


def test_of_one_layer_it_is_the_weights_error_times_the_inputs_mean():
  """E[W x] - E[Q(W) x] = (W - Q(W)) E[x]: eq. 17 of the paper."""
  net = Net(
    "one",
    (6, 6, 3),
    (Node("a", "conv", ("input",), 4, bias=True, is_output=True),),
  )
  start = {"params": variables(net)["params"]}
  quantized = {"params": rounded(start["params"])}
  found = bias_correction.correct(Model(net), quantized, start, BATCHES)
  lost = start["params"]["a_kernel"] - quantized["params"]["a_kernel"]
  expected = np.mean(BATCHES, (0, 1, 2, 3)) @ lost[0, 0]
  shift = found["params"]["a_bias"] - start["params"]["a_bias"]
  np.testing.assert_allclose(shift, expected, atol=1e-6)
  # In whatever order the batches come.
  args = Model(net), quantized, start, BATCHES[::-1]
  again = bias_correction.correct(*args)["params"]["a_bias"]
  np.testing.assert_allclose(found["params"]["a_bias"], again, atol=1e-7)


def test_activations_that_are_quantized_too():
  """Under `Fixed`, at 4 bits, with ranges that clip."""
  start = {"params": variables(NET)["params"]}
  model = Model(NET, Fixed())
  data = precision.to_array(NET, precision.uniform(NET, 4))
  quantized = dict(steps.complete(model, start, data))
  quantized["ranges"] = {
    site: 0.7 * value if site.endswith(".out") else value
    for site, value in quantized["ranges"].items()
  }
  found = bias_correction.correct(model, quantized, start, BATCHES, data)
  wanted = channel_means(Model(NET), start)
  before = channel_means(model, quantized, data)
  after = channel_means(model, found, data)
  # `Fixed` rounds the bias of logits to steps of their sums
  site = NET.site_of[NET.node["fc"].inputs[0]]
  unit = uniform.step(found["ranges"]["fc.weight"], 4, True)
  unit *= uniform.step(found["ranges"][site], 4, NET.is_signed[site])
  for name in ("a", "b", "c", "fc"):
    close = unit if name == "fc" else 2e-5  # rounded when judged, and again
    np.testing.assert_allclose(after[name], wanted[name], atol=close)
    assert np.abs(before[name] - wanted[name]).max() > 0.005
  assert found["ranges"] == quantized["ranges"]


def test_mistakes_are_refused():
  with pytest.raises(ValueError, match="no calibration batches"):
    bias_correction.correct(Model(NET), {}, {}, [])
  node = Node("a", "conv", ("input",), 4, norm=True, is_output=True)
  model = Model(Net("normed", (6, 6, 3), (node,)))
  with pytest.raises(ValueError, match="fold them first"):
    bias_correction.correct(model, {}, {}, BATCHES)
