"""Post-training quantization of a float network, and which recipe to use.

For each seed a float network, calibrated in one pass; then every recipe of
`tables`, none of which trains the network. Recipes are chosen by images of the
training split, without labels; accuracies are those of test images.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import pydantic

from fbq.experiments.ptq.config import PostTraining
from fbq.experiments.ptq.results import (
  LayerNumbers,
  QuantizedNetwork,
  RecipeNumbers,
  TriedRecipes,
)
from fbq.experiments.ptq.tables import BASE, recipes, tables
from fbq.lab.kept import kept
from fbq.lab.lab import Lab
from fbq.ptq import adaround, folding, sqnr
from fbq.ptq.bench import Bench, Quantized
from fbq.ptq.recipes import RangeOptions, Recipe
from fbq.schemes import gridded
from fbq.search.sensitivity import compare

_SENSITIVE_BITS = 4
_KEPT = pydantic.TypeAdapter(QuantizedNetwork)


def run(settings: PostTraining, lab: Lab) -> TriedRecipes:
  """Every recipe on the float networks of all seeds."""
  tried = tables(settings.studies, settings.rounding.steps > 0)
  networks = {}
  for seed in settings.seeds:
    # ---- A float network
    keys = jax.random.split(jax.random.key(seed), 5)
    variables, judged = lab.float_network(f"seed{seed}-float", keys[:2])

    # ---- All recipes; kept, as they are not resumed in the middle
    stored = kept(
      lab.workdir / "seeds" / f"{seed}.json",
      functools.partial(
        _of_seed, settings, lab, seed, variables, judged, keys, tried
      ),
    )
    networks[seed] = _KEPT.validate_python(stored)

  # ---- The record
  name, said = lab.net.name, _assumptions(settings, lab)
  return TriedRecipes(name, tried, networks, settings.tolerance, said)


def _of_seed(
  settings: PostTraining, lab: Lab, seed, variables, judged, keys, tried
) -> Any:
  """A `QuantizedNetwork` as JSON; its layers are those of the first seed."""
  bench, batch = _bench(settings, lab, variables, keys), lab.task.batch
  count = -(-settings.validation_images // batch) * batch
  chosen_by, layers = (lab.calibration_set(keys[3], count)[0], batch), None
  if seed == settings.seeds[0]:
    # From float to grids, folding and calibration included, timed alone
    for name in ("one recipe and its compilation", "one recipe again"):
      alone = _bench(settings, lab, variables, keys)
      with lab.clock.measure(name):
        jax.block_until_ready(alone.apply(BASE).data)
    with lab.clock.measure("layers"):
      layers = _look_at_layers(bench, *chosen_by)
  with lab.clock.measure("recipes"):
    numbers = _numbers(lab, bench, recipes(tried), *chosen_by)
  network = QuantizedNetwork(judged.test.accuracy, numbers, layers)
  return _KEPT.dump_python(network, mode="json")


def _bench(
  settings: PostTraining, lab: Lab, variables: Mapping[str, Any], keys
) -> Bench:
  """The bench of a float network; `keys` are the five of its seed."""
  images, _ = lab.calibration_set(keys[2])
  size, r = settings.calibration_batch, settings.rounding
  return Bench(
    lab.net,
    {kind: variables[kind] for kind in ("params", "batch_stats")},
    [images[i : i + size] for i in range(0, len(images), size)],
    RangeOptions(settings.percent, settings.decay),
    adaround.Settings(r.steps, r.batch_size, r.learning_rate, r.strength),
    keys[4],
    settings.correction_batches,
  )


def _numbers(
  lab: Lab, bench: Bench, tried: Sequence[Recipe], images: jax.Array, batch: int
) -> tuple[RecipeNumbers, ...]:
  """What each recipe came to; chosen by `images`, `batch` of them at once."""
  reference = bench.logits(bench.in_float(), images, batch)
  labels, rows = np.argmax(reference, axis=-1), []

  with lab.log.bar(f"recipes of {lab.net.name}", len(tried), 0) as move:
    for recipe in tried:
      quantized = bench.apply(recipe)
      logits = bench.logits(quantized, images, batch)
      right, count = 0, 0.0
      for x, y, weights in lab.task.test.batches():
        hits = bench.logits(quantized, x, batch).argmax(-1) == np.asarray(y)
        right += float(hits @ np.asarray(weights))
        count += float(np.sum(weights))
      agreement = float(np.mean(np.argmax(logits, axis=-1) == labels))
      kl = compare(reference, logits, labels).kl
      rows.append(RecipeNumbers(right / count, kl, agreement))
      move(len(rows), {"accuracy": right / count})
  return tuple(rows)


def _look_at_layers(
  bench: Bench, images: jax.Array, batch: int
) -> LayerNumbers:
  """What quantization does to each layer; arguments of `_numbers`."""
  # What 8-bit weights keep
  net, variables = bench.folded
  noise = {}
  for case, params, per_channel in (
    ("not folded", bench.variables["params"], False),
    ("folded", variables["params"], False),
    ("equalized", bench.equalized["params"], False),
    ("per channel", variables["params"], True),
  ):
    rows = sqnr.report(net, params, (8,), ("affine",))
    noise[case] = {
      row.layer: row.decibels for row in rows if row.per_channel == per_channel
    }

  # How far one tensor alone at few bits moves the outputs
  reference = bench.logits(bench.in_float(), images, batch)
  labels = np.argmax(reference, axis=-1)
  bits = dict(weight_bits=_SENSITIVE_BITS, activation_bits=_SENSITIVE_BITS)
  grids = bench.apply(Recipe(**bits, weight_rule=BASE.weight_rule)).data
  in_float = gridded.data(net, {})
  weights, activations = {}, {}
  for site in net.workload.sites:
    is_weight = site.endswith(".weight")
    if is_weight or site not in net.fixed_bits:
      one = Quantized(net, variables, {**in_float, site: grids[site]})
      logits = bench.logits(one, images, batch)
      found = weights if is_weight else activations
      found[site] = compare(reference, logits, labels).kl
  spreads = folding.spreads(bench.net, bench.variables)
  return LayerNumbers(noise, tuple(spreads), weights, activations)


def _assumptions(settings: PostTraining, lab: Lab) -> tuple[str, ...]:
  """Sentences about what the numbers rest on."""
  return (
    f"Ranges from {settings.calibration_images} images of the training split; "
    "bias correction and AdaRound see some of them. No labels are used.",
    f"Recipes are chosen by {settings.validation_images} or a few more images "
    "of the training split, drawn apart from those of calibration, not by test "
    "images; the network was trained on them or their sources, so it is surer "
    "of them than of test images.",
    "The image keeps 8 bits from 0 to 1, adders and signed tensors 8 bits; "
    "biases and logits stay in float, as 32-bit integers hold them.",
    lab.about_images,
  )
