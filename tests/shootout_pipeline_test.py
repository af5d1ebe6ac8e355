"""A whole shootout on a network of two layers, every training a table.

Three tensors are free, so everything that can be chosen is tried: what is
chosen, raised, trained and told is compared with that.
"""

import contextlib
import itertools
import types
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits_search_shootout
from fbq import config as config_lib
from fbq import precision
from fbq.experiments.shootout import candidates, tuning
from fbq.experiments.shootout import pipeline as shootout
from fbq.experiments.shootout.config import Shootout
from fbq.lab import fine_tuning
from fbq.lab.costs import Costs
from fbq.lab.strategies import BY_MACS, macs_of
from fbq.nets import Net, Node
from hwsim.latency_table import BITS, PULP_LADDER, LatencyTable

NET = Net(
  "two",
  (4, 4, 1),
  (
    Node("a", "conv", ("input",), 4, (3, 3), 1, 1, activation="relu"),
    Node("fc", "linear", ("a",), 3, is_output=True),
  ),
)
FREE = ("a.weight", "a.out", "fc.weight")
# Cycles by weights of a (its image has 8 bits), and what 8-bit outputs add.
FIRST, OUTPUT = (30, 50, 40), (0, 1, 4)
# By input and weights of fc: 4-bit weights are slow, but for 4-bit inputs.
SECOND = ((10, 32, 25), (22, 18, 30), (24, 35, 40))
# What each precision of each tensor harms; by the noise of a measurement 4-bit
# weights of a less than 8-bit ones, which are faster.
BUDGETS = (0.65, 0.8, 0.95)
HARM = {
  "a.weight": {2: 0.5, 4: 0.005, 8: 0.01},
  "a.out": {2: 0.9, 4: 0.1, 8: 0.12},
  "fc.weight": {2: 0.3, 4: 0.0, 8: 0.02},
}


def table():
  cycles = np.zeros((2, 3, 3, 3), np.int64)
  cycles[0] = np.array(FIRST)[:, None] + np.array(OUTPUT)
  cycles[1] = np.array(SECOND)[:, :, None]
  layers = NET.workload.layers
  return LatencyTable(
    "table", layers, (True, False), cycles, ("simulated",) * 2
  )


def cycles_of(bits):
  """By the tables above alone."""
  at = {site: BITS.index(bits[site]) for site in FREE}
  first = FIRST[at["a.weight"]] + OUTPUT[at["a.out"]]
  return first + SECOND[at["a.out"]][at["fc.weight"]]


EVERY = [
  {"input.out": 8, **dict(zip(FREE, bits, strict=True))}
  for bits in itertools.product(BITS, repeat=3)
]
EIGHT = cycles_of(precision.uniform(NET, 8))


def least_above(bits):
  """Cycles of the fastest assignment that is at least as precise."""
  above = [e for e in EVERY if all(e[s] >= bits[s] for s in FREE)]
  return min(map(cycles_of, above))


def accuracy_of(bits):
  """More bits are better, as a table of a training would say."""
  return 0.5 + sum(bits[site] for site in FREE) / 100


class Tuner:
  """In the place of `FineTuner`: what was trained, and accuracies by table."""

  trained: dict[str, dict] = {}

  def __init__(self, lab, recipe, stage, *more):
    assert not more  # the same steps for all

  def __call__(self, name, variables, starts, assignment, key):
    self.trained[name] = dict(assignment)
    return judged(accuracy_of(assignment))


def judged(accuracy):
  test = types.SimpleNamespace(accuracy=accuracy, error=accuracy / 50)
  validation = types.SimpleNamespace(accuracy=accuracy)
  return types.SimpleNamespace(test=test, validation=validation)


class Lab:
  """As much of a lab as pipelines see."""

  def __init__(self, workdir):
    self.net, self.workdir = NET, workdir
    self.ladder, self.widths = PULP_LADDER, BITS
    self.costs = Costs(None, table(), "reader")
    self.told, self.searches = [], []
    self.log = types.SimpleNamespace(say=self.told.append)
    self.clock = types.SimpleNamespace(
      measure=lambda stage: contextlib.nullcontext()
    )
    self.about_images = "Ten images."

  def trainer(self, *arguments, **options):
    return types.SimpleNamespace(steps=200)

  def float_network(self, name, keys):
    return {"params": {}, "batch_stats": {}}, judged(0.9)

  def calibration_set(self, key):
    return np.zeros((2, 4, 4, 1)), np.zeros(2, int)

  def run_many(self, names, stage, trainer, variables, runs):
    """Gates of free-bits close one after the other with the strength."""
    closed = (
      *((0.003, 2, 1), (0.02, 2, 0), (0.02, 0, 1)),
      *((0.1, 1, 1), (0.4, 0, 0)),
    )
    for name, run in zip(names, runs, strict=True):
      self.searches.append(name)
      logits = np.full((3, 2), 5.0)
      for strength, site, gate in closed:
        if float(run["strength"]) > strength:
          logits[site, gate] = -5.0
      yield {"gates": {"logits": jnp.asarray(logits)}}


@pytest.fixture
def shot(tmp_path):
  """(outcomes, lab, what was trained) of one seed of four strategies."""
  settings = config_lib.of(Shootout, digits_search_shootout.get_config())
  names = ("free-bits", "kl-exact", "by-macs", "random")
  settings = settings.with_(
    seeds=(0,),
    strategies={n: settings.strategies[n].model_dump() for n in names},
    budgets=BUDGETS,
  )
  lab, Tuner.trained = Lab(tmp_path), {}
  value = {
    site: {str(b): -h for b, h in by_bits.items()}
    for site, by_bits in HARM.items()
  }
  values = {"kl-exact": {"seconds": 1.0, "values": value, "notes": ["Note."]}}
  with (
    mock.patch.object(candidates, "calibrate", lambda *a: ({}, {})),
    mock.patch.object(shootout, "_values", lambda *a: values),
    mock.patch.object(
      shootout, "_step_seconds", lambda *a: {"float": 0.5, "free-bits": 1.0}
    ),
    mock.patch.object(fine_tuning, "FineTuner", Tuner),
    mock.patch.object(fine_tuning, "starts", lambda *a: {}),
  ):
    return shootout.run(settings, lab), lab, Tuner.trained


def test_every_strategy_is_raised_and_trained_at_raised_bits(shot):
  outcomes, _, trained = shot
  for one in outcomes.tuned:
    assert one.cycles == cycles_of(one.precision)
    assert one.accuracy == accuracy_of(one.precision)
    assert one.error == one.accuracy / 50
    assert one.precision in trained.values()
    # Nothing at least as precise is faster, but than the plain uniform ones.
    if " raised" in one.setting or one.strategy != "uniform":
      assert one.cycles == least_above(one.precision)
  by_setting = {t.setting: t for t in outcomes.tuned if t.strategy == "uniform"}
  for bits in BITS:
    plain = by_setting[f"{bits}/{bits}"].precision
    assert plain == precision.uniform(NET, bits)
    raised = by_setting[f"{bits}/{bits} raised"]
    assert raised.cycles == least_above(plain)
  # The pass has something to do for what each strategy chose.
  assert any(p.least < p.start for p in outcomes.passes)
  assert min(p.least for p in outcomes.passes) >= min(map(cycles_of, EVERY))


def test_every_strategy_has_a_point_for_each_budget_within_it(shot):
  outcomes, lab, _ = shot
  for name in ("free-bits", "kl-exact", "by-macs", "random"):
    own = [t for t in outcomes.tuned if t.strategy == name]
    assert [t.setting for t in own] == [f"{b:.0%} of cycles" for b in BUDGETS]
    for one, share in zip(own, BUDGETS, strict=True):
      assert one.cycles <= share * EIGHT
  # Cost: of all searches, at twice a step of float training.
  count = len(lab.searches)
  tried = outcomes.tried["free-bits"]
  assert tried.searches == count
  assert tried.search_steps == pytest.approx(2 * 200 * count)
  assert outcomes.tried["kl-exact"].search_steps == pytest.approx(2.0)
  assert outcomes.tried["by-macs"].search_steps == 0
  assert "Note." in outcomes.assumptions


def test_the_value_of_a_choice_counts(shot):
  """The most valuable of all within the budget, then raised."""
  outcomes, _, _ = shot
  own = [t for t in outcomes.tuned if t.strategy == "kl-exact"]
  chosen = []
  for one, share in zip(own, BUDGETS, strict=True):
    best = min(
      (e for e in EVERY if cycles_of(e) <= share * EIGHT),
      key=lambda e: sum(HARM[s][e[s]] for s in FREE),
    )
    assert all(one.precision[s] >= best[s] for s in FREE)
    assert one.cycles == least_above(best)
    chosen.append(best)
  assert any(least_above(best) < cycles_of(best) for best in chosen)


# ---- Controls


def test_sites_count_with_the_work_of_all_that_read_them():
  # a: 16 pixels x 9 x 4 = 576; fc: 64 x 3 = 192.
  assert macs_of(NET) == {
    "input.out": 576,
    "a.weight": 576,
    "a.out": 192,
    "fc.weight": 192,
  }
  assert BY_MACS.order(NET, jax.random.key(0)) == list(FREE)


class Counted:
  """Hardware on which every bit of every tensor costs the same."""

  net = NET

  def share(self, bits):
    return sum(bits[site] for site in FREE) / 24


def test_a_control_lowers_the_first_of_its_order_to_the_budget():
  assert candidates.lowered(NET, FREE, 2, 0.5) == {
    "input.out": 8, "a.weight": 2, "a.out": 4, "fc.weight": 8
  }  # fmt: skip
  like = {"input.out": 8, "a.weight": 4, "a.out": 8, "fc.weight": 4}
  found = candidates.ordered(
    Counted(), BY_MACS, jax.random.key(0), [like, like, like], (0.9, 0.7, 0.2)
  )
  # No tensor of 2 bits: 20/24, 16/24 and 12/24, of which none is within 0.2.
  lowered = [[b[site] for site in FREE] for b in found]
  assert lowered == [[4, 8, 8], [4, 4, 8], [4, 4, 4]]
  twos = like | {"fc.weight": 2, "a.weight": 2}
  (found,) = candidates.ordered(
    Counted(), BY_MACS, jax.random.key(0), [twos], (0.5,)
  )
  assert [found[site] for site in FREE] == [2, 2, 8]


# ---- Weights that a search trained


def test_kept_weights_are_calibrated_at_their_bits(tmp_path):
  """fc reads what a's quantized weights and outputs give, by hand."""
  random = np.random.default_rng(0)
  kernel = random.normal(size=(3, 3, 1, 4)).astype(np.float32)
  end = {
    "params": {
      "a_kernel": jnp.asarray(kernel),
      "fc_kernel": jnp.asarray(random.normal(size=(64, 3)), jnp.float32),
    },
    "batch_stats": {},
    "ranges": {"a.out": jnp.float32(1.5)},
  }
  images = random.uniform(size=(5, 4, 4, 1)).astype(np.float32)
  bits = {"input.out": 8, "a.weight": 2, "a.out": 4, "fc.weight": 8}
  one = candidates.Candidate("free-bits", 0, "", bits, bits, end)
  begun = types.SimpleNamespace(images=images)
  seen = {}

  def starts(net, variables, tensors, recipe, bits):
    seen.update(tensors)
    return {"a.out": {2: 9.0, 4: 9.0, 8: 9.0}}

  lab = types.SimpleNamespace(
    widths=BITS, net=NET, bits=lambda b: jnp.asarray(precision.to_array(NET, b))
  )
  learned = types.SimpleNamespace(trained=("params", "ranges"))
  with mock.patch.object(fine_tuning, "starts", starts):
    with mock.patch.object(tuning, "Search", types.SimpleNamespace):
      _, kept = tuning.kept(lab, None, learned, one, begun)
      raised = one._replace(precision=bits | {"a.out": 8})
      _, moved = tuning.kept(lab, None, learned, raised, begun)
    _, calibrated = tuning.kept(lab, None, learned, one, begun)
  # The image in steps of 1/255, weights of 2 bits in four codes per channel.
  x = np.rint(images * 255) / 255
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  range_ = np.array(
    [
      tuning.calibration.best_range(k.ravel(), 2, True)
      for k in np.moveaxis(kernel, 3, 0)
    ]
  )
  step = range_ / 2
  w = np.clip(np.rint(kernel / step), -2, 1) * step
  expected = sum(
    padded[:, i : i + 4, j : j + 4] * w[i, j, 0]
    for i in range(3)
    for j in range(3)
  )
  np.testing.assert_allclose(seen["a.out"], expected, atol=1e-5)
  # What was learned stays at its bits alone, and only where it was learned.
  assert kept["a.out"] == {2: 9.0, 4: 1.5, 8: 9.0}
  assert moved["a.out"] == {2: 9.0, 4: 9.0, 8: 9.0}
  assert calibrated["a.out"] == {2: 9.0, 4: 9.0, 8: 9.0}
