"""Grids as data against quantizers applied by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ptq_cases import variables

from fbq.model import Model
from fbq.nets import Net, Node
from fbq.quantizers import affine
from fbq.schemes import gridded
from fbq.schemes.gridded import Gridded

NET = Net(
  "tiny",
  (4, 4, 2),
  (
    Node("a", "conv", ("input",), 3, bias=True, activation="relu"),
    Node("b", "conv", ("a",), 3, bias=True),
    Node("sum", "add", ("a", "b")),
    Node("pool", "avg_pool", ("sum",), kernel=None),
    Node("fc", "linear", ("pool",), 2, bias=True, is_output=True),
  ),
)
VARIABLES = variables(NET)
IMAGES = np.random.default_rng(1).uniform(size=(3, 4, 4, 2)).astype(np.float32)
traces = 0


def apply(data, images):
  global traces
  traces += 1
  return Model(NET, Gridded()).apply(
    VARIABLES, images, False, data=data, mutable=["intermediates"]
  )


forward = jax.jit(apply)


def tensors(grids, images=IMAGES):
  """{node: numpy}, of all the nodes' outputs before their ReLU."""
  logits, seen = forward(gridded.data(NET, grids), images)
  made = {name: np.asarray(x[0]) for name, x in seen["intermediates"].items()}
  np.testing.assert_array_equal(logits, made["fc"])
  return made


def in_steps(x, low, high, bits, form):
  """Rounds number by number, from the definitions, in float64."""
  count = 2**bits
  if form == "affine":
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / (count - 1)
    zero = round(-low / step)
    first, last = -zero, count - 1 - zero
  elif form == "unsigned":
    step, first, last = high / (count - 1), 0, count - 1
  else:
    largest = max(-low, high)
    last = count // 2 - 1
    first = -last if form == "restricted" else -count // 2
    step = largest / (last if form == "restricted" else count // 2)
  codes = np.clip(np.rint(np.float64(x) / step), first, last)
  return codes * step


def one(low, high, bits, form):
  return affine.grid(jnp.asarray(low), jnp.asarray(high), jnp.int32(bits), form)


def dense(x, name, kernel=None):
  """A layer of products with the bias."""
  params = VARIABLES["params"]
  kernel = params[f"{name}_kernel"] if kernel is None else kernel
  kernel = np.float64(kernel).reshape(kernel.shape[-2:])
  return x @ kernel + params[f"{name}_bias"]


@pytest.mark.parametrize("form", ["affine", "symmetric", "restricted"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_on_their_grids(form, per_channel):
  kernel = VARIABLES["params"]["a_kernel"]
  axes = (0, 1, 2) if per_channel else None
  low, high = kernel.min(axes), kernel.max(axes)
  found = tensors({"a.weight": one(low, high, 3, form)})
  ends = np.broadcast_to(low, 3), np.broadcast_to(high, 3)
  rounded = np.stack(
    [
      in_steps(kernel[..., c], ends[0][c], ends[1][c], 3, form)
      for c in range(3)
    ],
    axis=-1,
  )
  np.testing.assert_allclose(
    found["a"], dense(IMAGES, "a", rounded), rtol=1e-4, atol=1e-5
  )
  assert np.abs(found["a"] - dense(IMAGES, "a")).max() > 1e-2
  # Everything else is in float, the ReLU not forgotten.
  b = dense(np.maximum(found["a"], 0), "b")
  np.testing.assert_allclose(found["b"], b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", affine.FORMS)
def test_activations_on_their_grids(form):
  grids = {
    "a.out": one(-0.4, 1.1, 3, form),
    "sum.out": one(-0.7, 0.9, 2, "symmetric" if form == "unsigned" else form),
  }
  found = tensors(grids)
  a = dense(IMAGES, "a")
  assert a.min() < -0.2
  # Behind the ReLU whatever the form: no grid lets a negative number through.
  a = in_steps(np.maximum(a, 0), -0.4, 1.1, 3, form)
  b = dense(a, "b")
  np.testing.assert_allclose(found["b"], b, rtol=1e-4, atol=1e-5)
  total = in_steps(
    a + b, -0.7, 0.9, 2, "symmetric" if form == "unsigned" else form
  )
  x = total.mean(axis=(1, 2), keepdims=True)
  x = in_steps(
    x + np.abs(x) * 1e-5,
    -0.7,
    0.9,
    2,
    "symmetric" if form == "unsigned" else form,
  )
  np.testing.assert_allclose(
    found["fc"], dense(x[:, 0, 0], "fc"), rtol=1e-4, atol=1e-5
  )


def test_an_image_below_zero_keeps_its_sign():
  images = IMAGES - 0.5
  coded = {"input.out": one(-1.0, 1.0, 8, "affine")}
  for grids, atol in ((coded, 2e-2), ({}, 1e-5)):
    found = tensors(grids, images)["a"]
    np.testing.assert_allclose(found, dense(images, "a"), atol=atol)


def test_one_trace_and_the_numbers_of_eager_code():
  grids = {"a.weight": one(-1.0, 1.0, 4, "affine")}
  before = tensors(grids)
  for bits, form in ((2, "symmetric"), (8, "restricted")):
    tensors({site: one(-1.0, 2.0, bits, form) for site in NET.workload.sites})
  assert traces == 1, "precision, form and granularity are data"
  _, seen = apply(gridded.data(NET, grids), IMAGES)
  for name, x in before.items():
    np.testing.assert_allclose(
      x, seen["intermediates"][name][0], rtol=1e-5, atol=1e-6
    )


def test_mistakes_are_refused():
  with pytest.raises(ValueError, match="'nose.out'.* no sites"):
    gridded.data(NET, {"nose.out": one(0.0, 1.0, 8, "affine")})
  with pytest.raises(ValueError, match="'a.weight'"):
    gridded.data(NET, {"a.weight": one(np.zeros(2), np.ones(2), 8, "affine")})
  with pytest.raises(ValueError, match="no grids for .*'a.weight'"):
    Model(NET, Gridded()).apply(VARIABLES, IMAGES, False, data={})
