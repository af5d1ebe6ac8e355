"""A float network at every bit-width of its weights, without training.

Every method at every bit-width; how each tensor alone bears fewer bits; the
exact choice of bits under budgets of flash or cycles; block formats by the same
measure; and the integers of a quantized file beside its own runtime. What is
tried is judged by inputs that are held back, by their labels where there are
any, and by how far it is from the float network in any case.
"""

import itertools
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np

from fbq import block_formats
from fbq.experiments.ladder import config
from fbq.experiments.ladder.config import Choice, Ladder, Split
from fbq.experiments.ladder.methods import Workshop
from fbq.experiments.ladder.results import (
  FLOAT,
  Budget,
  Numbers,
  Point,
  Row,
  Rungs,
  name_of,
)
from fbq.lab import imported, imported_integers
from fbq.lab.calibration import activations
from fbq.lab.kept import KeptNumbers, refuse_others
from fbq.lab.lab import Lab
from fbq.model import Model
from fbq.nets.graph import INPUT_SITE, Net
from fbq.schemes.block_float import BlockFloat, Data
from fbq.search import block_noise, exact
from fbq.search.sensitivity import compare
from fbq.train import steps
from hwsim import latency_table as tables
from hwsim import proxies
from hwsim.bfp.formats import block_format
from hwsim.targets import Target, ladder_of, latency_table

_EXPONENT_BITS = 8  # of blocks: no number is out of reach


def run(settings: Ladder, lab: Lab) -> Rungs:
  """All of it; what was measured before a run was stopped is read again."""
  net, targets = lab.net, config.targets_of(settings)
  kept = KeptNumbers(lab.workdir / "measured.json")

  # ---- A float network, inputs to calibrate by and others to judge by
  with lab.clock.measure("network and inputs"):
    variables, report = config.variables_of(settings, net)
    calibration, held_back = config.splits_of(settings, net)
    images = calibration.images, held_back.images
    refuse_others(lab.workdir, "inputs", *images)
    lab.log.say(str(report).splitlines()[-1])
  shop = _workshop(settings, lab, net, variables, calibration.images)
  judge = _Judge(shop, held_back)

  # ---- Every method at every bit-width
  points: dict[str, Point] = {}

  def judged(
    name: str,
    method: str,
    bits: Mapping[str, int],
    budget: Budget | None = None,
  ) -> None:
    numbers = kept.of(name, lambda: judge.numbers(shop.apply(method, bits)))
    points[name] = Point(
      *(name, method, dict(bits), Numbers(**numbers)),
      *(proxies.weight_bytes(net.workload, bits), _cycles(net, targets, bits)),
      budget,
    )

  plan = list(itertools.product(settings.methods, settings.weight_bits))
  in_float = Numbers(**kept.of(FLOAT, lambda: judge.numbers(None)))
  with (
    lab.clock.measure("uniform bits"),
    lab.log.bar("uniform bits", len(plan), 0) as move,
  ):
    for done, (method, bits) in enumerate(plan, start=1):
      name = name_of(method, bits)
      judged(name, method, shop.uniform(bits))
      move(done, {"KL": points[name].numbers.kl})

  # ---- Every tensor alone at fewer bits, the others at 8
  few = calibration.images[: settings.inputs.sensitivity]
  with lab.clock.measure("sensitivities"):
    harm = _harm(settings, lab, shop, few, kept)

  # ---- The exact choice under every budget
  with lab.clock.measure("exact choices"):
    for choice in settings.choices:
      target = targets[choice.target]
      for share, bits in _chosen(net, shop, harm, choice, target):
        name = f"{choice.target} {choice.cost} {100 * share:.4g}%"
        budget = Budget(choice.target, choice.cost, share)
        judged(name, settings.mixed_by, bits, budget)

  # ---- Block formats, and integers beside the runtime of the file
  with lab.clock.measure("block formats"):
    blocks = _blocks(settings, net, variables, calibration, judge, kept)
  with lab.clock.measure("integers beside the runtime"):
    integers = _beside_runtime(settings, net, held_back)

  sizes = len(calibration.images), len(held_back.images)
  return Rungs(
    net.name,
    in_float,
    tuple(points.values()),
    harm,
    blocks,
    integers,
    tuple(Row(row.name, row.accuracy) for row in settings.published),
    *(tuple(targets), settings.weight_bits, settings.mixed_by),
    *(*sizes, len(set(held_back.source.tolist()))),
    held_back.labels is not None,
    _assumptions(settings, report.note),
  )


# ---- What is measured


class _Judge:
  """Judges networks by the inputs that are held back."""

  def __init__(self, shop: Workshop, held_back: Split):
    self.shop, self.given = shop, held_back
    self.reference = shop.logits(None, held_back.images)

  def numbers(self, quantized) -> dict[str, float | None]:
    """See `Numbers`; of the float network for None."""
    if quantized is None:
      return self.of_logits(self.reference)
    return self.of_logits(self.shop.logits(quantized, self.given.images))

  def of_logits(self, logits: np.ndarray) -> dict[str, float | None]:
    classes = self.reference.argmax(-1)
    same = logits.argmax(-1) == classes
    labels, accuracy = self.given.labels, None
    if labels is not None:
      accuracy = float(np.mean(logits.argmax(-1) == labels))
    return {
      "kl": compare(self.reference, logits, classes).kl,
      "agreement": float(np.mean(same)),
      "agreement_error": _clustered(same, self.given.source),
      "accuracy": accuracy,
    }


def _clustered(right: np.ndarray, source: np.ndarray) -> float | None:
  """Standard error of a share, of inputs that are alike within a source."""
  names = np.unique(source)
  if len(names) < 2:
    return None
  off = right - right.mean()
  sums = np.array([off[source == name].sum() for name in names])
  count = len(names)
  spread = np.sqrt((sums**2).sum() * count / (count - 1))
  return float(spread / len(right))


def _workshop(settings: Ladder, lab: Lab, net: Net, variables, images):
  return Workshop.of(
    *(net, variables, images, settings.inputs.correction),
    *(settings.inputs.batch, settings.rounding_steps),
    tuple(sorted(settings.weight_bits)),
    config.eight_bits(settings, net),
    lab.workdir / "rounded",
  )


def _harm(settings, lab: Lab, shop: Workshop, images, kept: KeptNumbers):
  """{site: {bits: KL in nats}} of one tensor alone at fewer than 8 bits."""
  eight, method = shop.uniform(8), settings.mixed_by
  sites = config.tried_bits(settings, shop.net)
  reference: list[np.ndarray] = []

  def measure(site: str, bits: int) -> float:
    if not reference:
      reference.append(shop.logits(shop.apply(method, eight, False), images))
    one = shop.apply(method, {**eight, site: bits}, False)
    logits = shop.logits(one, images)
    return compare(reference[0], logits, reference[0].argmax(-1)).kl

  harm: dict[str, dict[int, float]] = {}
  with lab.log.bar("tensors", len(sites), 0) as move:
    for done, (site, some) in enumerate(sites.items(), start=1):
      found = kept.of(
        f"alone: {site}",
        lambda site=site, some=some: {str(b): measure(site, b) for b in some},
      )
      harm[site] = {int(b): kl for b, kl in found.items()} | {8: 0.0}
      move(done, {"KL": max(harm[site].values())})
  return harm


def _chosen(net, shop, harm, choice: Choice, target: Target):
  """(share, bits of every site) of the least sum of harms under each budget."""
  eight = shop.uniform(8)
  found = config.problem_of(net, target, eight, harm)
  budgets = config.budgets_of(choice, found, eight)
  best = exact.best_value(found, budgets, choice.cost)
  tried = sorted(shop.ladder)
  for i, share in enumerate(choice.shares):
    # Bits between those that were tried count as the fewer, and cost more
    yield (
      share,
      {
        site: max(t for t in tried if t <= bits)
        if site.endswith(".weight")
        else bits
        for site, bits in best.precision(i).items()
      },
    )


def _cycles(net: Net, targets: Mapping[str, Target], bits) -> dict[str, int]:
  """Cycles on every target whose hardware has these bits."""
  found = {}
  for name, target in targets.items():
    ladder = ladder_of(target)
    if all(b in ladder.of(site) for site, b in bits.items()):
      table = latency_table(net.workload, target)
      cycles = tables.layer_cycles(table, net.workload, bits, "site")
      found[name] = int(cycles.sum())
  return found


def _blocks(settings, net, variables, calibration: Split, judge, kept):
  """{"X=8, blocks of 16": numbers} of one block format for every tensor."""
  found = {}
  for size in settings.block_sizes if settings.block_bits else ():
    forward: list[Callable] = []

    def logits(bits: int, size=size, forward=forward) -> dict:
      if not forward:
        forward.append(_block_forward(net, variables, calibration, size))
      return judge.of_logits(forward[0](bits, judge.given.images))

    for bits in settings.block_bits:
      name = f"X={bits}, blocks of {size}"
      numbers = kept.of(name, lambda bits=bits, run=logits: run(bits))
      found[name] = Numbers(**numbers)
  return found


def _block_forward(net: Net, variables, calibration: Split, size: int):
  """(bits, images) -> logits of every tensor in blocks of `size`."""
  batch = 8
  tensors = activations(net, variables, calibration.images[:batch])
  tensors[INPUT_SITE] = calibration.images[:batch]
  tops = jnp.asarray(block_noise.tops(net, tensors))
  model = Model(net, BlockFloat((size,)))
  forward = steps.compile_once(
    lambda v, x, d: model.apply(v, x, train=False, data=d)
  )

  def run(bits: int, images: np.ndarray) -> np.ndarray:
    format_ = block_format(bits, _EXPONENT_BITS, size)
    rows = jnp.asarray(
      block_formats.to_array(net, block_formats.uniform(net, format_))
    )
    count = len(images)
    filled = np.resize(np.arange(count), -(-count // batch) * batch)
    parts = [
      np.asarray(
        forward(variables, images[filled[i : i + batch]], Data(rows, tops)),
        np.float64,
      )
      for i in range(0, len(filled), batch)
    ]
    return np.concatenate(parts)[:count]

  return run


def _beside_runtime(settings: Ladder, net: Net, held_back: Split):
  """Our integers beside LiteRT's; None where the file has no integers."""
  path = settings.float_checkpoint
  if not imported.is_file(path):
    return None
  found = imported.read(path)
  if found.codes is None or not found.ranges:
    return None
  low, high = found.codes
  codes = np.rint(held_back.images * (high - low) + low).astype(np.int64)
  return imported_integers.beside_runtime(
    found, path, codes, held_back.labels
  )._asdict()


def _assumptions(settings: Ladder, note: str) -> tuple[str, ...]:
  """Sentences about what the numbers rest on."""
  said = [
    "Nothing is trained. Ranges of activations are the least and greatest "
    "number met in calibration; signed tensors and what is added have 8 bits.",
    "Agreement is with the float network's class, and the KL divergence is "
    "between their class probabilities: neither is accuracy.",
    "Choices take the sum of what each tensor does alone, measured on inputs "
    "to calibrate by. Method and bits of the answer were chosen by the inputs "
    "that judge, so its score is flattered.",
    "Bytes are those of packed weights, without biases. Cycles are simulated.",
  ]
  if "adaround" in settings.methods:
    said.append(
      "AdaRound runs on second moments of what each layer reads, once for a "
      "layer and all its bits; every network takes of each layer what was "
      "rounded at its bits, and has its biases corrected in one pass. Its "
      "codes reach one further below zero than those of other methods: four "
      "levels at 2 bits, where they have three."
    )
  return (*said, note) if note else tuple(said)
