"""BitQ (arXiv 2409.17093), from images to a block format for every tensor.

Float training, the data movement of every layer at every format, the accuracy
loss of every format of every tensor, the exact optimum of eq. 1 for several
alphas, training of everything found beside uniform and published formats, and
the choice by eq. 1 with measured accuracies.
"""

import re
from typing import Any

import jax
import numpy as np

from fbq import block_formats
from fbq.experiments.bitq import choices, results
from fbq.experiments.bitq.block_network import (
  MOVEMENT,
  BlockNetwork,
  best_of,
  cycles_on,
)
from fbq.experiments.bitq.choices import shown
from fbq.experiments.bitq.config import BitQ, cost_table
from fbq.experiments.bitq.examples import Example, examples
from fbq.experiments.bitq.workbench import Programs, Workbench
from fbq.files import write_atomically
from fbq.lab.calibration import activations
from fbq.lab.kept import kept
from fbq.lab.lab import Lab
from fbq.nets.graph import INPUT_SITE
from fbq.schemes import published_formats
from fbq.schemes.microscaling import Microscaling
from fbq.schemes.published_formats import (
  ELEMENTS,
  GRID,
  WINDOWS,
  BlockCandidate,
  of_formats,
  rows_in,
)
from fbq.search import bitq, block_noise, format_losses, predicted_losses
from fbq.search.predicted_losses import KINDS, FormatLosses, kind_of
from fbq.train.evaluation import Judged
from fbq.train.objective import CLASSIFICATION
from hwsim import mx
from hwsim.bfp import Memories, network_traffic


def run(settings: BitQ, lab: Lab) -> results.BitQResults:
  """Block formats of a network: chosen, trained, costed, compared."""
  sizes = [s for word in settings.words.values() for s in word.block_sizes]
  schemes: dict[str, Any] = {**published_formats.schemes(sizes)}
  if settings.scheme == ELEMENTS:
    schemes[ELEMENTS] = Microscaling((sizes[0],), has_floats=True)
  programs, cluster = Programs(lab, schemes), settings.cluster
  return results.BitQResults(
    lab.net.name,
    lab.about_images,
    lab.task.steps(settings.qat),
    settings.alpha,
    published_formats.schemes(sizes)[GRID],
    tuple(_study(settings, lab, programs, seed) for seed in settings.seeds),
    lab.task.objective.metric_name,
    cluster.name if cluster else "",
  )


def _study(
  settings: BitQ, lab: Lab, programs: Programs, seed: int
) -> results.SeedStudy:
  """All of it from the float network of one seed."""
  net, words, measure = lab.net, settings.words, lab.clock.measure
  sites, schemes = net.workload.sites, programs.schemes
  metric, searched_in = lab.task.objective.metric_name, settings.scheme
  cluster = settings.cluster
  cost = MOVEMENT if cluster is None else cycles_on(cluster.name)
  memories = Memories(8 * settings.memory_bytes, 8 * settings.register_bytes)
  keys = jax.random.split(jax.random.key(seed), 4)

  # ---- Float network
  variables, judged = lab.float_network(f"seed{seed}-float", keys[:2])

  # ---- Calibration: largest exponents of activations, images to judge by
  with measure("calibration"):
    images = lab.calibration_set(keys[2])
    tensors = activations(net, variables, images[0])
    tensors[INPUT_SITE] = np.asarray(images[0])
  tops = block_noise.tops(net, tensors)
  bench = Workbench(programs, seed, variables, tops, keys[3])

  few = {s: x[: settings.losses.noise_images] for s, x in tensors.items()}

  def noises(rows, scheme=searched_in):
    params = variables["params"]
    return block_noise.noises(net, params, few, rows, schemes[scheme])

  # ---- Losses: what every format of every tensor does without training; kept,
  # as it takes long
  grids = [w.grid for w in words.values()]
  plan = settings.losses.model_dump(exclude={"noise_images"})
  with measure("losses of formats"):
    stored = kept(
      lab.workdir / f"losses-seed{seed}.json",
      lambda: predicted_losses.measure(
        bench.judge(searched_in, images), grids, noises, **plan, seed=seed
      ),
    )
    lost = FormatLosses.from_stored(stored, grids)
  lab.log.say(lost.text)

  # From here on whole networks are costed and trained, each once
  found: dict[str, BlockNetwork] = {}
  candidates_of: dict[str, BlockCandidate] = {}
  after_training: dict[str, Judged] = {}  # on test images
  (lab.workdir / "precision").mkdir(exist_ok=True)

  def confirm(c: BlockCandidate) -> BlockNetwork:
    if c.name in found:
      return found[c.name]
    candidates_of[c.name] = c
    with measure("data movement of networks"):
      traffic = network_traffic(net.workload, c.formats, memories)
    is_searched = all(f in lost.divergence[s] for s, f in c.formats.items())
    known: dict[str, Any] = {}
    if (trained := bench.trained(c)) is not None:
      after_training[c.name] = test = trained.judged.test
      behind = test.loss_to(after_training["FP32"])  # which comes first
      known = dict(
        training=trained.training,
        test=test.accuracy,
        test_error=test.error,
        validation=trained.judged.validation.accuracy,
        lost=behind[0],
        lost_error=behind[1],
        untrained_test=trained.untrained_test,
      )
    if cluster is not None:
      with measure("cycles of networks"):
        cycles = mx.network_cycles(net.workload, c.formats, cluster)
      known["cycles"] = cycles
    found[c.name] = network = BlockNetwork(
      **{k: v for k, v in c._asdict().items() if k != "rows"},
      moves=choices.movement(traffic, memories),
      divergence=lost.of(c.formats) if is_searched else None,
      **known,
    )
    file = re.sub(r"[\W_]", "-", f"seed{seed} {c.name}")
    write_atomically(
      lab.workdir / "precision" / f"{file}.json",
      block_formats.to_json(net, c.formats),
    )
    told = "not trained, priced only"
    if trained is not None:
      told = f"test {metric} {network.percent:.2f} %"
    lab.log.say(f"{c.name}: {network.moves.kib:,.1f} KiB, {told}")
    return network

  def tried(name, family, bits, formats) -> BlockNetwork:
    given = name, family, bits, formats
    return confirm(of_formats(net, *given, scheme=searched_in))

  # ---- Published and uniform formats
  with measure("calibration"):
    published = published_formats.published(
      net,
      settings.published,
      lambda rows: {s: n.zeroed for s, n in noises(rows, WINDOWS).items()},
    )
  for c in published:
    confirm(c)
  fp32, uniform = found["FP32"], {}
  for name, word in words.items():
    uniform[name] = [
      tried(
        f"{name} uniform {shown(f)}",
        "uniform",
        word.bits,
        dict.fromkeys(sites, f),
      )
      for f in choices.uniform(word)
    ]

  # ---- From nats to accuracy: training mends the noise of weights far better
  # than that of activations, so each kind has a scale: of networks in which it
  # has one of the two coarsest uniform formats, and all else the finest
  name = settings.shortest
  word, scales = words[name], {}
  fine, *coarser = sorted(choices.uniform(word), key=lambda f: -f.element_bits)
  for kind in KINDS:
    probes = []
    for f in coarser[-2:]:
      formats = {s: f if kind_of(s) == kind else fine for s in sites}
      probe = f"{name} {kind} {shown(f)}"
      probes.append(tried(probe, "uniform", word.bits, formats))
    scales[kind] = format_losses.scale(
      [lost.of_kind(n.formats, kind) for n in probes],
      [n.drop(fp32) for n in probes],
    )
  every = sum(uniform.values(), [])
  accuracy, *accuracies = (
    bench.judged(
      searched_in, rows_in(searched_in)(net, n.formats), lab.task.validation
    ).accuracy
    for n in (fp32, *every)
  )
  untrained = format_losses.scale(
    [lost.of(n.formats) for n in every], [accuracy - a for a in accuracies]
  )
  lab.log.say(
    f"points of {metric} that a hundredth of a nat costs after training: "
    + ", ".join(f"{scale:.2f} of {kind}" for kind, scale in scales.items())
    + f"; {untrained:.2f} before"
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
      table = cost_table(word, net.workload, settings.memory_bytes, cluster)
      choice, raw = (
        bitq.make(
          net.workload,
          {s: {f: of[f] for f in word.grid} for s, of in losses.items()},
          table,
        )
        for losses in (after, without)
      )
      optima = bitq.optima(choice, settings.alphas)
      front, front_error = choices.front(choice, settings.front_resolution)
      ablated = choices.ablations(choice, raw, settings.alpha, cost.name)

    # Several alphas may have the same optimum, which is trained once
    letters, searched, predicted = {}, {}, []
    for alpha, formats, objective in zip(
      settings.alphas, optima.formats, optima.objective.tolist(), strict=True
    ):
      new = chr(ord("a") + len(letters))
      letter = letters.setdefault(tuple(formats.values()), new)
      network = tried(f"{name} {letter}", "BitQ", word.bits, formats)
      searched[network.name] = network
      predicted.append(results.PredictedOptimum(alpha, network.name, objective))
    ablations = {
      lacking: tried(f"{name} {lacking}", "ablation", word.bits, formats).name
      for lacking, formats in ablated.items()
    }

    # Predictions have done their part: what was measured decides
    candidates = [*searched.values(), *uniform[name]]
    largest = float(table.bits(choice.largest))
    best = best_of(candidates, fp32, largest, settings.alpha)
    chosen.append(
      results.WordResults(
        name,
        word.bits,
        largest,
        tuple(n.name for n in candidates),
        tuple(predicted),
        front,
        front_error,
        ablations,
        best.name,
        choices.layers(net, best.formats, memories),
      )
    )

  # ---- How well losses of mixed networks were predicted
  mixed = [n for n in found.values() if n.family in ("BitQ", "ablation")]
  agreement = format_losses.agreement(
    [predicted_losses.total(after, n.formats) for n in mixed],
    [n.drop(fp32) for n in mixed],
  )
  error = np.median(np.abs(agreement.predicted - agreement.measured))

  # ---- What the networks tell of a few test images, beside FP32
  looked_at: tuple[Example, ...] = ()
  if lab.task.objective is not CLASSIFICATION:
    images, truth, _ = next(lab.task.test.batches())
    named = dict.fromkeys(("FP32", *(word.recommended for word in chosen)))
    outputs = {name: bench.told(candidates_of[name], images) for name in named}
    looked_at = examples(lab.task, images, truth, outputs)

  return results.SeedStudy(
    seed,
    judged.test.accuracy,
    tuple(found.values()),
    tuple(chosen),
    {**scales, "untrained": untrained},
    lost.text,
    lost.passes,
    (len(mixed), agreement.spearman, float(error)),
    tuple(tops.tolist()),
    looked_at,
    judged.test.details,
  )
