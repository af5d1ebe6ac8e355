"""Free Bits (arXiv 2307.02894), from images to a front of accuracy over cycles.

Float training, calibration, Bayesian Bits searches at several strengths with
locked and free gates, the hardware pass on a latency table, fine-tuning of
everything found beside the uniform baselines, and a report.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fbq import precision
from fbq.experiments import settings
from fbq.experiments.free_bits_report import write_report
from fbq.experiments.free_bits_settings import check
from fbq.experiments.stages import (
  Lab,
  calibrate,
  digest,
  initial_variables,
  ranges_at,
)
from fbq.model import Model
from fbq.report.tables import write_atomically
from fbq.schemes.fixed import Fixed
from fbq.schemes.free_bits import FreeBits
from fbq.schemes.groups import gate_groups
from fbq.search.free_bits import free_bits
from fbq.train import steps
from fbq.train.log import Log, Stopwatch
from hwsim import latency_io
from hwsim.pulp import get_target, latency_table


def run(config: ConfigDict, workdir: Path) -> None:
  """Carries out the experiment in `workdir`, or what of it is left to do."""
  # ---- Checks: all that can be wrong is found before anything is trained
  net, difficulty = check(config)
  claim = config.to_dict()
  if config.measured_latency:  # its content counts, not its name alone
    measured = Path(config.measured_latency).read_bytes()
    claim["measured_sha256"] = hashlib.sha256(measured).hexdigest()
  fingerprint = settings.claim_workdir(workdir, claim)
  rules = precision.ruled(net, config.rules)
  log = Log(workdir / "metrics.jsonl")
  if (workdir / "result.json").exists():
    log.say(f"{workdir} is finished: see {workdir / 'report.html'}")
    return
  clock = Stopwatch()

  # ---- Cost of every layer at every precision
  with clock.measure("latency table"):
    target = get_target(config.target)
    table = latency_table(net.workload, target)
    if config.measured_latency:
      table = latency_io.merge(table, config.measured_latency, 8)
    latency_io.save(table, workdir / "latency_table.csv")
    cycles = table.for_output_bits(8)

  # ---- Data and keys
  lab = Lab(config, net, difficulty, workdir, fingerprint, log, clock)
  key = jax.random.key(config.seed)
  keys = dict(
    zip(
      ("start", "float", "calibration", "search", "fine-tuning"),
      jax.random.split(key, 5),
      strict=True,
    )
  )

  # ---- Float training
  model = Model(net)
  correct = steps.evaluator(model)
  variables, result = lab.run(
    "float",
    "float training",
    lab.trainer("float_training", model, ("params",)),
    initial_variables(model, keys["start"]),
    {"key": keys["float"]},
    finish=lambda v: {"test_accuracy": lab.accuracy(correct, v)},
  )
  float_variables, float_accuracy = variables, result["test_accuracy"]
  log.say(f"float: test accuracy {float_accuracy:.2%}")

  # ---- Ranges of activations on training data
  with clock.measure("calibration"):
    images, _ = lab.calibration_set(keys["calibration"])
    ranges, _ = calibrate(model, float_variables, images)

  # ---- Precision search, from activations' ranges at `range_bits`
  grown_from = {
    site: net.fixed_bits.get(site, config.search.range_bits)
    for site in net.is_signed
  }
  found: dict[str, dict[str, int]] = {}  # by the name of its point
  details: dict[str, dict[str, Any]] = {}
  for locked in config.search.locked:
    scheme = FreeBits(gate_groups(net, locked), config.search.faithful)
    searcher = None
    for strength in config.search.strengths:
      gating = "locked" if locked else "free"
      name = f"{gating}-{strength:g}"
      searcher = searcher or lab.trainer(
        "search",
        Model(net, scheme),
        ("params", "gates"),
        steps.bops_regularizer(net.workload, scheme.groups),
        gate_learning_rate=config.search.gate_learning_rate,
      )
      start = {
        **float_variables,
        "ranges": ranges_at(ranges, grown_from),
        "gates": scheme.start(),
      }
      variables, _ = lab.run(
        f"search-{name}",
        "precision search",
        searcher,
        start,
        {"key": keys["search"], "strength": jnp.float32(strength)},
      )
      found[name] = {**scheme.assignment(net, variables), **rules}
      details[name] = {"gates": gating, "strength": f"{strength:g}"}
  for bits in config.uniform_baselines:
    found[f"{bits}/{bits}"] = precision.uniform(net, bits)

  # ---- Hardware pass; what rules say is not raised either
  pinned = dataclasses.replace(
    net.workload, fixed_bits=(*net.workload.fixed_bits, *rules.items())
  )
  raises, parents = {}, {}
  for name, assignment in list(found.items()):
    workload = pinned if name in details else net.workload
    raised, changes = free_bits(workload, cycles, assignment)
    if changes:
      found[f"{name}+FB"] = raised
      raises[f"{name}+FB"], parents[f"{name}+FB"] = changes, name
  (workdir / "precision").mkdir(exist_ok=True)
  for name, assignment in found.items():
    path = workdir / "precision" / f"{name.replace('/', '-')}.json"
    write_atomically(path, precision.to_json(net, assignment).encode())

  # ---- Fine-tuning, once for each different assignment, by one compiled step
  model = Model(net, Fixed())
  correct_fixed = steps.evaluator(model)
  tuner = lab.trainer(
    "fine_tuning",
    model,
    ("params", "ranges"),
    range_learning_rate=config.fine_tuning.range_learning_rate,
  )
  accuracies: dict[str, float] = {}  # by digest of the assignment
  count = len({digest(net, assignment) for assignment in found.values()})
  for name, assignment in found.items():
    if digest(net, assignment) in accuracies:
      continue
    start = {
      **float_variables,
      "ranges": ranges_at(ranges, assignment),
    }
    _, result = lab.run(
      f"fine-tune-{digest(net, assignment)}",
      "fine-tuning",
      tuner,
      start,
      {"key": keys["fine-tuning"], "bits": lab.bits(assignment)},
      finish=lambda v, a=assignment: {
        "test_accuracy": lab.accuracy(correct_fixed, v, a)
      },
    )
    accuracies[digest(net, assignment)] = result["test_accuracy"]
    log.say(
      f"[{len(accuracies)}/{count}] {name}: test accuracy "
      f"{result['test_accuracy']:.2%}"
    )

  # ---- Report, and the mark that all is done
  summary = write_report(
    workdir,
    config,
    net,
    target,
    table,
    found,
    {name: accuracies[digest(net, found[name])] for name in found},
    float_accuracy,
    details,
    parents,
    raises,
    len(lab.test[0]),
    clock.seconds,
    log,
  )
  text = json.dumps(summary, indent=1) + "\n"
  write_atomically(workdir / "result.json", text.encode())
