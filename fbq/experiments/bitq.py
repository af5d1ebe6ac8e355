"""BitQ (arXiv 2409.17093), from images to a block format for every tensor.

Float training, the data movement of every layer at every format, the accuracy
loss of every format of every tensor, the exact optimum of eq. 1 for several
alphas, training of everything found beside uniform and published formats, the
choice by eq. 1 with measured accuracies, and a report.
"""

from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from fbq import block_formats
from fbq.experiments import bfp_baselines, bitq_choices, settings
from fbq.experiments.bfp_baselines import Candidate, of_formats
from fbq.experiments.bitq_losses import Losses, kind_of, losses_of
from fbq.experiments.bitq_report import Study, write_report
from fbq.experiments.bitq_sentences import Scales
from fbq.experiments.bitq_settings import Word, check
from fbq.experiments.bitq_training import Workbench
from fbq.experiments.stages import Lab, activations
from fbq.experiments.workdir import finish, opened
from fbq.nets.graph import INPUT_SITE
from fbq.report.bitq import Outcome
from fbq.report.tables import write_atomically
from fbq.search import (
  bitq,
  block_noise,
  format_losses,
)
from hwsim.bfp.energy import network_traffic


def run(config: ConfigDict, workdir: Path) -> None:
  """Carries out the experiment in `workdir`, or what of it is left to do."""
  # ---- Checks, the data movement of every layer at every format
  net, task, words, memories = check(config)
  work = opened(workdir, settings.claim_of(config))
  if work is None:
    return
  fingerprint, log, clock = work
  lab = Lab(config, net, task, workdir, fingerprint, log, clock)
  keys = jax.random.split(jax.random.key(config.seed), 5)

  # ---- Float training
  variables, float_accuracy = lab.float_network("float", keys[:2])

  # ---- Calibration: exponents, noise, divergence of every format
  with clock.measure("calibration"):
    images = lab.calibration_set(keys[2])
    tensors = activations(net, variables, images[0])
    tensors[INPUT_SITE] = np.asarray(images[0])
    validation = lab.calibration_set(keys[3], config.validation_images)
  few = {s: x[: config.losses.noise_images] for s, x in tensors.items()}
  sizes = {s for word in config.words.values() for s in word.block_sizes}
  schemes = bfp_baselines.schemes(tuple(sizes))
  bench = Workbench(
    lab,
    schemes,
    variables,
    block_noise.tops(net, tensors),
    keys[4],
    validation,
  )
  with clock.measure("losses of formats"):
    losses = losses_of(
      workdir / "losses.json",
      bench.judge(bfp_baselines.GRID, images),
      words,
      lambda rows: block_noise.noises(
        net, variables["params"], few, rows, schemes[bfp_baselines.GRID]
      ),
      config.losses,
      config.seed,
    )
  log.say(losses.text)

  outcomes: dict[str, Outcome] = {}

  def confirm(candidate: Candidate) -> Outcome:
    """Costs and trains a candidate; once for equal formats."""
    if candidate.name not in outcomes:
      with clock.measure("data movement of networks"):
        traffic = network_traffic(net.workload, candidate.formats, memories)
      with clock.measure("evaluation without training"):
        untrained = bench.untrained(candidate)
      trained = bench.trained(candidate)
      outcome = _outcome(
        candidate, traffic, memories, untrained, trained, losses
      )
      outcomes[candidate.name] = outcome
      _keep(workdir, net, candidate)
      log.say(_line(outcome))
    return outcomes[candidate.name]

  # ---- Published and uniform formats; the scale from nats to accuracy
  with clock.measure("calibration"):
    published = bfp_baselines.published(
      net,
      config.published,
      lambda rows: block_noise.noises(
        net, variables["params"], few, rows, schemes[bfp_baselines.WINDOWS]
      ),
    )
  for candidate in published:
    confirm(candidate)
  fp32 = outcomes["FP32"]
  uniform = {word.name: bitq_choices.uniform(net, word) for word in words}
  for candidates in uniform.values():
    for candidate in candidates:
      confirm(candidate)
  scales = _scales(
    net,
    min(words, key=lambda word: word.bits),
    losses,
    fp32,
    confirm,
  )
  every = [c for group in uniform.values() for c in group]
  judge = bench.judge(bfp_baselines.GRID, validation)
  before = judge.accuracy(published[0].rows)
  untrained = format_losses.scale(
    [losses.of(c.formats) for c in every],
    [before - judge.accuracy(c.rows) for c in every],
  )
  log.say(
    "accuracy for one nat after training: "
    + ", ".join(f"{scale:.2%} of {kind}" for kind, scale in scales.items())
    + f"; {untrained:.2%} before"
  )
  lost = losses.trained(scales)
  lost_untrained = {
    site: {f: untrained * nats for f, nats in by_format.items()}
    for site, by_format in losses.divergence.items()
  }

  # ---- The exact optimum of eq. 1, its ablations, and training of all
  studies = []
  for word in words:
    with clock.measure("exact search"):
      choice = bitq_choices.choice(net, word, lost)
      found = bitq.optima(choice, config.alphas)
      front = bitq_choices.front(choice, config.front_resolution)
      ablated = bitq_choices.ablations(
        net, word, choice, lost_untrained, config.alpha
      )
    by_alpha, seen = {}, {}
    for alpha, formats in zip(config.alphas, found.formats, strict=True):
      key = tuple(formats[s] for s in net.workload.sites)
      if key not in seen:
        name = f"{word.name} {chr(ord('a') + len(seen))}"
        seen[key] = of_formats(net, name, "BitQ", word.bits, formats)
      by_alpha[alpha] = confirm(seen[key]).name
    for candidate in ablated.values():
      confirm(candidate)
    studies.append(
      Study(
        word,
        choice,
        [outcomes[c.name] for c in (*seen.values(), *uniform[word.name])],
        by_alpha,
        dict(zip(config.alphas, found.objective.tolist(), strict=True)),
        *front,
        {name: outcomes[c.name] for name, c in ablated.items()},
      )
    )

  # ---- Report, and the mark that all is done
  summary = write_report(
    workdir,
    config,
    net,
    memories,
    list(outcomes.values()),
    studies,
    losses,
    Scales(**scales, untrained=untrained),
    lost,
    float_accuracy,
    task,
    clock.seconds,
    log,
  )
  finish(workdir, summary)


def _outcome(candidate, traffic, memories, untrained, trained, losses):
  in_grid = all(f in losses.divergence[s] for s, f in candidate.formats.items())
  return Outcome(
    candidate.name,
    candidate.family,
    candidate.word,
    candidate.formats,
    traffic,
    sum(t.joules(memories) for t in traffic),
    trained.get("test"),
    trained.get("validation"),
    untrained,
    losses.of(candidate.formats) if in_grid else None,
    candidate.source,
    candidate.text,
  )


def _scales(net, word: Word, losses: Losses, fp32, confirm) -> dict[str, float]:
  """Accuracy that a nat costs after training: of weights, of activations.

  From four networks: one kind of tensor at one of the two coarsest of the
  uniform formats, all others at the finest.
  """
  fine, *others = sorted(
    {c.formats[s] for c in bitq_choices.uniform(net, word) for s in c.formats},
    key=lambda f: -f.element_bits,
  )
  found = {}
  for kind in ("weights", "activations"):
    nats, drops = [], []
    for format_ in others[-2:]:
      formats = {
        site: format_ if kind_of(site) == kind else fine
        for site in net.workload.sites
      }
      name = (
        f"{word.name} {kind} <{format_.exponent_bits}, {format_.block_size}>"
      )
      outcome = confirm(of_formats(net, name, "uniform", word.bits, formats))
      nats.append(losses.of_kind(formats, kind))
      drops.append(fp32.validation - outcome.validation)
    found[kind] = format_losses.scale(nats, drops)
  return found


def _keep(workdir, net, candidate: Candidate) -> None:
  (workdir / "precision").mkdir(exist_ok=True)
  name = "".join(c if c.isalnum() else "-" for c in candidate.name)
  text = block_formats.to_json(net, candidate.formats)
  write_atomically(workdir / "precision" / f"{name}.json", text.encode())


def _line(o: Outcome) -> str:
  accuracy = "not trained" if o.test is None else f"{o.test:.2%}"
  return f"{o.name}: {o.dram_bits / 8192:,.1f} kB, test accuracy {accuracy}"
