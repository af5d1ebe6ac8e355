"""Free Bits (arXiv 2307.02894), from images to a front of accuracy over cycles.

Float training, calibration, Bayesian Bits searches at several strengths with
locked and free gates, the hardware pass on a latency table, fine-tuning of
everything found beside the uniform baselines, and a report.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fbq import precision
from fbq.data import digits
from fbq.experiments import settings
from fbq.experiments.free_bits_report import write_report
from fbq.experiments.free_bits_settings import check
from fbq.model import Model
from fbq.quantizers import calibration
from fbq.report.tables import write_atomically
from fbq.schemes.fixed import Fixed
from fbq.schemes.free_bits import FreeBits
from fbq.schemes.groups import gate_groups
from fbq.search.free_bits import free_bits
from fbq.train import optimizer, steps
from fbq.train.log import Log, Stopwatch
from fbq.train.loop import Trainer, train
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

  # ---- Data
  with clock.measure("data"):
    source = digits.load(config.data.split_seed)
    resolution = net.input_shape[0]
    test = digits.test_set(
      source,
      resolution,
      difficulty,
      config.data.renders_per_test_image,
      config.data.test_seed,
    )
  key = jax.random.key(config.seed)
  keys = dict(
    zip(
      ("start", "float", "calibration", "search", "fine-tuning"),
      jax.random.split(key, 5),
      strict=True,
    )
  )

  def bits_of(assignment):
    return jnp.asarray(precision.to_array(net, assignment))

  def trainer(stage, model, trained, regularizer=None, **rates):
    """One compiled step for all runs of a stage."""
    plan = config[stage]
    sample = functools.partial(
      digits.train_batch,
      digits=source,
      batch_size=plan.batch_size,
      resolution=resolution,
      difficulty=difficulty,
    )
    updates = optimizer.make(
      plan.steps, plan.learning_rate, plan.weight_decay, **rates
    )
    return Trainer(
      model,
      steps.train_step(model, updates, trained, sample, regularizer),
      sample,
      plan.steps,
      lambda variables: steps.initial_state(variables, trained, updates),
      config.checkpoint_every,
      config.log_every,
    )

  def run_stage(name, stage, trainer, variables, run, finish):
    with clock.measure(stage):
      return train(
        name,
        trainer,
        variables,
        run,
        log,
        workdir / "checkpoints" / name,
        f"{fingerprint}:{name}",
        finish,
      )

  def test_accuracy(correct, variables, assignment=None):
    bits = None if assignment is None else bits_of(assignment)
    return steps.accuracy(correct, variables, *test, bits)

  # ---- Float training
  model = Model(net)
  correct = steps.evaluator(model)
  variables, result = run_stage(
    "float",
    "float training",
    trainer("float_training", model, ("params",)),
    initial_variables(model, keys["start"]),
    {"key": keys["float"]},
    finish=lambda v: {"test_accuracy": test_accuracy(correct, v)},
  )
  float_variables, float_accuracy = variables, result["test_accuracy"]
  log.say(f"float: test accuracy {float_accuracy:.2%}")

  # ---- Ranges of activations on training data
  with clock.measure("calibration"):
    images, _ = digits.calibration_set(
      keys["calibration"],
      source,
      config.calibration_images,
      resolution,
      difficulty,
    )
    ranges = calibrate(model, float_variables, images)

  # ---- Precision search
  found: dict[str, dict[str, int]] = {}  # by the name of its point
  details: dict[str, dict[str, Any]] = {}
  for locked in config.search.locked:
    scheme = FreeBits(gate_groups(net, locked), config.search.faithful)
    searcher = None
    for strength in config.search.strengths:
      gating = "locked" if locked else "free"
      name = f"{gating}-{strength:g}"
      searcher = searcher or trainer(
        "search",
        Model(net, scheme),
        ("params", "gates"),
        steps.bops_regularizer(net.workload, scheme.groups),
        gate_learning_rate=config.search.gate_learning_rate,
      )
      start = {
        **float_variables,
        "ranges": {
          site: jnp.asarray(
            by_bits[net.fixed_bits.get(site, config.search.range_bits)]
          )
          for site, by_bits in ranges.items()
        },
        "gates": scheme.start(),
      }
      variables, _ = run_stage(
        f"search-{name}",
        "precision search",
        searcher,
        start,
        {"key": keys["search"], "strength": jnp.float32(strength)},
        finish=lambda v: {},
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
  tuner = trainer(
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
      "ranges": starting_ranges(net, float_variables, ranges, assignment),
    }
    _, result = run_stage(
      f"fine-tune-{digest(net, assignment)}",
      "fine-tuning",
      tuner,
      start,
      {"key": keys["fine-tuning"], "bits": bits_of(assignment)},
      finish=lambda v, a=assignment: {
        "test_accuracy": test_accuracy(correct_fixed, v, a)
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
    len(test[0]),
    clock.seconds,
    log,
  )
  text = json.dumps(summary, indent=1) + "\n"
  write_atomically(workdir / "result.json", text.encode())


def initial_variables(model: Model, key: jax.Array) -> Mapping[str, Any]:
  """Variables of a model in float mode before training."""
  images = jnp.zeros((2, *model.net.input_shape))
  # The "rbg" generator: threefry's thirty copies take 5 s to compile.
  seed = jax.random.key_data(key)
  key = jax.random.wrap_key_data(jnp.concatenate([seed, seed]), impl="rbg")
  variables = jax.jit(lambda k: model.init(k, images, train=False))(key)
  return {kind: variables.get(kind, {}) for kind in ("params", "batch_stats")}


def calibrate(model: Model, variables, images):
  """{activation site: {bits: range}} of least squared error on `images`."""
  net = model.net
  seen = jax.jit(
    lambda v, x: model.apply(v, x, train=False, mutable=["intermediates"])[1]
  )(variables, images)["intermediates"]
  tensors = {
    f"{node.name}.out": np.asarray(seen[node.name][0])
    for node in net.nodes
    if net.site_of[node.name] == f"{node.name}.out"
  }
  return calibration.activation_ranges(tensors, net.is_signed)


def starting_ranges(net, variables, activation_ranges, assignment):
  """Ranges of every quantizer at the bits of an assignment."""
  ranges = {
    site: jnp.asarray(by_bits[assignment[site]])
    for site, by_bits in activation_ranges.items()
  }
  for node in net.nodes:
    if node.has_weights:
      site = f"{node.name}.weight"
      ranges[site] = jnp.asarray(
        calibration.weight_ranges(
          variables["params"][f"{node.name}_kernel"],
          node.op != "linear",
          assignment[site],
        )
      )
  return ranges


def digest(net, assignment) -> str:
  """A short name for an assignment: equal for equal ones."""
  return hashlib.sha256(
    precision.to_array(net, assignment).tobytes()
  ).hexdigest()[:10]
