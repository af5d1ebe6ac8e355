"""A rule of training from outside of the tree, named in a config."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import IMAGES, NET, calibrated

from fbq import doors, precision
from fbq.model import Model
from fbq.quantizers import qat_rules
from fbq.schemes.fixed import Fixed
from fbq.train import optimizer, steps

OWN = """
import jax
import numpy as np
import optax

from fbq.quantizers import uniform
from fbq.quantizers.qat_rules import Rule


@jax.custom_vjp
def pulled(range_):
  return range_


pulled.defvjp(lambda r: (r, r), lambda r, g: (2.0 * r,))


def quantize(x, range_, bits, signed, count):
  return uniform.quantize(x, pulled(range_), bits, signed)


SHRINK = Rule(
  "shrink",
  "every range shrinks, whatever the loss",
  lambda x, bits, signed: 3 * np.std(x, axis=0) + bits,
  optax.sgd,
  quantize,
  learning_rate=0.125,
)
TEXT = "no rule"
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
  """Name of the module that a user brings."""
  (tmp_path / "someones_rules.py").write_text(OWN)
  monkeypatch.syspath_prepend(tmp_path)
  return "someones_rules"


def test_an_own_rule_trains_a_network_and_moves_ranges_as_it_says(own):
  rule = doors.resolve("rule", f"{own}:SHRINK")
  model = Model(NET, Fixed(rule))
  updates = optimizer.make(
    2, 0.1, range_rule=rule, range_learning_rate=rule.learning_rate
  )
  trained = ("params", "ranges")
  labels = jnp.arange(len(IMAGES)) % 3
  step = steps.train_step(model, updates, trained, lambda _: (IMAGES, labels))
  start = calibrated()
  state = steps.initial_state(start, trained, updates)
  bits = precision.to_array(NET, precision.uniform(NET, 4))
  run = {"key": jax.random.key(0), "bits": jnp.asarray(bits)}
  for _ in range(2):  # the rate rises from 0: the second step moves
    state, metrics = step(state, run)
  assert np.isfinite(metrics["loss"])
  found = state.variables["ranges"]
  # d is quantized before its pool and after it.
  for site, uses in {
    "a.weight": 1,
    "fc.weight": 1,
    "b.out": 1,
    "d.out": 2,
  }.items():
    expected = start["ranges"][site] * (1 - 0.125 * 2 * uses)
    np.testing.assert_allclose(found[site], expected, rtol=1e-6)
  before = start["params"]["a_kernel"]
  assert np.abs(state.variables["params"]["a_kernel"] - before).max() > 1e-4


def test_short_names_are_those_of_the_rules():
  for name in doors.KNOWN["rule"]:
    assert doors.resolve("rule", name).name == name
  assert doors.resolve("rule", "log_lsq") == Fixed().rule == qat_rules.LOG_LSQ


@pytest.mark.parametrize(
  "name, message",
  [
    ("lqs", r"rule 'lqs' is not known; did you mean 'lsq'\? expected one of"),
    ("{own}:TEXT", "is of type str, expected an object of class .*qat_rules"),
    ("{own}:SHRINKS", "cannot be loaded: .* has no attribute 'SHRINKS'"),
    ("no_such_module:RULE", "cannot be loaded: No module named"),
  ],
)
def test_what_is_no_rule_is_refused_in_one_line(name, message, own):
  with pytest.raises(doors.DoorError, match=message) as error:
    doors.resolve("rule", name.format(own=own))
  assert "\n" not in str(error.value)
