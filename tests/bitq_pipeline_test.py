"""BitQ's whole pipeline on two layers, every training and network a table.

Three formats of 8 bits for four tensors: <2, 4> is fine, <5, 4> and <6, 4> are
coarse. Coarse weights cost nothing in validation and much in the test; coarse
activations cost much in both. Before training every coarse tensor costs. So
what is chosen, trained, costed and told can all be said beforehand.
"""

import contextlib
import types

import numpy as np
import pytest

from fbq.config import of
from fbq.experiments.bitq import pipeline, results
from fbq.experiments.bitq.config import BitQ
from fbq.lab.held_out import HeldOut, independent
from fbq.lab.judgement import Judgement
from fbq.nets import Net, Node
from fbq.schemes.block_float import BlockFloat
from fbq.schemes.published_formats import GRID
from fbq.train.objective import CLASSIFICATION
from hwsim.bfp import bitq_format

NET = Net(
  "two-layers",
  (4, 4, 4),
  (
    Node("conv", "conv", ("input",), 8, (1, 1), activation="relu"),
    Node("pool", "avg_pool", ("conv",), kernel=None),
    Node("fc", "linear", ("pool",), 4, is_output=True),
  ),
)
FINE, COARSE = bitq_format(8, 2, 4), bitq_format(8, 6, 4)
UNSURE = {
  25: 0.0,
  6: 0.002,
  3: 0.02,
  2: 0.04,
}  # how much, by bits of an element
WEIGHTS, ACTIVATIONS = ("conv.weight", "fc.weight"), ("input.out", "conv.out")
SITES = NET.workload.sites
COUNT = 40  # images of validation and of the test
ALPHAS = (0.0, 0.02, 1000.0)


def coarse(rows):
  """Coarse weights and coarse activations of formats int [S, 3]."""
  is_coarse = dict(zip(SITES, np.asarray(rows)[:, 0] <= 3, strict=True))
  return (
    sum(bool(is_coarse[s]) for s in WEIGHTS),
    sum(bool(is_coarse[s]) for s in ACTIVATIONS),
  )


def accuracy(split, rows, trained):
  """The table."""
  weights, activations = coarse(rows)
  if not trained:
    return 0.7 - 0.1 * (weights + activations)
  if split == "validation":
    return 0.9 - 0.1 * activations
  return 0.8 - 0.05 * activations - 0.15 * weights


def images(split):
  """Every image says where it is from and which one it is."""
  x = np.random.default_rng(0).random((COUNT, *NET.input_shape), np.float32)
  x[:, 0, 0, 0] = {"validation": 0.25, "test": 0.5, "calibration": 1.0}[split]
  x[:, 0, 0, 1] = np.arange(COUNT) / COUNT
  return x, np.arange(COUNT) % 4


def logits(variables, x, data):
  """Right up to the share of the table; less sure where formats are coarse."""
  x, rows = np.asarray(x), np.asarray(data.formats)
  split = {0.25: "validation", 0.5: "test"}.get(float(x[0, 0, 0, 0]))
  order = np.rint(x[:, 0, 0, 1] * COUNT).astype(int)
  chosen = order % 4
  if split:
    share = accuracy(split, rows, "trained" in variables["params"])
    chosen = chosen + (order >= round(share * COUNT))
  sure = 3.0 - sum((4 + i) * UNSURE[int(n)] for i, n in enumerate(rows[:, 0]))
  return sure * np.eye(4)[chosen % 4]


class TableLab:
  """What the pipeline asks of a lab; see above."""

  def __init__(self, workdir):
    self.net, self.workdir, self.trained = NET, workdir, {}
    self.log = types.SimpleNamespace(say=lambda line: None)
    self.clock = types.SimpleNamespace(
      measure=lambda name: contextlib.nullcontext()
    )
    self.task = types.SimpleNamespace(
      validation=self.held_out("validation"),
      test=self.held_out("test"),
      batch=COUNT,
      about_test="",
      objective=CLASSIFICATION,
      steps=lambda stage: stage.steps,
    )

  def held_out(self, split):
    return HeldOut(
      lambda: iter([(*images(split), np.ones(COUNT))]),
      lambda: independent(COUNT),
    )

  def judged(self, validation, test):
    right = lambda share: np.arange(COUNT) < round(share * COUNT)
    return Judgement.of(self.task, right(validation), right(test))

  def float_network(self, name, keys):
    assert name == "seed7-float"
    random = np.random.default_rng(1)
    params = {
      "conv_kernel": random.standard_normal((1, 1, 4, 8), np.float32),
      "fc_kernel": random.standard_normal((8, 4), np.float32),
    }
    return {"params": params, "batch_stats": {}}, self.judged(0.5, 0.7)

  def calibration_set(self, key, count=0):
    return images("calibration")

  def run(self, name, stage, trainer, variables, run, finish):
    """Trained at the formats of the run, from the float network."""
    assert trainer == GRID and "trained" not in variables["params"]
    self.trained[name] = np.asarray(run["formats"])
    params = {**variables["params"], "trained": True}
    after = {**variables, "params": params}
    return after, finish(after)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
  """(record, lab) of seed 7."""
  lab = TableLab(tmp_path_factory.mktemp("run"))
  word = dict(bits=8, exponent_bits=(2, 5, 6), block_sizes=(4,))
  settings = of(
    BitQ,
    dict(
      experiment="bitq",
      seeds=(7,),
      data=dict(name="digits"),
      words=dict(Short=word),
      published=(),
      alphas=ALPHAS,
      alpha=0.02,
      memory_bytes=2**20,
      register_bytes=2**20,
      calibration_images=COUNT,
      losses=dict(
        noise_images=4, measured_formats=2, held_out=2, assignments=4
      ),
    ),
  )
  programs = types.SimpleNamespace(
    lab=lab,
    schemes={GRID: BlockFloat((4,))},
    outputs=lambda scheme: logits,
    evidence=CLASSIFICATION.evidence,
    compare=None,
    trainer=lambda scheme: scheme,
  )
  return pipeline._study(settings, lab, programs, 7), lab


def formats(weights, activations):
  return dict.fromkeys(WEIGHTS, weights) | dict.fromkeys(
    ACTIVATIONS, activations
  )


def moved(chosen):
  """DRAM bits where all fits: X a number, SE for each block of 4 channels.

  64 pixels' numbers of the image, 128 of the convolution, 8 of the pool.
  """

  def bits(site, count):
    f = chosen[site]
    return count * f.element_bits + count // 4 * f.exponent_bits

  conv = bits("input.out", 64) + bits("conv.weight", 32)
  conv += 2 * bits("conv.out", 128)
  return conv + bits("conv.out", 8) + bits("fc.weight", 32) + 2 * 4 * 32


def test_every_optimum_is_the_one_that_the_table_says(found):
  """alpha 0: least loss; 1000: least movement; 0.02: what costs nothing."""
  study, _ = found
  expected = (
    formats(FINE, FINE),
    formats(COARSE, FINE),
    formats(COARSE, COARSE),
  )
  for alpha, formats_ in zip(ALPHAS, expected, strict=True):
    chosen = study.by_role[results.at_alpha("Short", alpha)]
    assert chosen.formats == {site: formats_[site] for site in SITES}, alpha
  fine = study.by_role["Short without trade-off"]
  assert fine.formats == {site: FINE for site in SITES}
  # Bits per element take the place of movement: coarse weights are free still.
  bits_alone = study.by_role["Short without data movement"].formats
  assert [bits_alone[s] for s in WEIGHTS] == [COARSE, COARSE]


def test_networks_are_judged_after_training_in_their_own_formats(found):
  study, lab = found
  trained = [n for n in study.networks if n.training]
  assert len(trained) == len(study.networks) >= 5
  fp32 = study.networks[0]
  assert fp32.name == "FP32" and fp32.test == 0.8
  for n in trained:
    rows = lab.trained[n.training]
    for site, row in zip(SITES, rows, strict=True):
      f = n.formats[site]
      own = (25, 8, 1) if n.name == "FP32" else f[:3]
      assert tuple(row) == own, (n.name, site)
    assert n.test == pytest.approx(accuracy("test", rows, True))
    assert n.validation == pytest.approx(accuracy("validation", rows, True))
    assert n.untrained_test == pytest.approx(accuracy("test", rows, False))
    assert n.lost == pytest.approx(0.8 - n.test)
    if n.name != "FP32":
      assert n.moves.dram_bits == moved(n.formats)
  assert study.float_accuracy == 0.7


def test_a_nat_of_weights_costs_nothing_and_one_of_activations_does(found):
  """Each kind's scale is that of the network in which it alone is coarse."""
  study, _ = found
  assert study.scales["weights"] == 1e-6  # the least there is
  assert study.scales["activations"] > 1e-3
  assert study.scales["untrained"] > 1e-3


def test_the_recommended_network_is_the_best_in_validation(found):
  """Going by the test, coarse weights would not pay; eq. 1 by hand."""
  study, _ = found
  (word,) = study.words
  assert word.largest_bits == moved(formats(FINE, FINE))
  eq_1 = {}
  for name in word.candidates:
    n = study.by_name[name]
    share = moved(n.formats) / word.largest_bits
    eq_1[name] = 0.9 - n.validation + 0.02 * share
  best = study.by_name[word.recommended]
  assert eq_1[word.recommended] == min(eq_1.values())
  chosen = formats(COARSE, FINE)
  assert best.formats == {site: chosen[site] for site in SITES}
  by_test = lambda name: (
    eq_1[name] + (study.by_name[name].validation - study.by_name[name].test)
  )
  assert min(word.candidates, key=by_test) != word.recommended
  assert {study.by_name[n].family for n in word.candidates} == {
    "BitQ",
    "uniform",
  }
  # What layers move adds up to what the network moves.
  assert sum(x.moves.dram_bits for x in word.layers) == best.moves.dram_bits
