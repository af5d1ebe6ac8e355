"""Training at uniform bits on two layers, every training a table.

A float network of a seed has weights of its own; trained, it says so. What it
is judged by is a table, and where training starts from is LSQ by hand.
"""

import contextlib
import types

import numpy as np
import pytest

from fbq.config import of
from fbq.experiments.qat import pipeline
from fbq.experiments.qat.config import UniformTraining
from fbq.experiments.qat.results import TrainedNetwork
from fbq.lab.held_out import HeldOut, independent
from fbq.lab.judgement import Judgement
from fbq.lab.lab import Lab
from fbq.nets import Net, Node
from fbq.train.objective import CLASSIFICATION

NET = Net(
  "two-layers",
  (2, 2, 1),
  (
    Node("conv", "conv", ("input",), 3, (1, 1), activation="relu"),
    Node("fc", "linear", ("conv",), 4, is_output=True),
  ),
)
BITS = {"input.out": 8, "conv.weight": 4, "conv.out": 8, "fc.weight": 4}
COUNT = 40
# Seed -> accuracies of the float network, before and after training: in
# validation and in the test.
TABLE = {
  3: ((0.9, 0.8), (0.3, 0.2), (0.7, 0.6)),
  5: ((0.8, 0.9), (0.1, 0.4), (0.5, 0.7)),
}


def network(seed):
  random = np.random.default_rng(seed)
  params = {
    "conv_kernel": random.random((1, 1, 1, 3), np.float32) - np.float32(0.3),
    "fc_kernel": random.standard_normal((12, 4), np.float32),
    "seed": np.int32(seed),
  }
  return {"params": params, "batch_stats": {}}


def images(seed):
  return np.random.default_rng(seed).random((6, 2, 2, 1), np.float32)


class TableLab(Lab):
  """Trainings are lookups; see above."""

  def __init__(self, settings):
    super().__init__(settings)
    self.log = types.SimpleNamespace(say=lambda line: None)
    self.clock = types.SimpleNamespace(
      measure=lambda name: contextlib.nullcontext()
    )
    split = HeldOut(lambda: iter(()), lambda: independent(COUNT))
    self.__dict__ |= {
      "net": NET,
      "seed": None,
      "names": [],
      "task": types.SimpleNamespace(
        validation=split,
        test=split,
        about_test="",
        objective=CLASSIFICATION,
        steps=lambda stage: stage.steps,
      ),
    }

  def judged(self, stage):
    right = [np.arange(COUNT) < COUNT * x for x in TABLE[self.seed][stage]]
    return Judgement.of(self.task, *right)

  def float_network(self, name, keys):
    self.seed = {"seed3-float": 3, "seed5-float": 5}[name]
    return network(self.seed), self.judged(0)

  def calibration_set(self, key, count=0):
    return images(self.seed), np.zeros(6, int)

  def trainer(self, stage, model, trained, **options):
    assert trained == ("params", "ranges") and options["range_rule"].name
    return types.SimpleNamespace(steps=stage.steps)

  def results_of_many(self, names, stage, trainer, starts, runs, finishes):
    for name, start, run, finish in zip(
      names, starts, runs, finishes, strict=True
    ):
      by_site = dict(zip(NET.workload.sites, run["bits"].tolist(), strict=True))
      assert by_site == BITS and int(start["params"]["seed"]) == self.seed
      self.check_ranges(start["ranges"])
      self.names.append(name)
      params = {**start["params"], "trained": True}
      after = {**start, "params": params}
      yield after, finish(after)

  def check_ranges(self, ranges):
    """2 E|x| / sqrt(highest code), times the steps of the range."""
    params = network(self.seed)["params"]
    step = lambda x, axis: 2 * np.abs(x).mean(axis) / np.sqrt(7)
    conv = params["conv_kernel"]
    np.testing.assert_allclose(
      ranges["conv.weight"], 8 * step(conv, (0, 1, 2)), rtol=1e-5
    )
    np.testing.assert_allclose(
      ranges["fc.weight"], 8 * step(params["fc_kernel"], None), rtol=1e-5
    )
    out = np.maximum(images(self.seed) @ conv[0, 0], 0)
    expected = 255 * 2 * out.mean() / np.sqrt(255)
    np.testing.assert_allclose(ranges["conv.out"], expected, rtol=1e-4)

  def judge(self, right, variables, assignment=None):
    assert assignment == BITS
    assert int(variables["params"]["seed"]) == self.seed
    self.check_ranges(variables["ranges"])
    return self.judged(2 if "trained" in variables["params"] else 1)


def test_every_network_is_trained_and_told_as_the_table_says():
  settings = of(
    UniformTraining,
    dict(
      experiment="qat",
      data=dict(name="digits"),
      seeds=(3, 5),
      bits=4,
      activation_bits=8,
      qat=dict(method="lsq"),
    ),
  )
  lab = TableLab(settings)
  found = pipeline.run(settings, lab)
  assert (found.bits, found.activation_bits) == (4, 8)
  expected = [
    TrainedNetwork("lsq", seed, *(accuracies[1] for accuracies in TABLE[seed]))
    for seed in (3, 5)
  ]
  assert found.trained == tuple(expected)
  assert lab.names == ["seed3-lsq", "seed5-lsq"]
  row = found.means["lsq"]
  assert row.after.value == pytest.approx(0.65)
  assert (row.lost.value, row.lost.error) == pytest.approx((0.2, 0))
