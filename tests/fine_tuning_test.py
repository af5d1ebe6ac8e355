"""What recipes stand for: distillation, smoothing, and what is deployed."""

import functools
import shutil

import jax
import jax.numpy as jnp
import lab_cases
import numpy as np
import optax
import pytest
from model_cases import IMAGES, MIXED, NET, calibrated

from fbq import config as config_lib
from fbq import norms, precision
from fbq.config import ConfigError
from fbq.deploy import lowering
from fbq.deploy.trained import deployable
from fbq.lab import calibration, fine_tuning
from fbq.lab.fine_tuning import Recipe
from fbq.lab.settings import Qat
from fbq.model import Model
from fbq.nets import Net, Node
from fbq.quantizers import qat_rules
from fbq.schemes.fixed import Fixed, Form
from fbq.train import many, steps
from fbq.train.distillation import Distillation
from fbq.train.objective import CLASSIFICATION
from tests.configs import tiny

KINDS = ("params", "batch_stats")
LABELS = jnp.arange(len(IMAGES)) % 3
BITS = jnp.asarray(precision.to_array(NET, MIXED))


def start_of_all():
  """Variables of the float network; made when they are asked for, in 2 s."""
  return {kind: calibrated()[kind] for kind in KINDS}


@functools.cache
def tensors():
  """Activations by site, as `stages.activations` gives them."""
  _, seen = jax.jit(
    lambda v: Model(NET).apply(v, IMAGES, False, mutable=["intermediates"])
  )(start_of_all())
  return {
    site: np.asarray(seen["intermediates"][site.removesuffix(".out")][0])
    for site in NET.is_signed
    if site != "input.out"
  }


# ---- distillation and smoothing ----------------------------------------------


def test_distillation_is_the_divergence_of_softened_answers():
  random = np.random.default_rng(0)
  student, teacher = 3 * random.normal(size=(2, 5, 4)).astype(np.float32)
  share, heat, cross_entropy = 0.3, 2.5, 1.7

  def softened(logits):
    powers = np.exp(logits.astype(float) / heat)
    return powers / powers.sum(1, keepdims=True)

  p, q = softened(teacher), softened(student)
  divergence = (p * np.log(p / q)).sum(1).mean()
  expected = (1 - share) * cross_entropy + share * heat**2 * divergence
  rule = Distillation(share, heat)
  loss = lambda s: rule.loss(
    jnp.float32(cross_entropy), CLASSIFICATION.divergence(teacher, s, heat)
  )
  assert float(loss(student)) == pytest.approx(expected, rel=1e-5)
  gradient = share * heat * (q - p) / len(p)
  np.testing.assert_allclose(
    jax.grad(loss)(student), gradient, rtol=1e-4, atol=1e-6
  )


def test_a_step_distills_and_smooths():
  """Averages by numpy; a teacher that says nothing new changes the loss."""
  model, rule, start = Model(NET), Distillation(0.5, 2.0), start_of_all()
  optimizer, decay = optax.sgd(0.1), 0.8
  step = steps.train_step(
    model,
    optimizer,
    ("params",),
    lambda key: (IMAGES, LABELS),
    distillation=rule,
    smoothing=decay,
  )
  state = steps.initial_state(start, ("params",), optimizer, True)
  run = {"key": jax.random.key(0), "teacher": start}
  mean = np.asarray(start["params"]["a_kernel"])
  for _ in range(3):
    before = state.variables["params"], state.variables["batch_stats"]
    before = jax.tree.map(np.asarray, dict(zip(KINDS, before, strict=True)))
    state, metrics = step(state, run)
    now = np.asarray(state.variables["params"]["a_kernel"])
    mean = decay * mean + (1 - decay) * now
    smoothed = state.variables["smoothed"]["params"]["a_kernel"]
    np.testing.assert_allclose(smoothed, mean, rtol=1e-5)
  assert np.abs(mean - now).max() > 1e-4
  student, _ = jax.jit(
    lambda v: model.apply(v, IMAGES, True, mutable=["batch_stats"])
  )(before)
  teacher = jax.jit(lambda v: model.apply(v, IMAGES, False))(start)
  divergence = CLASSIFICATION.divergence(teacher, student, 2.0)
  expected = rule.loss(metrics["cross_entropy"], divergence)
  assert float(metrics["loss"]) == pytest.approx(float(expected), rel=1e-4)


# ---- recipes -----------------------------------------------------------------


def test_settings_of_recipes():
  plain = dict(method="lsq", distillation=0.0, temperature=4.0, smoothing=0.0)
  qat = config_lib.of(Qat, plain)
  assert fine_tuning.recipe_of(qat) == Recipe(Fixed(qat_rules.LSQ))
  recipe = fine_tuning.recipe_of(qat.with_(distillation=0.5, smoothing=0.9))
  assert recipe.distillation == Distillation(0.5, 4.0)
  assert recipe.smoothing == 0.9
  for key, value in (
    ("distillation", 1.5),
    ("temperature", 0.0),
    ("smoothing", 1.0),
  ):
    with pytest.raises(ConfigError, match=f"config.{key} is {value}"):
      qat.with_(**{key: value})


def test_starts_are_of_what_a_recipe_quantizes():
  variables = start_of_all()
  start = functools.partial(fine_tuning.starts, NET, variables, tensors())
  known = start(Recipe())
  assert start(Recipe(), known) is known
  assert start(Recipe(Fixed(qat_rules.LSQ)), known) is not known
  sites = {site for site in known if site.endswith(".weight")}
  only = start(Recipe(Fixed(qat_rules.PACT, Form(quantizes="weights"))))
  assert only.keys() == sites
  ends = start(Recipe(Fixed(qat_rules.MIN_MAX)))
  assert ends.keys() == tensors().keys()
  values = tensors()["c.out"]  # signed
  np.testing.assert_allclose(ends["c.out"][4], [values.min(), values.max()])
  layer = start(Recipe(Fixed(qat_rules.LSQ, Form(per_channel=False))))
  assert layer["a.weight"][4].shape == () != known["a.weight"][4].shape
  folded = start(Recipe(norm=norms.CORRECT))
  slope = variables["params"]["a_norm"]["scale"] / np.sqrt(
    variables["batch_stats"]["a_norm"]["var"] + 1e-5
  )
  np.testing.assert_allclose(
    folded["a.weight"][8], known["a.weight"][8] * np.abs(slope), rtol=1e-3
  )


# ---- deployment --------------------------------------------------------------


def learned(recipe):
  """Variables as training by a recipe starts."""
  variables = start_of_all()
  starts = fine_tuning.starts(NET, variables, tensors(), recipe)
  ranges = {s: jnp.asarray(by[MIXED[s]]) for s, by in starts.items()}
  return {**variables, recipe.scheme.collection: ranges}


@pytest.mark.parametrize(
  "recipe",
  [
    Recipe(Fixed(qat_rules.MIN_MAX)),
    Recipe(Fixed(qat_rules.LSQ, Form(per_channel=False)), norms.CORRECT),
  ],
  ids=["min_max", "folded, per layer"],
)
def test_what_is_deployed_computes_what_was_trained(recipe):
  variables = learned(recipe)
  model = Model(NET, recipe.scheme, recipe.norm)
  expected = jax.jit(lambda v: model.apply(v, IMAGES, False, BITS))(variables)
  net, plain = deployable(NET, recipe.scheme, recipe.norm, variables)
  found = jax.jit(lambda v: Model(net, Fixed()).apply(v, IMAGES, False, BITS))(
    plain
  )
  exact = dict(rtol=0, atol=0) if recipe.norm == norms.ABSORB else {}
  np.testing.assert_allclose(found, expected, **{"rtol": 1e-4, **exact})
  lowering.lower(net, plain, MIXED)


@pytest.mark.parametrize(
  "form",
  [Form("affine"), Form("symmetric", "affine"), Form(quantizes="weights")],
)
def test_what_has_no_integer_form_is_refused(form):
  scheme = Fixed(qat_rules.MIN_MAX, form)
  with pytest.raises(lowering.UnsupportedError, match="has.*no|no integer"):
    deployable(NET, scheme, norms.ABSORB, learned(Recipe(scheme)))
  variables = learned(Recipe(scheme))
  with pytest.raises(ValueError, match="variables have no ranges"):
    lowering.lower(NET, variables, MIXED)


# ---- several assignments as one program --------------------------------------


def convolution():
  """Two layers with weights: what is tested is not the network."""
  conv = dict(norm=True, activation="relu")
  nodes = (
    Node("conv", "conv", ("input",), 8, (3, 3), 2, 1, **conv),
    Node("pool", "avg_pool", ("conv",), kernel=None),
    Node("fc", "linear", ("pool",), 10, bias=True, is_output=True),
  )
  return Net("convolution", (8, 8, 1), nodes)


def test_assignments_together_end_as_each_alone(tmp_path, monkeypatch):
  """In chunks of two and one, and each is left as if trained alone.

  They differ by the order of sums, which 8 steps amplify: 1e-3 of the largest
  weight. Each is told what its own weights are worth.
  """
  config = tiny.get_config()
  config.net = dict(builder=f"{__name__}:convolution", arguments={})
  settings, lab = lab_cases.checked(config)
  start = calibration.initial_variables(Model(lab.net), jax.random.key(3))
  images, _ = lab.calibration_set(jax.random.key(1))
  ranges, _ = calibration.calibrate(lab.net, start, images)
  found = [precision.uniform(lab.net, bits) for bits in (8, 4, 2)]
  tuner = fine_tuning.FineTuner(
    lab, fine_tuning.recipe_of(settings.qat), settings.fine_tuning
  )

  def tune(kind, together):
    lab.open(tmp_path / kind)
    run = functools.partial(many.train_points, together=together)
    monkeypatch.setattr("fbq.lab.lab.train_points", run)
    names, key = [f"tune{i}" for i in range(3)], jax.random.key(1)
    return list(tuner.train_many(names, start, ranges, found, key))

  monkeypatch.setattr(many, "runs_at_once", lambda *_: 2)
  alone, together = tune("alone", False), tune("together", True)
  for (a, told), (b, also_told), bits in zip(
    alone, together, found, strict=True
  ):
    assert told.results() == tuner.judge(a, bits).results()
    assert also_told.results() == tuner.judge(b, bits).results()
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
      assert np.abs(x - y).max() <= 1e-3 * max(1.0, np.abs(x).max())
  kernels = [v["params"]["conv_kernel"] for v, _ in together]
  assert np.abs(kernels[0] - kernels[2]).max() > 1e-3

  # Nothing is left to train: not by the other way, and not where a run was
  # killed before all of those trained together had been left alone.
  tuner.__dict__["trainer"] = tuner.trainer._replace(step=None)
  shutil.rmtree(tmp_path / "together/checkpoints/tune1")
  for again in (tune("together", True), tune("together", False)):
    for (x, told), (y, also_told) in zip(together, again, strict=True):
      jax.tree.map(np.testing.assert_array_equal, x, y)
      assert told.results() == also_told.results()
