"""Programs for a GPU or a TPU, lowered where there is none.

XLA's GPU compiler aborts the process on a matrix product that reads a strided
slice, so no program may have one.
"""

import functools
import os

import jax
import jax.numpy as jnp
import optax
import pytest
from stablehlo import lowered, products_of_strided_slices

from fbq import backend, nets, norms, ops
from fbq.data import canvas, digits
from fbq.deploy import integer
from fbq.model import Model
from fbq.quantizers import qat_rules
from fbq.schemes.bayesian_bits import BayesianBits
from fbq.schemes.block_float import BlockFloat
from fbq.schemes.fixed import Fixed
from fbq.schemes.fractional import Fractional
from fbq.schemes.free_bits import FreeBits
from fbq.schemes.groups import gate_groups
from fbq.schemes.mixture import Mixture
from fbq.train import evaluation, optimizer, regularizers, steps

BATCH = 4
SEARCHED = ("params", "gates", "ranges")
# Strided convolutions of 1x1 and of more, in the middle and at the shortcut; a
# depthwise one; pools.
SMALL = nets.Net(
  "small",
  (8, 8, 1),
  (
    nets.Node("a", "conv", ("input",), 8, (3, 3), 2, 1, norm=True),
    nets.Node("b", "depthwise", ("a",), 0, (3, 3), 2, 1, norm=True),
    nets.Node("c", "conv", ("a",), 8, (1, 1), 2, norm=True),
    nets.Node("sum", "add", ("b", "c"), activation="relu"),
    nets.Node("d", "conv", ("sum",), 8, (2, 2), 2, norm=True),
    nets.Node("pool", "avg_pool", ("d",), kernel=None),
    nets.Node("fc", "linear", ("pool",), 3, bias=True, is_output=True),
  ),
)
# What GoogLeNet, Inception, ResNet-50 and MobileNetV2 have besides.
CONV = dict(features=8, norm=True, activation="relu")
WIDE, HALF = dict(kernel=(3, 3), padding=1), dict(kernel=(2, 2), stride=2)
BRANCHES = nets.Net(
  "branches",
  (16, 16, 1),
  (
    nets.Node("stem", "conv", ("input",), **CONV, **HALF),
    nets.Node("pool", "max_pool", ("stem",), **HALF),
    nets.Node("a", "conv", ("pool",), **CONV),
    nets.Node("mean", "avg_pool", ("pool",), **WIDE),
    nets.Node("b", "conv", ("mean",), **CONV),
    nets.Node("most", "max_pool", ("pool",), **WIDE),
    nets.Node("c", "conv", ("most",), **CONV),
    nets.Node("d", "conv", ("a",), **CONV, **WIDE),
    nets.Node("join", "concat", ("b", "c", "d")),
    nets.Node("e", "conv", ("join",), **CONV),
    nets.Node("f", "conv", ("join",), **CONV, **HALF),
    nets.Node("half", "max_pool", ("join",), **HALF),
    nets.Node("join_mean", "avg_pool", ("join",), **WIDE),
    nets.Node("join_most", "max_pool", ("join",), **WIDE),
    nets.Node("g", "conv", ("e",), **CONV, **HALF),
    nets.Node("h", "conv", ("d",), **CONV, **HALF),
    nets.Node("i", "conv", ("h",), **CONV),
    nets.Node("j", "conv", ("d",), **CONV),
    nets.Node("halves", "concat", ("f", "g", "half", "i")),
    nets.Node("k", "conv", ("halves",), 24, norm=True),
    nets.Node("l", "conv", ("k",), 24, norm=True),
    nets.Node("sum", "add", ("k", "l"), activation="relu"),
    nets.Node("m", "conv", ("sum",), **CONV),
    nets.Node("wholes", "concat", ("join_mean", "join_most", "j")),
    nets.Node("whole", "avg_pool", ("wholes",), kernel=None),
    nets.Node("end", "avg_pool", ("m",), kernel=None),
    nets.Node("ends", "concat", ("whole", "end")),
    nets.Node("fc", "linear", ("ends",), 3, bias=True, is_output=True),
  ),
)
SCHEMES = {
  "float": (lambda groups: None, ("params",)),
  "fixed": (lambda groups: Fixed(), ("params", "ranges")),
  "min_max": (lambda groups: Fixed(qat_rules.MIN_MAX), ("params",)),
  "free bits": (FreeBits, ("params", "gates")),
  "bayesian bits": (functools.partial(BayesianBits, prunes=True), SEARCHED),
  "mixture": (Mixture, SEARCHED),
  "hard": (functools.partial(Mixture, sampling="hard"), SEARCHED),
  "fractional": (Fractional, SEARCHED),
  "blocks": (lambda groups: BlockFloat(), ("params",)),
}
ZOO = {
  "convnext": dict(resolution=32, width=1 / 16, depths=(1, 1, 1, 1)),
  "ds_cnn": dict(width=0.05, frames=13, coefficients=6),
  "googlenet": dict(width=1 / 16, resolution=32),
  "inception_v3": dict(width=1 / 16, resolution=75),
  "mobilenet_v1": dict(width=1 / 16, resolution=32),
  "mobilenet_v2": dict(width=0.1, resolution=16),
  "resnet8": dict(),
  "resnet18": dict(width=0.06, resolution=32),
  "resnet50": dict(width=0.06, resolution=32),
  "vgg9": dict(width=0.03, resolution=8),
}
# Tracing these takes a second or two each; BRANCHES has their kinds of layers.
LARGE = {"googlenet", "inception_v3", "mobilenet_v2", "resnet50"}


def programs(net, name, norm=norms.ABSORB, compute_dtype="float32"):
  """(step, its arguments), (evaluator, its arguments) of a scheme."""
  make, kinds = SCHEMES[name]
  groups = gate_groups(net, True)
  scheme = make(groups)
  model = Model(net, scheme, norm, compute_dtype=compute_dtype)
  sites = len(net.workload.sites)
  run = {
    "key": jax.random.key(0),
    "bits": jnp.full(sites, 4, jnp.int32),
    "strength": jnp.float32(1.0),
    "freeze_step": jnp.int32(1),
    "temperature": jnp.float32([1.0, 0.1]),
    "temperature_steps": jnp.int32(100),
    "formats": jnp.tile(jnp.int32([5, 3, 16]), (sites, 1)),
    "tops": jnp.zeros(sites, jnp.int32),
  }
  images = jnp.zeros((BATCH, *net.input_shape))
  labels = jnp.zeros(BATCH, jnp.int32)
  data = scheme and scheme.data(run, jnp.int32(0))
  updates = optimizer.make(
    10, 0.01, range_learning_rate=0.01, gate_learning_rate=0.01
  )
  cost = None
  if name in ("free bits", "bayesian bits"):  # gates of nested precisions
    cost = regularizers.bops_regularizer(net.workload, groups)
  shapes = lambda k: dict(model.init(k, images, False, data))
  state = jax.eval_shape(
    lambda k: steps.State(
      jnp.int32(0),
      (v := shapes(k)),
      updates.init({kind: v[kind] for kind in kinds}),
      jnp.int32(-1),
    ),
    run["key"],
  )
  step = steps.train_step(
    model, updates, kinds, lambda key, *given: given, cost
  )
  right = evaluation.evaluator(model)
  return (
    (step, (state, run, images, labels)),
    (right, (state.variables, images, labels, data)),
  )


def check(net, name, platform="cuda", norm=norms.ABSORB):
  with backend.written_for(platform):
    for function, arguments in programs(net, name, norm):
      program = lowered(function, *arguments, platform=platform)
      assert products_of_strided_slices(program) == []


def gradient(net):
  """(gradient of the mean loss of a float network, its arguments).

  What a training step does besides multiplies no matrices.
  """
  model = Model(net, None)
  images = jnp.zeros((BATCH, *net.input_shape))
  labels = jnp.zeros(BATCH, jnp.int32)
  variables = jax.eval_shape(
    lambda: dict(model.init(jax.random.key(0), images, False))
  )

  def loss(params, others, images):
    logits, _ = model.apply(
      {**others, "params": params}, images, True, mutable=["batch_stats"]
    )
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, labels
    ).mean()

  params = variables.pop("params")
  return jax.jit(jax.grad(loss)), (params, variables, images)


def test_a_product_of_a_strided_slice_is_found():
  """As written for a CPU, behind calls, shapes and arithmetic."""
  inner = jax.jit(lambda x: x[:, ::2])
  x, k = jnp.zeros((2, 8, 4)), jnp.zeros((4, 3))
  bad = jax.jit(lambda x, k: jnp.tanh(inner(x).reshape(-1, 4)) @ k)
  good = jax.jit(lambda x, k: jnp.tanh(x[:, 2:].reshape(-1, 4)) @ k)
  assert len(products_of_strided_slices(lowered(bad, x, k))) == 1
  assert not products_of_strided_slices(lowered(good, x, k))
  with backend.written_for("cpu"):
    for function, arguments in programs(SMALL, "float"):
      assert products_of_strided_slices(lowered(function, *arguments))


@pytest.mark.parametrize("name", SCHEMES)
def test_no_scheme_has_a_product_of_a_strided_slice(name):
  check(SMALL, name)


def kinds(net):
  """Pairs of an operator and one that reads it, each with its geometry."""
  kind = {n.name: (n.op, n.kernel == (1, 1), n.stride) for n in net.nodes}
  return {
    (kind.get(source, "input"), kind[node.name])
    for node in net.nodes
    for source in node.inputs
  }


def test_the_small_networks_have_all_kinds_of_layers():
  built = {name: nets.build(name, **given) for name, given in ZOO.items()}
  small = [built[name] for name in ZOO if name not in LARGE]
  found = set().union(*map(kinds, [*small, SMALL, BRANCHES]))
  for name in LARGE:
    assert kinds(built[name]) <= found, name


@pytest.mark.parametrize(
  "builder",
  ZOO if os.environ.get("FBQ_SLOW") else [*sorted({*ZOO} - LARGE), "branches"],
)
def test_no_network_has_a_product_of_a_strided_slice(builder):
  net = (
    BRANCHES if builder == "branches" else nets.build(builder, **ZOO[builder])
  )
  with backend.written_for("cuda"):
    function, arguments = gradient(net)
    assert products_of_strided_slices(lowered(function, *arguments)) == []


# A quantizer sees a tensor, not the layer behind it: FBQ_SLOW asks for all.
@pytest.mark.parametrize(
  "builder", ZOO if os.environ.get("FBQ_SLOW") else ["resnet8"]
)
def test_no_search_of_a_network_has_one(builder):
  check(nets.build(builder, **ZOO[builder]), "free bits")


def test_norms_that_freeze_have_none_either():
  check(SMALL, "fixed", norm=norms.CORRECT)


@pytest.mark.parametrize("name", ["float", "fixed", "free bits"])
def test_steps_lower_for_a_tpu(name):
  check(SMALL, name, "tpu")


def test_integers_have_none_and_no_convolution():
  """GPUs have no convolution of 32-bit integers."""
  x = jnp.zeros((2, 8, 8, 4), jnp.int32)
  kernels = {
    node.name: jnp.zeros(shape, jnp.int8)
    for node, shape in (
      (SMALL.node["a"], (3, 3, 4, 8)),
      (SMALL.node["b"], (3, 3, 1, 4)),
      (SMALL.node["c"], (1, 1, 4, 8)),
    )
  }
  with backend.written_for("cuda"):
    for name, kernel in kernels.items():
      run = functools.partial(integer.accumulate, SMALL.node[name])
      program = lowered(jax.jit(run), {"weight": kernel}, [x])
      assert products_of_strided_slices(program) == []
      assert "stablehlo.convolution" not in program.as_text()


def test_digits_are_drawn_without_one():
  draw = functools.partial(
    digits.train_batch,
    digits=digits.load(0, 0.2),
    batch_size=BATCH,
    resolution=16,
    difficulty=canvas.Difficulty(),
  )
  with backend.written_for("cuda"):
    program = lowered(jax.jit(draw), jax.random.key(0))
  assert products_of_strided_slices(program) == []


def test_the_platform_is_part_of_what_a_program_is_kept_by():
  x, kernel = jnp.zeros((1, 4, 4, 8)), jnp.zeros((3, 3, 1, 8))
  run = jax.jit(lambda x, k: ops.depthwise(x, k, 1, 1))
  texts = []
  for platform in ("cpu", "cuda"):
    with backend.written_for(platform):
      texts.append(lowered(run, x, kernel, platform=platform).as_text())
  assert ["triton" in text for text in texts] == [False, True]
