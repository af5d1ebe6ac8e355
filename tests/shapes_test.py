"""What has a wrong shape or type is refused where it would count otherwise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from model_cases import IMAGES, NET, calibrated
from search_cases import random_table

from fbq import precision
from fbq.model import Model
from fbq.quantizers import affine, bayesian_bits, mixtures, uniform
from fbq.schemes.block_float import BlockFloat, Data
from fbq.schemes.fixed import Fixed
from fbq.search import problem, sensitivity
from fbq.train import steps
from fbq.train.evaluation import evaluator
from fbq.train.objective import CLASSIFICATION

FIVE, WIDE, HALF = jnp.ones(5), jnp.ones((3, 1)), jnp.float32(0.5)
FOUR = jnp.int32(4)
BITS = jnp.asarray(precision.to_array(NET, precision.uniform(NET, 8)))
SITES = len(BITS)


@pytest.mark.parametrize(
  "quantize, message",
  [
    (lambda: uniform.quantize(FIVE, WIDE, FOUR, True), r"\(3, 1\).*range_"),
    (lambda: uniform.codes(FIVE, WIDE, FOUR, True), r"\(3, 1\).*range_"),
    (lambda: uniform.quantize(FIVE, HALF, WIDE.astype(int), True), "bits"),
    (lambda: uniform.quantize(FIVE, HALF, jnp.float32(4.7), True), "float32"),
    (
      lambda: affine.quantize(FIVE, affine.grid(-WIDE, WIDE, FOUR, "affine")),
      r"\(3, 1\).*step",
    ),
    (lambda: affine.grid(-1.0, 1.0, 4.5, "affine"), "float"),
    (
      lambda: bayesian_bits.nested_quantize(FIVE, HALF, (WIDE, HALF), True),
      r"\(3, 1\).*z4",
    ),
    (
      lambda: bayesian_bits.residual_quantize(FIVE, HALF, [HALF, WIDE], True),
      r"\(3, 1\).*gates\[1\]",
    ),
    (
      lambda: mixtures.mixed_quantize(FIVE, HALF, (HALF, WIDE), True),
      r"\(3, 1\).*p8",
    ),
    (
      lambda: mixtures.fractional_quantize(FIVE, HALF, WIDE, True),
      r"\(3, 1\).*index",
    ),
  ],
)
def test_quantizers_keep_the_shape_of_a_tensor(quantize, message):
  with pytest.raises(AssertionError, match=message):
    quantize()


@pytest.mark.parametrize("count", [SITES - 1, SITES + 1])
def test_models_take_one_number_for_each_site(count):
  bits = jnp.full(count, 8)
  with pytest.raises(AssertionError, match="one for every site"):
    Model(NET, Fixed()).apply(calibrated(), IMAGES, False, bits)
  data = Data(jnp.ones((count, 3), jnp.int32), jnp.zeros(count, jnp.int32))
  with pytest.raises(AssertionError, match="one for every site"):
    Model(NET, BlockFloat((1,))).apply(calibrated(), IMAGES, False, data)


def test_labels_are_one_number_for_each_image():
  labels = jnp.arange(len(IMAGES)) % 3
  for wrong in (labels[:, None], jax.nn.one_hot(labels, 3), labels[1:]):
    with pytest.raises(AssertionError, match="one for each image"):
      evaluator(Model(NET))(calibrated(), IMAGES, wrong)
  step = steps.train_step(
    Model(NET), optax.sgd(0.1), ("params",), lambda _: (IMAGES, labels[:, None])
  )
  state = steps.initial_state(calibrated(), ("params",), optax.sgd(0.1))
  with pytest.raises(AssertionError, match="one for each image"):
    step(state, {"key": jax.random.key(0)})
  logits = np.ones((4, 3))
  with pytest.raises(AssertionError, match="shape"):
    sensitivity.compare(logits, logits, np.zeros((4, 1), int))
  with pytest.raises(AssertionError, match="shape"):
    sensitivity.compare(logits, logits[:, :1], np.zeros(4, int))
  with pytest.raises(AssertionError, match="shape"):
    CLASSIFICATION.divergence(jnp.ones((4, 3)), jnp.ones((4, 1)), 1.0)


def test_candidates_have_known_bits_for_every_site():
  table = random_table(NET.workload, 0, 1000)
  made = problem.make(NET.workload, {"cycles": table.cycles})
  good = np.full((2, SITES), 8)
  assert problem.score(made, good).bits.dtype == np.uint8
  for bits in (3, 16, 260):  # 260 is 4 in 8 bits
    with pytest.raises(ValueError, match=rf"of \[{bits}\] bits, expected"):
      problem.score(made, np.where(np.arange(SITES) == 1, bits, good))
  for wrong in (good[0], good[:, 1:]):
    with pytest.raises(AssertionError, match="shape"):
      problem.score(made, wrong)
