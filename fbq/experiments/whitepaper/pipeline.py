"""The whitepaper's tables 2 to 6 (arXiv 1806.08342) on one network.

For each seed: float training, calibration, every recipe without training on the
network with folded batch norms, and every recipe with training from the float
network, by the paper's rules: smallest and largest weights of the moment,
moving averages of activations, batch norms corrected and then frozen. Then the
same for networks of other widths at 8 and 4 bits.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fbq import norms, precision
from fbq.experiments.whitepaper import cases, config
from fbq.experiments.whitepaper.cases import FLOAT, PTQ, case_of
from fbq.experiments.whitepaper.config import Whitepaper
from fbq.experiments.whitepaper.results import (
  RecipeAccuracies,
  WhitepaperTables,
)
from fbq.lab.fine_tuning import FineTuner, Recipe
from fbq.lab.kept import kept
from fbq.lab.lab import Lab
from fbq.model import Model
from fbq.nets.graph import INPUT_SITE, Net
from fbq.ptq import folding, recipes
from fbq.ptq.bench import Bench
from fbq.quantizers import qat_rules
from fbq.quantizers.histograms import Histogram
from fbq.quantizers.site_ranges import Ranges
from fbq.schemes.fixed import Fixed, Form
from fbq.schemes.gridded import Gridded
from fbq.train.evaluation import evaluator, right_images
from fbq.train.loop import Diverged
from hwsim import proxies

_FLOAT_BITS = 32


def run(settings: Whitepaper, lab: Lab) -> WhitepaperTables:
  """The tables of the network, and the network at its other widths."""
  # ---- Tables 2 to 6
  lab = lab.with_net(config.free(lab.net))
  network = _network(settings, lab, "", cases.CASES)

  # ---- Width against precision
  widths = {}
  for width, net in config.by_width(settings).items():
    if net == lab.net:
      widths[width] = network
    else:
      own, prefix = lab.with_net(net), f"width{width:g}-"
      widths[width] = _network(settings, own, prefix, cases.WIDTH_CASES)

  # ---- The record
  return WhitepaperTables(
    settings.net.builder,
    settings.seeds,
    network,
    widths,
    _assumptions(settings, lab, [network, *widths.values()]),
  )


def _network(
  settings: Whitepaper, lab: Lab, prefix: str, tried: Sequence[str]
) -> RecipeAccuracies:
  """A network trained by each seed, and every case of it.

  Args:
    settings: seeds and training.
    lab: where the network is.
    prefix: first part of the names of its runs.
    tried: names of cases beside `FLOAT`.
  """
  net = lab.net
  accuracies: dict[str, list[float]] = {name: [] for name in (FLOAT, *tried)}
  spreads, diverged = [], []

  # ---- One evaluator for each network, folded or not, and one compiled step
  # for each form of grids, whatever the seed
  judge = functools.cache(lambda net: evaluator(Model(net, Gridded())))

  @functools.cache
  def tuner(form: Form) -> FineTuner:
    scheme, share = Fixed(qat_rules.MIN_MAX, form), settings.qat.freeze_share
    recipe = Recipe(scheme, norms.CORRECT, share)
    # No range is learned: the rate is of nothing.
    return FineTuner(lab, recipe, settings.qat, range_learning_rate=0.0)

  for seed in settings.seeds:
    # ---- Float training, calibration
    name = f"{prefix}seed{seed}"
    keys = jax.random.split(jax.random.key(seed), 4)
    variables, judged = lab.float_network(f"{name}-float", keys[:2])
    accuracies[FLOAT].append(judged.test.accuracy)
    spreads.append(tuple(folding.spreads(net, variables)))
    with lab.clock.measure("calibration"):
      bench = Bench(net, variables, [lab.calibration_set(keys[2])[0]])
      starts = _starts(net, bench.histograms)

    # ---- Without training, all at once, kept in a file of the seed
    with lab.clock.measure("without training"):
      untrained = kept(
        lab.workdir / PTQ / f"{name}.json",
        functools.partial(_untrained, lab, bench, judge, tried),
      )

    # ---- Trained quantized, on the same batches
    for case_name in tried:
      case, run_name = case_of(case_name), f"{name}-{case_name}"
      if case.method == PTQ:
        accuracy = untrained[case_name]
      else:
        train = tuner(Form(case.form, "affine", case.per_channel))
        bits = _assignment(net, case_name)
        try:
          judged = train(run_name, variables, starts, bits, keys[3])
          accuracy = judged.test.accuracy
        except Diverged as error:  # a result too, and no end of the others
          diverged.append(run_name)
          lab.log.say(f"{error} Counted as chance.")
          accuracy = 1 / lab.task.classes
      accuracies[case_name].append(accuracy)
      lab.log.say(f"{run_name} {accuracy:.2%}")

  size = lambda name: proxies.weight_bytes(net.workload, _assignment(net, name))
  return RecipeAccuracies(
    net.name,
    net.parameter_count,
    {name: tuple(found) for name, found in accuracies.items()},
    {name: size(name) for name in accuracies},
    tuple(spreads),
    tuple(diverged),
  )


def _assignment(net: Net, name: str) -> dict[str, int]:
  """Bits of every site: those of a case, and of the image as ever.

  32 stands for float.
  """
  case = case_of(name)
  weights, activations = (
    bits or _FLOAT_BITS for bits in (case.weight_bits, case.activation_bits)
  )
  return {
    site: weights if site.endswith(".weight") else activations
    for site in net.workload.sites
  } | net.fixed_bits


def _starts(net: Net, found: Mapping[str, Histogram]) -> Ranges:
  """{site: {bits: ends [2]}}: where moving averages of activations start."""
  return {
    site: dict.fromkeys(
      precision.BITS,
      np.array([min(seen.low, 0.0), max(seen.high, 0.0)], np.float32),
    )
    for site, seen in found.items()
    if site in net.is_signed and site != INPUT_SITE
  }


def _untrained(
  lab: Lab, bench: Bench, judge: Callable, tried: Sequence[str]
) -> dict[str, float]:
  """{case: accuracy} of those that are not trained."""
  accuracies = {}
  for name in tried:
    case = case_of(name)
    if case.method == PTQ:
      recipe = recipes.Recipe(
        case.weight_bits,
        case.activation_bits,
        case.form,
        per_channel=case.per_channel,
        steps=("fold",) if case.folded else (),
      )
      net, variables, data = bench.apply(recipe)
      # Through numpy, which knows no weak types: one trace for all cases.
      kinds: Any = jax.tree.map(np.asarray, dict(variables))
      batches = lab.task.test.batches()
      right = right_images(judge(net), kinds, batches, data)
      accuracies[name] = float(right.mean())
  return accuracies


def _assumptions(
  settings: Whitepaper, lab: Lab, networks: Sequence[RecipeAccuracies]
) -> tuple[str, ...]:
  """Sentences about what the numbers rest on."""
  float_steps, qat_steps = (
    lab.task.steps(stage) for stage in (settings.float_training, settings.qat)
  )
  names = dict.fromkeys(name for found in networks for name in found.diverged)
  diverged = f"Training diverged and counts as chance: {', '.join(names)}."
  return (
    f"± is the standard error over {len(settings.seeds)} seeds, of start, "
    "batches and calibration images; test images are the same for all.",
    "A claim is above or not above its bound by a one-sided t-test at 95 % on "
    "differences within seeds; it agrees if the published difference is on the "
    "same side.",
    "W, A: bits of weights and activations, - for float. Batch norms are "
    "folded before weights are quantized, but where a column says otherwise. "
    "Asymmetric grids have a zero-point, symmetric ones are restricted to "
    "-127 .. 127; the classifier has one grid for all channels.",
    f"Training (QAT): {qat_steps} steps after {float_steps} in floating point, "
    "weights by their smallest and largest of the moment, activations by "
    "moving averages of them; batch norms corrected, then frozen.",
    "Images have 8 bits throughout; all other activations those of the column, "
    "sums and signed ones included, which fbq's deployment keeps at 8.",
    "Published numbers are of full size on ImageNet; the same family is not "
    "the same network.",
    lab.about_images,
    *([diverged] if names else []),
  )
