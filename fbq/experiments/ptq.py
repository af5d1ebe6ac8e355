"""Post-training quantization of a float network, and which recipe to use.

For each seed a float network, calibrated in one pass; then every recipe of
`ptq_studies`, none of which trains the network. Recipes are chosen by images of
the training split, without labels; accuracies are those of test images.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from fbq.experiments.ptq_report import write_report
from fbq.experiments.ptq_settings import check
from fbq.experiments.ptq_studies import BASE, recipes, studies
from fbq.experiments.stages import Lab
from fbq.experiments.workdir import finish, opened
from fbq.ptq import folding, sqnr
from fbq.ptq.adaround import Settings
from fbq.ptq.bench import Bench, Quantized
from fbq.ptq.recipes import RangeOptions, Recipe
from fbq.report.tables import write_atomically
from fbq.schemes import gridded
from fbq.search.sensitivity import compare

_SENSITIVE_BITS = 4


def run(config: ConfigDict, workdir: Path) -> None:
  """Carries out the experiment in `workdir`, or what of it is left to do."""
  # ---- Checks: all that can be wrong is found before anything is trained
  net, task = check(config)
  work = opened(workdir, config.to_dict())
  if work is None:
    return
  fingerprint, log, clock = work
  lab = Lab(config, net, task, workdir, fingerprint, log, clock)
  tables = studies(config.studies, config.rounding.steps > 0)

  # ---- Each seed: a float network, all recipes
  found = {}
  for seed in config.seeds:
    keys = jax.random.split(jax.random.key(seed), 5)
    variables, accuracy = lab.float_network(f"seed{seed}-float", keys[:2])
    path = workdir / "seeds" / f"{seed}.json"
    if not path.exists():
      content: dict[str, Any] = {"float": accuracy}
      if seed == config.seeds[0]:  # before anything is compiled
        content["seconds"] = _seconds(config, lab, variables, keys)
      bench = new_bench(config, lab, variables, keys)
      with clock.measure("recipes"):
        content |= measure(lab, bench, recipes(tables), keys[3])
      if seed == config.seeds[0]:
        with clock.measure("layers"):
          content["layers"] = look_at_layers(lab, bench, keys[3])
      path.parent.mkdir(exist_ok=True)
      write_atomically(path, (json.dumps(content) + "\n").encode())
    found[seed] = json.loads(path.read_text())

  # ---- Report, and the mark that all is done
  summary = write_report(
    workdir, config, net, tables, found, task, clock.seconds, log
  )
  finish(workdir, summary)


def new_bench(
  config: ConfigDict, lab: Lab, variables: Mapping[str, Any], keys
) -> Bench:
  """The bench of a float network.

  Args:
    config: of the experiment.
    lab: for calibration images.
    variables: of the float network.
    keys: five of the seed; the third chooses calibration images, the fifth is
      AdaRound's.
  """
  images, _ = lab.calibration_set(keys[2])
  size, rounding = config.calibration_batch, config.rounding
  return Bench(
    lab.net,
    {kind: variables[kind] for kind in ("params", "batch_stats")},
    [images[i : i + size] for i in range(0, len(images), size)],
    RangeOptions(config.percent, config.decay),
    Settings(
      rounding.steps,
      rounding.batch_size,
      rounding.learning_rate,
      rounding.strength,
    ),
    keys[4],
    config.correction_batches,
  )


def measure(
  lab: Lab, bench: Bench, tried: Sequence[Recipe], key: jax.Array
) -> dict[str, Any]:
  """{"recipes": [numbers of each]}: see `_numbers`.

  Args:
    lab: for test and validation images.
    bench: of the network.
    tried: recipes.
    key: of the validation images.
  """
  images, batch = _validation(lab, key)
  reference = bench.logits(bench.in_float(), images, batch)
  rows = []
  title = f"recipes of {lab.net.name}"
  with lab.log.bar(title, len(tried), 0) as move:
    for count, recipe in enumerate(tried, start=1):
      quantized = bench.apply(recipe)
      rows.append(_numbers(lab, bench, quantized, images, batch, reference))
      move(count, {"accuracy": rows[-1]["accuracy"]})
  return {"recipes": rows}


def _validation(lab: Lab, key) -> tuple[jax.Array, int]:
  """Images of the training split, a multiple of the batch of the test set."""
  batch = lab.task.batch
  count = -(-lab.config.validation_images // batch) * batch
  return lab.calibration_set(key, count)[0], batch


def _numbers(lab, bench, quantized, images, batch, reference):
  """Of one recipe, compared with the float network's logits.

  accuracy is of test images; kl (nats) and agreement, the share of images of
  the same class, are of validation images.
  """
  logits = bench.logits(quantized, images, batch)
  labels = np.argmax(reference, axis=-1)
  right, count = 0, 0.0
  for x, y, weights in lab.task.test_batches():
    hits = bench.logits(quantized, x, batch).argmax(-1) == np.asarray(y)
    right += float(hits @ np.asarray(weights))
    count += float(np.sum(weights))
  return {
    "accuracy": right / count,
    "kl": compare(reference, logits, labels).kl,
    "agreement": float(np.mean(np.argmax(logits, axis=-1) == labels)),
  }


def look_at_layers(lab: Lab, bench: Bench, key) -> dict[str, Any]:
  """What quantization does to each layer of one network.

  Returns:
    "sqnr": rows of `sqnr.report` by "unfolded", "folded", "equalized";
    "spreads": those of `folding.spreads`;
    "weights" and "activations": {site: KL divergence in nats on validation
    images with this tensor alone at 4 bits, the others in float}.
  """
  net, variables = bench.folded
  params = {
    "unfolded": (bench.net, bench.variables["params"]),
    "folded": (net, variables["params"]),
    "equalized": (net, bench.equalized["params"]),
  }
  ratios = {
    name: [row._asdict() for row in sqnr.report(*pair, forms=("affine",))]
    for name, pair in params.items()
  }
  images, batch = _validation(lab, key)
  reference = bench.logits(bench.in_float(), images, batch)
  labels = np.argmax(reference, axis=-1)
  bits = dict(weight_bits=_SENSITIVE_BITS, activation_bits=_SENSITIVE_BITS)
  grids = bench.apply(Recipe(**bits, weight_rule=BASE.weight_rule)).data
  in_float = gridded.data(net, {})
  spreads = folding.spreads(bench.net, bench.variables)
  result: dict[str, Any] = {
    "sqnr": ratios,
    "spreads": [row._asdict() for row in spreads],
    "weights": {},
    "activations": {},
  }
  for site in net.workload.sites:
    kind = "weights" if site.endswith(".weight") else "activations"
    if kind == "activations" and site in net.fixed_bits:
      continue
    one = Quantized(net, variables, {**in_float, site: grids[site]})
    logits = bench.logits(one, images, batch)
    result[kind][site] = compare(reference, logits, labels).kl
  return result


def _seconds(config, lab, variables, keys) -> dict[str, float]:
  """Wall time from a float network to grids, folding and calibration included.

  Twice: everything is compiled in the first one.
  """
  found = {}
  for name in ("compiled on the way", "compiled before"):
    bench = new_bench(config, lab, variables, keys)
    jax.block_until_ready(bench.batches)
    start = time.perf_counter()
    jax.block_until_ready(bench.apply(BASE).data)
    found[name] = time.perf_counter() - start
  return found
