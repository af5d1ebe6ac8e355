"""A loss that is not finite stops the run and names the step and the layer."""

import experiment_runs
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fbq.model import Model
from fbq.train import diagnosis, optimizer, steps
from fbq.train.log import Log
from fbq.train.loop import Diverged, Trainer, train
from tests.configs import tiny

STEPS = 12
NET = tiny.separable(4)


def sample(key):
  """Easy images: training compiles in a moment."""
  images = jax.random.uniform(key, (6, *NET.input_shape))
  return images, jnp.arange(6, dtype=jnp.int32)


@pytest.fixture(scope="module")
def variables():
  model = Model(NET)
  images = jnp.zeros((2, *NET.input_shape))
  return dict(
    jax.jit(lambda k: model.init(k, images, False))(jax.random.key(0))
  )


def only_trained(variables):
  return {kind: variables[kind] for kind in ("params", "batch_stats")}


def trainer_with(rate):
  updates = optimizer.make(STEPS, rate)
  step = steps.train_step(Model(NET), updates, ("params",), sample)
  return Trainer(
    Model(NET),
    step,
    sample,
    STEPS,
    lambda v: steps.initial_state(v, ("params",), updates),
    checkpoint_every=4,
    log_every=4,
  )


@pytest.fixture(scope="module")
def trainer():
  """One compiled step for all tests that need no other rate."""
  return trainer_with(1e-2)


def run(directory, trainer, variables):
  return train(
    "float",
    trainer,
    only_trained(variables),
    {"key": jax.random.key(3)},
    Log(directory / "metrics.jsonl"),
    directory / "float",
    "mine",
    finish=lambda v: {},
  )


def test_message_agrees_with_steps_taken_by_hand(variables, tmp_path):
  """Each step again, not compiled as one, until its loss is not finite."""
  rate = 1e30
  with pytest.raises(Diverged) as error:
    run(tmp_path, trainer_with(rate), variables)
  model, updates = Model(NET), optimizer.make(STEPS, rate)
  state, update = only_trained(variables), jax.jit(updates.update)
  opt_state = updates.init({"params": state["params"]})

  @jax.jit
  def forward_backward(state, batch):
    def loss_of(params):
      logits, changed = model.apply(
        {**state, "params": params},
        batch[0],
        train=True,
        mutable=["batch_stats", "intermediates"],
      )
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch[1])
      return losses.mean(), changed

    return jax.value_and_grad(loss_of, has_aux=True)(state["params"])

  for n in range(1, STEPS + 1):
    key = jax.random.fold_in(jax.random.key(3), n - 1)
    batch = sample(jax.random.split(key)[0])
    (loss, seen), gradients = forward_backward(state, batch)
    if not np.isfinite(loss):
      break
    change, opt_state = update(
      {"params": gradients}, opt_state, {"params": state["params"]}
    )
    params = optax.apply_updates(state["params"], change["params"])
    state = {"params": params, "batch_stats": seen["batch_stats"]}
  assert f"float: the loss of step {n} is not finite" in str(error.value)
  assert "Lower the learning rate of this stage" in str(error.value)
  bad = [
    node.name
    for node in NET.nodes
    if not np.isfinite(seen["intermediates"][node.name][0]).all()
  ]
  finite = all(np.isfinite(x).all() for x in jax.tree.leaves(state["params"]))
  assert 1 < n < STEPS
  if finite:
    assert f"the output of layer {bad[0]!r}" in str(error.value)
  else:
    assert "as the step before left it" in str(error.value)


@pytest.mark.parametrize("layer", ["stem", "dw", "pw", "classifier"])
def test_the_layer_that_overflows_is_named(trainer, variables, tmp_path, layer):
  params = dict(variables["params"])
  name = f"{layer}_kernel"
  params[name] = jnp.full_like(params[name], 3e38)
  planted = {**variables, "params": params}
  with pytest.raises(Diverged) as error:
    run(tmp_path, trainer, planted)
  assert "the loss of step 1 is not finite" in str(error.value)
  assert f"the output of layer {layer!r}" in str(error.value)
  assert not (tmp_path / "metrics.jsonl").exists()


def test_of_bad_variables_the_layer_nearest_to_the_loss_is_named(variables):
  """Gradients run backwards: dw spoiled stem, not the other way round."""
  params = dict(variables["params"])
  for name in ("stem_kernel", "dw_kernel"):
    params[name] = params[name] * jnp.nan
  found = diagnosis.bad_variable(Model(NET), {"params": params})
  assert found == "params['dw_kernel'] of layer 'dw'"
  assert diagnosis.bad_variable(Model(NET), only_trained(variables)) is None
  logits = {"gates": {"logits": jnp.float32([np.nan])}}
  assert diagnosis.bad_variable(Model(NET), logits) == "gates"


def test_a_bad_last_update_is_no_result(trainer, variables, tmp_path):
  """No loss is computed after it."""
  step = trainer.step
  spoilt = variables["params"]["pw_kernel"] + jnp.inf

  def spoil(state, run):
    last = int(state.step) == STEPS - 1
    state, metrics = step(state, run)
    if last:
      params = dict(state.variables["params"])
      params["pw_kernel"] = spoilt
      state = state._replace(variables={**state.variables, "params": params})
    return state, metrics

  with pytest.raises(Diverged, match=r"step 12, the last, left .*layer 'pw'"):
    run(tmp_path, trainer._replace(step=spoil), variables)


def test_a_second_trace_is_an_error(trainer, variables):
  state = trainer.start(only_trained(variables))
  state, _ = trainer.step(state, {"key": jax.random.key(0)})
  state, _ = trainer.step(state, {"key": jax.random.key(1)})
  with pytest.raises(RuntimeError, match="step is compiled a second time"):
    trainer.step(state, {"key": jax.random.key(0), "more": jnp.ones(1)})


def test_resume_equals_uninterrupted_and_finished_is_final(
  trainer, variables, tmp_path
):
  """In one process; experiment_test kills whole runs."""
  whole, _ = run(tmp_path / "a", trainer, variables)
  calls = 0

  def dies(state, data):
    nonlocal calls
    calls += 1
    if calls == 7:
      raise KeyboardInterrupt
    return trainer.step(state, data)

  for n in (7, 6):  # dies in step 7, two steps after a checkpoint; and later
    calls = 7 - n
    with pytest.raises(KeyboardInterrupt):
      run(tmp_path / "b", trainer._replace(step=dies), variables)
  resumed, _ = run(tmp_path / "b", trainer, variables)
  for a, b in zip(
    jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True
  ):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
  lines = [experiment_runs.metrics(tmp_path / d) for d in "ab"]
  assert lines[0] == lines[1]
  again, _ = run(tmp_path / "b", trainer._replace(step=None), variables)
  assert jax.tree.structure(again) == jax.tree.structure(whole)
