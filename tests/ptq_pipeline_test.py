"""Recipes without training, on a bench whose networks are tables.

Which share of the images to choose by keeps the class of the float network, and
which of the test images is right, a table says of every recipe. The two
disagree: who goes by the test takes other bits.
"""

import contextlib
import types

import numpy as np
import pytest

from fbq.config import of
from fbq.experiments.ptq import pipeline
from fbq.experiments.ptq.config import PostTraining
from fbq.experiments.ptq.tables import recipes, tables
from fbq.lab.held_out import HeldOut, independent
from fbq.lab.judgement import Judgement
from fbq.train.log import Stopwatch
from fbq.train.objective import CLASSIFICATION

COUNT, CLASSES, SURE = 40, 4, 3.0
FLOAT = {3: 0.95, 5: 0.85}
# By bits of weights and activations, of the better of two rules for ranges.
AGREE = {(8, 8): 1.0, (4, 8): 0.9, (8, 4): 0.7, (4, 4): 0.5}
RIGHT = {(8, 8): 0.6, (4, 8): 0.5, (8, 4): 0.9, (4, 4): 0.95}


def agreement(recipe):
  pair = recipe.weight_bits, recipe.activation_bits
  worse = 0.1 * (recipe.weight_rule == "min_max") + 0.1 * (
    not recipe.per_channel
  )
  return AGREE.get(pair, 0.8) - worse


def right(recipe, seed):
  pair = recipe.weight_bits, recipe.activation_bits
  return RIGHT.get(pair, 0.4) - 0.1 * (seed == 5)


class TableBench:
  """What `Bench` does, from the tables."""

  def __init__(self, seed):
    self.seed = seed

  def in_float(self):
    return types.SimpleNamespace(recipe=None, data=())

  def apply(self, recipe):
    return types.SimpleNamespace(recipe=recipe, data=())

  def logits(self, quantized, images, batch):
    """Images say which split they are of, and which one each is."""
    split, order = images[0, 0], images[:, 1].astype(int)
    classes, recipe = order % CLASSES, quantized.recipe
    if recipe:
      share = agreement(recipe) if split == 0 else right(recipe, self.seed)
      classes = classes + (order >= round(share * COUNT))
    return SURE * np.eye(CLASSES)[classes % CLASSES]


class TableLab:
  """Float networks, images and a place to work."""

  def __init__(self, workdir):
    self.workdir, self.clock = workdir, Stopwatch()
    self.about_images = ""
    self.net = types.SimpleNamespace(name="table")
    self.log = types.SimpleNamespace(
      say=lambda line: None,
      bar=lambda *_: contextlib.nullcontext(lambda *_: None),
    )
    split = HeldOut(
      lambda: iter(
        [(images(1), np.arange(COUNT) % CLASSES, np.ones(COUNT, np.float32))]
      ),
      lambda: independent(COUNT),
    )
    self.task = types.SimpleNamespace(
      validation=split, test=split, batch=COUNT, objective=CLASSIFICATION
    )

  def float_network(self, name, keys):
    seed = {"seed3-float": 3, "seed5-float": 5}[name]
    masks = [np.arange(COUNT) < COUNT * x for x in (0.5, FLOAT[seed])]
    return seed, Judgement.of(self.task, *masks)

  def calibration_set(self, key, count=0):
    return images(0), np.zeros(COUNT, int)


def images(split):
  return np.stack([np.full(COUNT, split), np.arange(COUNT)], 1)


def test_recipes_are_told_and_chosen_as_the_table_says(tmp_path, monkeypatch):
  monkeypatch.setattr(
    pipeline, "_bench", lambda settings, lab, seed, keys: TableBench(seed)
  )
  monkeypatch.setattr(pipeline, "_look_at_layers", lambda *_: None)
  settings = of(
    PostTraining,
    dict(
      experiment="ptq",
      data=dict(name="digits"),
      seeds=(3, 5),
      studies=("widths",),
      validation_images=COUNT,
      rounding=dict(steps=0),
      tolerance=0.11,
    ),
  )
  found = pipeline.run(settings, TableLab(tmp_path))
  tried = recipes(tables(("widths",), False))
  assert {*FLOAT} == {*found.networks} and len(tried) > 8

  # KL of two classes that are as sure: (p - q) of each times their distance
  odds = np.exp(SURE)
  apart = SURE * (odds - 1) / (odds + CLASSES - 1)
  for seed, network in found.networks.items():
    assert network.in_float == FLOAT[seed]
    for recipe, row in zip(tried, network.recipes, strict=True):
      assert row.accuracy == pytest.approx(right(recipe, seed))
      assert row.agreement == pytest.approx(agreement(recipe))
      assert row.kl == pytest.approx((1 - agreement(recipe)) * apart)

  # Of each pair of bits the least divergence; of those that agree, fewest bits
  assert [r.recipe.weight_rule for r in found.best] == ["least_squares"] * 4
  assert all(r.recipe.per_channel for r in found.best)
  used = found.used
  assert (used.recipe.weight_bits, used.recipe.activation_bits) == (4, 8)
  assert used.loss.value == pytest.approx((0.45 + 0.45) / 2)
