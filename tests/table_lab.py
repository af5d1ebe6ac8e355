"""A lab whose trainings are lookups: pipelines on it can be computed by hand.

Two layers, `conv` and `fc`, and so three tensors that have a precision; bits
are written (conv.weight, conv.out, fc.weight). A network of a seed is the seed
and the bits that it was trained at; it is judged by a table, and it is all
wrong where it is judged at other bits or was never fine-tuned.
"""

import types

import jax
import numpy as np

from fbq.lab.costs import Costs
from fbq.lab.held_out import HeldOut
from fbq.lab.judgement import Judgement
from fbq.lab.lab import Lab
from fbq.nets import Net, Node
from fbq.nets.graph import INPUT
from fbq.train.objective import CLASSIFICATION
from hwsim.latency_table import LatencyTable

SITES = ("conv.weight", "conv.out", "fc.weight")
IMAGES = {"validation": 40, "test": 30}
NET = Net(
  "two-layers",
  (2, 2, 1),
  (
    Node("conv", "conv", (INPUT,), 3, (1, 1), norm=True, activation="relu"),
    Node("fc", "linear", ("conv",), 10, bias=True, is_output=True),
  ),
)
# Cycles by bits of weights; those of fc by bits of its input, too.
CONV = {2: 30, 4: 50, 8: 20}
FC = {
  2: {2: 40, 4: 45, 8: 50},
  4: {2: 30, 4: 20, 8: 25},
  8: {2: 60, 4: 35, 8: 22},
}
# Right of 40 images in validation and of 30 in the test, by seed and bits: who
# goes by the test takes 8/8 for much better than 8, 4, 4.
FLOAT = {0: (37, 21), 1: (38, 22)}
RIGHT = {
  0: {
    (8, 8, 8): (36, 20),
    (4, 4, 4): (30, 29),
    (2, 2, 2): (20, 30),
    (8, 4, 4): (36, 10),
    (4, 8, 2): (33, 15),
    (2, 2, 4): (10, 25),
  },
  1: {
    (8, 8, 8): (36, 22),
    (4, 4, 4): (28, 29),
    (2, 2, 2): (22, 30),
    (8, 4, 4): (34, 10),
    (4, 8, 2): (31, 15),
    (2, 2, 4): (12, 25),
  },
}
# Ranges say what they are ranges of.
RANGES = {
  site: {bits: np.float32(100 * i + bits) for bits in (2, 4, 8)}
  for i, site in enumerate(SITES)
}


def assignment(bits):
  return dict(zip(SITES, bits, strict=True)) | {"input.out": 8}


def bits_of(found):
  return tuple(int(found[site]) for site in SITES)


def held_out(name):
  """Pairs of images of one source."""
  return HeldOut(lambda: iter(()), lambda: np.arange(IMAGES[name]) // 2)


def costs():
  cycles = np.zeros((2, 3, 3, 3), np.int64)
  for w, weight in enumerate((2, 4, 8)):
    cycles[0, :, w] = CONV[weight]
    for a, bits in enumerate((2, 4, 8)):
      cycles[1, a, w] = FC[bits][weight]
  table = LatencyTable(
    "board", NET.workload.layers, (True, False), cycles, ("measured",) * 2
  )
  return Costs(None, table, 8)


class TableLab(Lab):
  """See above.

  Attributes:
    searched: {seed: {(number of gates, strength): bits that a search ends at}}.
    range_bits: bits at which ranges have to be when a search starts.
    tuned: names of fine-tunings, in their order.
    keys: {(stage, seed): the random keys of its runs}.
  """

  def __init__(self, settings, workdir, searched=None, range_bits=4):
    super().__init__(settings)
    self.searched, self.range_bits = searched, range_bits
    self.workdir, self.tuned, self.keys = workdir, [], {}
    self.log = types.SimpleNamespace(say=lambda line: None)
    self.__dict__ |= {
      "net": NET,
      "costs": costs(),
      "task": types.SimpleNamespace(
        validation=held_out("validation"),
        test=held_out("test"),
        about_test="About the test.",
        objective=CLASSIFICATION,
      ),
    }

  def judged(self, right):
    """The first images are right."""
    splits = [
      np.arange(IMAGES[name]) < count
      for name, count in zip(IMAGES, right, strict=True)
    ]
    return Judgement.of(self.task, *splits)

  def float_network(self, name, keys):
    seed = {"float": 0, "seed1-float": 1}[name]
    network = {"params": {"seed": seed}, "batch_stats": {}}
    return network, self.judged(FLOAT[seed])

  def calibration_set(self, key, count=0):
    return np.zeros((24, 2, 2, 1)), np.zeros(24, int)

  def trainer(self, stage, model, trained, *args, **options):
    return types.SimpleNamespace(model=model, trained=trained)

  def results_of_many(self, names, stage, trainer, starts, runs, finishes):
    train = {"precision search": self.search, "fine-tuning": self.tune}[stage]
    for name, start, run, finish in zip(
      names, starts, runs, finishes, strict=True
    ):
      key = tuple(jax.random.key_data(run["key"]).tolist())
      of_stage = stage, start["params"]["seed"]
      self.keys.setdefault(of_stage, set()).add(key)
      trained = train(name, trainer, start, run)
      yield trained, finish(trained)

  def search(self, name, trainer, start, run):
    """Gates that are open or closed as the table says."""
    expected = RANGES["conv.out"][self.range_bits]
    assert start["ranges"]["conv.out"] == expected
    groups = trainer.model.scheme.groups
    strength = round(float(run["strength"]), 6)
    found = self.searched[start["params"]["seed"]]
    bits = assignment(found[groups.count, strength])
    logits = np.zeros((groups.count, 2))
    for site, row in groups.rows(NET).items():
      if row >= 0:
        logits[row] = [9 if bits[site] > b else -9 for b in (2, 4)]
    return {**start, "gates": {"logits": logits}}

  def tune(self, name, trainer, start, run):
    """The network remembers what it was trained at."""
    by_site = dict(zip(NET.workload.sites, run["bits"].tolist(), strict=True))
    bits = bits_of(by_site)
    expected = {s: RANGES[s][b] for s, b in zip(SITES, bits, strict=True)}
    assert {s: float(r) for s, r in start["ranges"].items()} == expected
    self.tuned.append(name)
    return {**start, "params": {**start["params"], "trained at": bits}}

  def judge(self, right, variables, assignment=None):
    bits, network = bits_of(assignment), variables["params"]
    if network.get("trained at") != bits:
      return self.judged((0, 0))
    return self.judged(RIGHT[network["seed"]][bits])
