"""The scheme in block floating point: what it quantizes, and along what."""

import functools

import bfp_oracle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import IMAGES, NET

from fbq import block_formats
from fbq.model import Model
from fbq.nets import Node
from fbq.schemes.block_float import BlockFloat, Data
from fbq.schemes.scheme import Call
from fbq.train.steps import compile_once
from hwsim.bfp.formats import FP32, bitq_format, block_format

SITES = NET.workload.sites
TOPS = jnp.full(len(SITES), 4, jnp.int32)


@functools.cache
def variables():
  """Of the float network, with values that no default hides."""
  init = lambda key: Model(NET).init(key, IMAGES, False)
  made = jax.jit(init)(jax.random.key(1))
  random = np.random.default_rng(3)
  add = lambda leaf: leaf + 0.2 * random.random(leaf.shape, np.float32)
  return {k: jax.tree.map(add, made[k]) for k in ("params", "batch_stats")}


def data_of(format_):
  formats = block_formats.uniform(NET, format_)
  return Data(jnp.asarray(block_formats.to_array(NET, formats)), TOPS)


def run(scheme, data, images=IMAGES):
  """Logits and all tensors before their quantizers."""
  logits, seen = _run(scheme, variables(), images, data)
  return logits, seen["intermediates"]


@functools.partial(jax.jit, static_argnums=0)
def _run(scheme, variables, images, data):
  return Model(NET, scheme).apply(
    variables, images, False, data, mutable=["intermediates"]
  )


def _no_variable(*args):
  raise AssertionError(f"asked for {args}")


def quantizer(scheme, formats=None, tops=TOPS):
  if formats is None:
    formats = data_of(block_format(4, 8, 4)).formats
  return scheme.quantizer(
    Call(NET, _no_variable, False, 8, Data(formats, tops), None)
  )


def test_fp32_changes_no_tensor():
  data = data_of(FP32)
  fp32 = quantizer(BlockFloat((1, 2)), data.formats)
  x = np.random.default_rng(2).standard_normal((2, 3, 3, 4)).astype(np.float32)
  x *= np.float32(2.0) ** np.arange(-60, 12).reshape(x.shape)
  np.testing.assert_array_equal(fp32.activation(x, "c.out"), x)
  np.testing.assert_array_equal(
    fp32.weight(x[:1, :1], NET.node["d"]), x[:1, :1]
  )
  # A kernel of 3x3 is a block, whose exponent is that of its largest element.
  error = np.abs(fp32.weight(x, NET.node["a"]) - x).max((0, 1))
  assert (error <= 2.0**-24 * np.abs(x).max((0, 1))).all()


def test_fp32_is_the_float_network():
  logits, _ = run(None, None)
  same, _ = run(BlockFloat((1, 2)), data_of(FP32))
  # Means are raised by 2^-17 of themselves if anything is quantized; the rest
  # is the order of operations that XLA fused.
  np.testing.assert_allclose(same, logits, rtol=2e-5, atol=1e-6)


def test_one_trace_serves_all_formats():
  scheme = BlockFloat((1, 8))
  forward = compile_once(
    lambda v, x, d: Model(NET, scheme).apply(v, x, False, d),
  )
  found = [
    forward(variables(), IMAGES, data_of(format_))
    for format_ in (
      FP32,
      bitq_format(16, 5, 1),
      bitq_format(8, 3, 8),
      bitq_format(8, 6, 1),
    )
  ]
  errors = [float(jnp.abs(y - found[0]).max()) for y in found]
  assert 0 < errors[1] < errors[2] < errors[3]


def test_images_do_not_depend_on_each_other():
  data, scheme = data_of(bitq_format(8, 2, 4)), BlockFloat((4,))
  # The largest of the batch is not what limits the others.
  louder = IMAGES.at[3:].multiply(100)
  logits, louder_logits = run(scheme, data)[0], run(scheme, data, louder)[0]
  np.testing.assert_array_equal(louder_logits[:3], logits[:3])
  assert (louder_logits[3:] != logits[3:]).any()


@pytest.mark.parametrize(
  "op, shape, tile",
  [
    ("conv", (3, 3, 6, 2), (0, 0, 4, 1)),
    ("depthwise", (3, 3, 1, 6), (0, 0, 1, 4)),
    ("linear", (6, 3), (4, 1)),
  ],
)
def test_blocks_of_weights_span_the_kernel(op, shape, tile):
  kernel = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
  name = {"conv": "a", "depthwise": "b", "linear": "fc"}[op]
  y = quantizer(BlockFloat((4,))).weight(
    jnp.asarray(kernel), Node(name, op, ("input",))
  )
  expected = bfp_oracle.by_formula(kernel, 4, tile, "nearest")
  np.testing.assert_array_equal(y, expected)


def test_blocks_of_weights_may_have_one_place_of_the_kernel():
  kernel = np.random.default_rng(0).standard_normal((3, 3, 6, 2))
  kernel = kernel.astype(np.float32)
  scheme = BlockFloat((4,), spans_kernel=False)
  y = quantizer(scheme).weight(jnp.asarray(kernel), NET.node["a"])
  expected = bfp_oracle.by_formula(kernel, 4, (1, 1, 4, 1), "nearest")
  np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("window, tile", [(3, (1, 3, 3, 4)), (0, (1, 0, 0, 4))])
def test_blocks_of_activations_span_a_window(window, tile):
  x = np.random.default_rng(1).standard_normal((2, 5, 5, 6)).astype(np.float32)
  y = quantizer(BlockFloat((4,), "floor", window)).activation(
    jnp.asarray(x), "a.out"
  )
  x = np.maximum(x, 0)  # the output of a ReLU
  expected = bfp_oracle.by_formula(x, 4, tile, "floor")
  np.testing.assert_array_equal(y, expected)


def test_formats_and_tops_are_those_of_the_site():
  formats = np.tile(np.array([[9, 8, 4]], np.int32), (len(SITES), 1))
  formats[SITES.index("a.out")] = 3, 2, 4
  tops = np.full(len(SITES), 9, np.int32)
  tops[SITES.index("a.out")] = -1
  x = jnp.asarray([[0.9, 0.4, 0.01, 7.0, 3.0, 0.1]]).reshape(1, 1, 1, 6)
  y = quantizer(BlockFloat((4,)), formats, tops).activation(x, "a.out")
  # Exponents -4 .. -1: steps 1/32 to 1/4, nothing above 3/4.
  expected = np.array([0.75, 0.5, 0.0, 0.75, 0.75, 0.0])
  np.testing.assert_array_equal(np.ravel(y), expected)


def test_a_model_without_formats_says_so():
  with pytest.raises(ValueError, match="was given no formats"):
    Model(NET, BlockFloat()).apply(variables(), IMAGES, False)
