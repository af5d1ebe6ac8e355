"""Records of BitQ runs that nobody ran, for tests of what is made of them."""

import jax
import lab_cases
import numpy as np

from fbq import block_formats
from fbq.experiments.bitq import results
from fbq.experiments.bitq.block_network import BlockNetwork, Movement
from fbq.lab import experiment, workdir
from fbq.model import Model
from fbq.report.run import Run
from fbq.schemes.block_float import BlockFloat
from fbq.train.checkpoints import Checkpoints
from hwsim.bfp import bitq_format

FORMATS = {
  site: bitq_format(8, 3, 16) for site in ("a.weight", "a.out", "b.weight")
}


def network(name, bits=80.0, validation: float | None = 0.9, **more):
  """A network that moves `bits` bits and takes as many pJ."""
  values = dict(
    family="BitQ",
    formats=FORMATS,
    scheme="grid",
    training=f"qat-grid-{name}",
    test=validation,
    test_error=0.01,
    lost=None if validation is None else 0.9 - validation,
    lost_error=0.005,
    untrained_test=0.5,
  )
  return BlockNetwork(
    name=name,
    word=8,
    moves=Movement(bits, bits, bits * 1e-12, (bits / 2, bits / 4, bits / 4)),
    validation=validation,
    divergence=None,
    source="",
    text="",
    **values | more,
  )


def word(name, bits, recommended, candidates):
  """A word for which every alpha has the same optimum."""
  layer = results.LayerMovement(
    "a", (*list(FORMATS.values())[:2], None), network("a").moves, "1 2 3"
  )
  return results.WordResults(
    name=name,
    bits=bits,
    largest_bits=100.0,
    candidates=tuple(candidates),
    optima=tuple(
      results.PredictedOptimum(alpha, recommended, alpha / 2)
      for alpha in (0.0, 0.2, 3.0)
    ),
    front=((20.0, 0.2), (80.0, 0.01)),
    front_error=0.01,
    ablations={},
    recommended=recommended,
    layers=(layer,),
  )


def study(networks, words, seed=0, tops=(0, 2, 0)):
  """What a seed found."""
  return results.SeedStudy(
    seed=seed,
    float_accuracy=0.9,
    networks=tuple(networks),
    words=tuple(words),
    scales=dict(weights=0.1, activations=0.2, untrained=0.3),
    losses="losses of formats: good",
    passes=7,
    mixed=(5, 0.9, 0.01),
    tops=tops,
  )


def record(*studies):
  """A whole record."""
  return results.BitQResults(
    network="small",
    about_test="Digits.",
    steps=4,
    alpha=0.2,
    grid=BlockFloat((1, 8)),
    studies=studies,
  )


def typical(lost=0.0, seed=0):
  """A seed's networks of 0.9, 0.89, .. less `lost`, of 800, 700, .. bits."""
  names = ["FP32", "DBPS", "FlexBlock FB16", "FAST high", "a", "b", "BSFP"]
  networks = [
    network(
      name,
      800.0 - 100 * i,
      0.9 - i / 100 - lost,
      family="BitQ" if name in "ab" else "published",
      lost=i / 100,
    )
    for i, name in enumerate(names[:-1])
  ]
  priced = dict(
    **dict.fromkeys(("test", "test_error", "lost_error", "untrained_test")),
    training="",
    family="published",
  )
  bsfp = network(names[-1], 200.0, None, scheme="not trained", **priced)
  words = word("BitQ16", 16, "a", "ab"), word("BitQ8", 8, "b", "ab")
  return study([*networks, bsfp], words, seed)


def saved(path, found, settings):
  """A workdir with a record and settings, as a finished run leaves it."""
  path.mkdir()
  about = Run(settings=settings, command="python main.py", facts={"seed": 1})
  experiment.save(path, found, about)
  workdir.finish(path, found.summary())
  return path


def untrained(path, config):
  """A workdir like that of a finished run, and what its networks were left as.

  Its network "Short a" has random variables.
  """
  settings, lab = lab_cases.checked(config)
  lab.open(path)
  net = lab.net
  formats = block_formats.uniform(net, bitq_format(8, 4, 8))
  formats["stem.weight"] = bitq_format(8, 2, 1)
  mixed = network("Short a", formats=formats, training="qat-grid-a", test=0.5)
  others = [
    network("FP32", formats=formats, family="published"),
    network("Long a", formats=formats, training="qat-grid-b"),
    network("MSFP-12", formats=formats, scheme="vectors"),
  ]
  words = word("Long", 16, "Long a", ()), word("Short", 8, "Short a", ())
  tops = tuple(range(len(net.workload.sites)))
  found = record(study([mixed, *others], words, tops=tops))
  experiment.save(path, found, Run(settings=settings.model_dump(mode="json")))
  workdir.finish(path, found.summary())

  # Not negative, so that variances are none either
  random, x = (
    np.random.default_rng(0),
    np.zeros((1, *net.input_shape), np.float32),
  )
  shapes = jax.eval_shape(lambda: Model(net).init(jax.random.key(0), x, False))
  variables = jax.tree.map(
    lambda a: random.random(a.shape, np.float32), dict(shapes)
  )
  trainer = lab.trainer(settings.qat, Model(net), ("params",))
  checkpoints = Checkpoints(
    path / "checkpoints" / mixed.training,
    f"{lab.fingerprint}:{mixed.training}",
  )
  checkpoints.save(
    trainer.steps, trainer.start(variables), {"test_accuracy": 0.5}
  )
  checkpoints.close()
  return variables
