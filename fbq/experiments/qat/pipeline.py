"""Quantization-aware training at uniform bits, by one rule or several.

For each seed: float training, calibration, then training by every rule, on the
same batches; accuracies before and after beside the float network's.
"""

from collections.abc import Mapping
from typing import Any

import jax

from fbq import norms
from fbq.experiments.qat import config
from fbq.experiments.qat.config import UniformTraining
from fbq.experiments.qat.results import TrainedNetwork, TrainedNetworks
from fbq.lab.calibration import activations, initial_variables
from fbq.lab.fine_tuning import FineTuner, starts
from fbq.lab.lab import Lab
from fbq.model import Model
from fbq.nets.graph import Net


def run(settings: UniformTraining, lab: Lab) -> TrainedNetworks:
  """A network trained by every rule and seed at the same bits."""
  net = lab.net
  assignment = config.assignment(settings, net)
  from_scratch = settings.start == "scratch"

  # ---- One compiled step for each rule, whatever the seed; from scratch it
  # takes as many steps as float training and fine-tuning together
  tuning = settings.fine_tuning
  stage = settings.float_training if from_scratch else tuning
  more_steps = lab.task.steps(tuning) if from_scratch else 0
  rates, tuners = settings.range_learning_rates, {}
  for method, recipe in config.recipes(settings).items():
    rate = rates.get(method, recipe.scheme.rule.learning_rate)
    tuners[method] = FineTuner(lab, recipe, stage, more_steps, rate)

  trained = []
  for seed in settings.seeds:
    # ---- Float training, calibration
    keys = jax.random.split(jax.random.key(seed), 4)
    variables, judged = lab.float_network(f"seed{seed}-float", keys[:2])
    float_accuracy = judged.test.accuracy
    with lab.clock.measure("calibration"):
      images, _ = lab.calibration_set(keys[2])
      if from_scratch:
        start = initial_variables(Model(net), keys[0])
        variables = _normalized(net, start, images)
      tensors = activations(net, variables, images)

    # ---- Training by every rule, on the same batches
    for method, tuner in tuners.items():
      with lab.clock.measure("calibration"):
        ranges = starts(net, variables, tensors, tuner.recipe)
      with lab.clock.measure("evaluation before training"):
        start = tuner.start(variables, ranges, assignment)
        before = tuner.judge(start, assignment).test.accuracy
      name = f"seed{seed}-{method}"
      judged = tuner(name, variables, ranges, assignment, keys[3])
      after = judged.test.accuracy
      found = TrainedNetwork(method, seed, float_accuracy, before, after)
      trained.append(found)
      lab.log.say(f"{name}: {before:.2%} before training, {after:.2%} after")

  # ---- The record
  return TrainedNetworks(
    net.name,
    settings.bits,
    settings.activation_bits,
    settings.qat.quantizes,
    {method: t.recipe.scheme.rule.text for method, t in tuners.items()},
    tuple(trained),
    _assumptions(settings, lab),
  )


def _normalized(
  net: Net, variables: Mapping[str, Any], images: jax.Array
) -> dict[str, Any]:
  """`variables` whose batch norms have the statistics of `images`.

  Without them the tensors of an untrained network tell nothing of those that
  training will see.
  """
  _, moved = jax.jit(
    lambda v, x: Model(net).apply(v, x, train=True, mutable="batch_stats")
  )(variables, images)
  settle = lambda old, new: old + (new - old) / (1.0 - norms.MOMENTUM)
  stats = jax.tree.map(
    settle, variables["batch_stats"], moved.get("batch_stats", {})
  )
  return {**variables, "batch_stats": stats}


def _assumptions(settings: UniformTraining, lab: Lab) -> tuple[str, ...]:
  """Sentences about what the numbers rest on."""
  stages = settings.float_training, settings.fine_tuning
  float_steps, qat_steps = map(lab.task.steps, stages)
  start = f"after the {float_steps} of float training, all from scratch"
  if settings.start == "float":
    start = f"from the same float network, trained for {float_steps}"
  return (
    f"Every rule trains for {qat_steps} steps on the same batches {start}.",
    "Image and sums of shortcuts stay at 8 bits where the network says so.",
    lab.about_images,
  )
