"""BitQ (arXiv 2409.17093), from images to a block format for every tensor.

Float training, the data movement of every layer at every format, the accuracy
loss of every format of every tensor, the exact optimum of eq. 1 for several
alphas, training of everything found beside uniform and published formats, and
the choice by eq. 1 with measured accuracies.
"""

import jax
import numpy as np

from fbq import block_formats
from fbq.experiments.bitq import (
  choices,
  costs,
  losses,
  published_formats,
  results,
)
from fbq.experiments.bitq.config import BitQ, movement
from fbq.experiments.bitq.losses import KINDS
from fbq.experiments.bitq.published_formats import GRID, WINDOWS, Candidate
from fbq.experiments.bitq.results import BlockNetwork
from fbq.experiments.bitq.workbench import Workbench, training_of
from fbq.files import write_atomically
from fbq.lab.calibration import activations
from fbq.lab.lab import Lab
from fbq.nets.graph import INPUT_SITE
from fbq.search import bitq, block_noise, format_losses
from hwsim.bfp import Memories, network_traffic


def run(settings: BitQ, lab: Lab) -> results.BitQResults:
  """Block formats of a network: chosen, trained, costed, compared."""
  net, measure = lab.net, lab.clock.measure
  memories = Memories(8 * settings.memory_bytes, 8 * settings.register_bytes)
  keys = jax.random.split(jax.random.key(settings.seed), 5)

  # ---- Float network
  variables, float_accuracy = lab.float_network("float", keys[:2])

  # ---- Calibration: largest exponents of activations, images to judge by
  with measure("calibration"):
    images = lab.calibration_set(keys[2])
    tensors = activations(net, variables, images[0])
    tensors[INPUT_SITE] = np.asarray(images[0])
    validation = lab.calibration_set(keys[3], settings.validation_images)
  few = {s: x[: settings.losses.noise_images] for s, x in tensors.items()}
  schemes = published_formats.schemes(
    size for word in settings.words.values() for size in word.block_sizes
  )
  tops = block_noise.tops(net, tensors)
  bench = Workbench(lab, schemes, variables, tops, keys[4], validation)

  def noises(scheme: str):
    return lambda rows: block_noise.noises(
      net, variables["params"], few, rows, schemes[scheme]
    )

  # ---- Losses: what every format of every tensor does without training
  with measure("losses of formats"):
    lost = losses.losses_of(
      lab.workdir / "losses.json",
      bench.judge(GRID, images),
      [word.grid for word in settings.words.values()],
      noises(GRID),
      settings.losses,
      settings.seed,
    )
  lab.log.say(lost.text)

  # From here on whole networks are costed and trained, each once
  found: dict[str, BlockNetwork] = {}

  def confirm(candidate: Candidate) -> BlockNetwork:
    if candidate.name not in found:
      with measure("data movement of networks"):
        traffic = network_traffic(net.workload, candidate.formats, memories)
      with measure("evaluation without training"):
        untrained = bench.untrained(candidate)
      trained = bench.trained(candidate)
      network = _network(candidate, traffic, memories, untrained, trained, lost)
      found[candidate.name] = network
      _keep(lab, candidate)
      accuracy = "not trained" if network.test is None else network.test
      lab.log.say(
        f"{network.name}: {network.kib:,.1f} KiB, test accuracy "
        + (accuracy if isinstance(accuracy, str) else f"{accuracy:.2%}")
      )
    return found[candidate.name]

  # ---- Published and uniform formats
  with measure("calibration"):
    published = published_formats.published(
      net, settings.published, noises(WINDOWS)
    )
  for candidate in published:
    confirm(candidate)
  fp32 = found[results.FP32]
  uniform = {
    name: choices.uniform(net, name, word)
    for name, word in settings.words.items()
  }
  every_uniform = [c for group in uniform.values() for c in group]
  for candidate in every_uniform:
    confirm(candidate)

  # ---- From nats to accuracy: training mends the noise of weights far better
  # than that of activations, so each kind has a scale
  shortest = settings.shortest
  scales = {}
  for kind in KINDS:
    probes = choices.probes(net, shortest, settings.words[shortest], kind)
    scales[kind] = format_losses.scale(
      [lost.of_kind(c.formats, kind) for c in probes],
      [results.drop(confirm(c), fp32) for c in probes],
    )
  judge = bench.judge(GRID, validation)
  before = judge.accuracy(published[0].rows)
  untrained = format_losses.scale(
    [losses.total(lost.divergence, c.formats) for c in every_uniform],
    [before - judge.accuracy(c.rows) for c in every_uniform],
  )
  lab.log.say(
    "accuracy for one nat after training: "
    + ", ".join(f"{scale:.2%} of {kind}" for kind, scale in scales.items())
    + f"; {untrained:.2%} before"
  )
  after_training = losses.priced(lost.noise, scales)
  without_training = losses.priced(
    lost.divergence, dict.fromkeys(KINDS, untrained)
  )

  # ---- For each word the exact optimum of eq. 1 and its ablations, trained;
  # of what was trained, the best by eq. 1 with measured accuracies
  words = []
  for name, word in settings.words.items():
    with measure("exact search"):
      table = movement(word, net.workload, settings.memory_bytes)
      choice = choices.choice(net, word, after_training, table)
      raw = choices.choice(net, word, without_training, table)
      optima = bitq.optima(choice, settings.alphas)
      front, front_error = choices.front(choice, settings.front_resolution)
      ablated = choices.ablations(
        net, name, word, choice, raw, settings.alpha
      )
    searched, predicted = {}, []
    for alpha, formats, objective in zip(
      settings.alphas, optima.formats, optima.objective.tolist(), strict=True
    ):
      key = tuple(formats[site] for site in net.workload.sites)
      if key not in searched:
        letter = chr(ord("a") + len(searched))
        searched[key] = published_formats.of_formats(
          net, f"{name} {letter}", "BitQ", word.bits, formats
        )
      network = confirm(searched[key]).name
      predicted.append(results.PredictedOptimum(alpha, network, objective))
    for candidate in ablated.values():
      confirm(candidate)

    candidates = [*searched.values(), *uniform[name]]
    largest = float(table.bits(choice.largest))
    best = results.best_of(
      map(confirm, candidates), fp32, largest, settings.alpha
    )
    words.append(
      results.WordResults(
        name,
        word.bits,
        largest,
        tuple(c.name for c in candidates),
        tuple(predicted),
        front,
        front_error,
        {lacking: c.name for lacking, c in ablated.items()},
        best.name,
        costs.layers(net, best.formats, memories),
      )
    )

  # ---- Where tiling matters: a network of full size over sizes of memory
  with measure("memory sweep"):
    recommended = [found[word.recommended] for word in words]
    sweep = costs.sweep(settings, recommended)

  return results.BitQResults(
    net.name,
    lab.task.test_count,
    lab.task.about_test,
    lab.task.steps(settings.qat),
    float_accuracy,
    tuple(found.values()),
    tuple(words),
    settings.alpha,
    results.Scales(**scales, untrained=untrained),
    lost.text,
    lost.passes,
    _mixed(found.values(), fp32, after_training),
    sweep,
    schemes[GRID],
    tuple(tops.tolist()),
  )


def _network(candidate, traffic, memories, untrained, trained, lost):
  """The record of a candidate."""
  in_grid = all(f in lost.divergence[s] for s, f in candidate.formats.items())
  return BlockNetwork(
    candidate.name,
    candidate.family,
    candidate.word,
    dict(candidate.formats),
    candidate.scheme,
    training_of(candidate) if trained else "",
    *costs.totals(traffic, memories),
    trained.get("test"),
    trained.get("validation"),
    untrained,
    losses.total(lost.divergence, candidate.formats) if in_grid else None,
    costs.tensor_bits(traffic),
    candidate.source,
    candidate.text,
  )


def _keep(lab: Lab, candidate: Candidate) -> None:
  """Writes precision/<name>.json."""
  folder = lab.workdir / "precision"
  folder.mkdir(exist_ok=True)
  name = "".join(c if c.isalnum() else "-" for c in candidate.name)
  text = block_formats.to_json(lab.net, candidate.formats)
  write_atomically(folder / f"{name}.json", text)


def _mixed(found, fp32, lost) -> results.MixedPredictions | None:
  """Predicted and measured losses of the mixed networks that were trained."""
  known = [n for n in found if n.family in ("BitQ", "ablation")]
  if len(known) < 3:
    return None
  predicted = [losses.total(lost, n.formats) for n in known]
  measured = [results.drop(n, fp32) for n in known]
  agreement = format_losses.agreement(predicted, measured)
  error = np.median(np.abs(np.subtract(predicted, measured)))
  return results.MixedPredictions(len(known), agreement.spearman, float(error))
