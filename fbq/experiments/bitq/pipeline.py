"""BitQ (arXiv 2409.17093), from images to a block format for every tensor.

Float training, the data movement of every layer at every format, the accuracy
loss of every format of every tensor, the exact optimum of eq. 1 for several
alphas, training of everything found beside uniform and published formats, and
the choice by eq. 1 with measured accuracies.
"""

import json

import jax
import numpy as np

from fbq.experiments.bitq import choices, costs, results
from fbq.experiments.bitq.block_network import BlockNetwork, best_of, drop
from fbq.experiments.bitq.config import BitQ, movement
from fbq.experiments.bitq.workbench import Workbench, training_of
from fbq.files import write_atomically
from fbq.lab.calibration import activations
from fbq.lab.lab import Lab
from fbq.nets.graph import INPUT_SITE
from fbq.schemes import published_formats
from fbq.schemes.published_formats import GRID, WINDOWS, BlockCandidate
from fbq.search import bitq, block_noise, format_losses, predicted_losses
from fbq.search.predicted_losses import KINDS, FormatLosses
from hwsim.bfp import Memories, network_traffic


def run(settings: BitQ, lab: Lab) -> results.BitQResults:
  """Block formats of a network: chosen, trained, costed, compared."""
  net, words, measure = lab.net, settings.words, lab.clock.measure
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
  tops = block_noise.tops(net, tensors)
  schemes = published_formats.schemes(
    size for word in words.values() for size in word.block_sizes
  )
  bench = Workbench(lab, schemes, variables, tops, keys[4], validation)

  few = {s: x[: settings.losses.noise_images] for s, x in tensors.items()}

  def noises(rows, scheme=GRID):
    params = variables["params"]
    return block_noise.noises(net, params, few, rows, schemes[scheme])

  # ---- Losses: what every format of every tensor does without training; kept,
  # as it takes long
  path, grids = lab.workdir / "losses.json", [w.grid for w in words.values()]
  with measure("losses of formats"):
    if not path.exists():
      plan = settings.losses.model_dump(exclude={"noise_images"})
      judge = bench.judge(GRID, images)
      stored = predicted_losses.measure(
        judge, grids, noises, **plan, seed=settings.seed
      )
      write_atomically(path, json.dumps(stored) + "\n")
    lost = FormatLosses.from_stored(json.loads(path.read_text()), grids)
  lab.log.say(lost.text)

  # From here on whole networks are costed and trained, each once
  found: dict[str, BlockNetwork] = {}

  def confirm(candidate: BlockCandidate) -> BlockNetwork:
    if candidate.name not in found:
      with measure("data movement of networks"):
        traffic = network_traffic(net.workload, candidate.formats, memories)
      with measure("evaluation without training"):
        untrained = bench.untrained(candidate)
      accuracies = bench.trained(candidate)
      is_searched = all(
        f in lost.divergence[s] for s, f in candidate.formats.items()
      )
      found[candidate.name] = network = BlockNetwork(
        candidate.name,
        candidate.family,
        candidate.word,
        dict(candidate.formats),
        candidate.scheme,
        training_of(candidate) if accuracies else "",
        costs.movement(traffic, memories),
        accuracies.get("test"),
        accuracies.get("validation"),
        untrained,
        lost.of(candidate.formats) if is_searched else None,
        candidate.source,
        candidate.text,
      )
      choices.keep(lab, candidate)
      accuracy = f"{network.percent:.2f} %" if accuracies else "not trained"
      lab.log.say(
        f"{network.name}: {network.kib:,.1f} KiB, test accuracy {accuracy}"
      )
    return found[candidate.name]

  # ---- Published and uniform formats
  with measure("calibration"):
    published = published_formats.published(
      net,
      settings.published,
      lambda rows: {s: n.zeroed for s, n in noises(rows, WINDOWS).items()},
    )
  for candidate in published:
    confirm(candidate)
  fp32 = found["FP32"]
  uniform = {n: choices.uniform(net, n, word) for n, word in words.items()}
  every_uniform = [c for group in uniform.values() for c in group]
  for candidate in every_uniform:
    confirm(candidate)

  # ---- From nats to accuracy: training mends the noise of weights far better
  # than that of activations, so each kind has a scale
  shortest, scales = settings.shortest, {}
  for kind in KINDS:
    probes = choices.probes(net, shortest, words[shortest], kind)
    scales[kind] = format_losses.scale(
      [lost.of_kind(c.formats, kind) for c in probes],
      [drop(confirm(c), fp32) for c in probes],
    )
  judge = bench.judge(GRID, validation)
  before = judge.accuracy(published[0].rows)
  untrained = format_losses.scale(
    [lost.of(c.formats) for c in every_uniform],
    [before - judge.accuracy(c.rows) for c in every_uniform],
  )
  lab.log.say(
    "accuracy for one nat after training: "
    + ", ".join(f"{scale:.2%} of {kind}" for kind, scale in scales.items())
    + f"; {untrained:.2%} before"
  )
  after = predicted_losses.priced(lost.noise, scales)
  no_training = dict.fromkeys(KINDS, untrained)
  without = predicted_losses.priced(lost.divergence, no_training)

  # ---- For each word the exact optimum of eq. 1 and its ablations, trained;
  # of what was trained, the best by eq. 1 with measured accuracies
  chosen = []
  for name, word in words.items():
    # Exactly, but for the front, which is too large without a resolution
    with measure("exact search"):
      table = movement(word, net.workload, settings.memory_bytes)
      choice = choices.choice(net, word, after, table)
      raw = choices.choice(net, word, without, table)
      optima = bitq.optima(choice, settings.alphas)
      front, front_error = choices.front(choice, settings.front_resolution)
      ablated = choices.ablations(net, name, word, choice, raw, settings.alpha)

    # Several alphas may have the same optimum, which is trained once
    searched, predicted = {}, []
    for alpha, formats, objective in zip(
      settings.alphas, optima.formats, optima.objective.tolist(), strict=True
    ):
      key = tuple(formats.values())
      if key not in searched:
        letter = chr(ord("a") + len(searched))
        searched[key] = published_formats.of_formats(
          net, f"{name} {letter}", "BitQ", word.bits, formats
        )
      network = confirm(searched[key]).name
      predicted.append(results.PredictedOptimum(alpha, network, objective))
    for candidate in ablated.values():
      confirm(candidate)

    # Predictions have done their part: what was measured decides
    candidates = [*searched.values(), *uniform[name]]
    largest = float(table.bits(choice.largest))
    best = best_of(map(confirm, candidates), fp32, largest, settings.alpha)
    chosen.append(
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

  # ---- How well losses of mixed networks were predicted
  mixed = [n for n in found.values() if n.family in ("BitQ", "ablation")]
  agreement = format_losses.agreement(
    [predicted_losses.total(after, n.formats) for n in mixed],
    [drop(n, fp32) for n in mixed],
  )
  error = np.median(np.abs(agreement.predicted - agreement.measured))

  # ---- Where tiling matters: a network of full size over sizes of memory
  with measure("memory sweep"):
    best = [found[word.recommended] for word in chosen]
    sweep = costs.sweep(settings, best)

  return results.BitQResults(
    net.name,
    lab.task.test_count,
    lab.task.about_test,
    lab.task.steps(settings.qat),
    float_accuracy,
    tuple(found.values()),
    tuple(chosen),
    settings.alpha,
    results.Scales(**scales, untrained=untrained),
    lost.text,
    lost.passes,
    results.MixedPredictions(len(mixed), agreement.spearman, float(error)),
    sweep,
    schemes[GRID],
    tuple(tops.tolist()),
  )
