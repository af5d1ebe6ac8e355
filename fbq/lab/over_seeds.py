"""The record of a pipeline that was run for some seeds and ends in points.

Points are aligned by their names: a search of one strength is one point,
whatever each seed finds.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fbq.lab import points as points_lib
from fbq.lab import pretrained
from fbq.lab.judgement import Judgement
from fbq.lab.lab import Lab
from fbq.lab.points import REFERENCE, Found
from fbq.lab.scores import scores
from fbq.lab.settings import Compared
from fbq.report import Point
from fbq.report.assignments import Assignments
from fbq.report.records import SeedPoint
from fbq.search.free_bits import Raise
from hwsim import proxies


class OneSeed(NamedTuple):
  """What the whole pipeline made of one seed; every seed has the same names.

  Attributes:
    seed: its number.
    float_judged: how the float network was judged.
    found: assignments by name.
    judged: how each was judged after fine-tuning.
    details: what else there is to say of a point, by name.
    raises: name of a Free Bits point -> what the pass changed.
    warnings: sentences about what went wrong.
  """

  seed: int
  float_judged: Judgement
  found: Found
  judged: Mapping[str, Judgement]
  details: Mapping[str, Mapping[str, Any]]
  raises: Mapping[str, Sequence[Raise]] = {}
  warnings: Sequence[str] = ()


def assignments(
  lab: Lab,
  settings: Compared,
  seeds: Sequence[OneSeed],
  parents: Mapping[str, str] = {},  # noqa: B006  never changed
) -> Assignments:
  """The record of what was found.

  Args:
    lab: network, data and costs.
    settings: baselines and tolerance.
    seeds: what each seed found; what is equal in all becomes one point with
      aliases.
    parents: name of a Free Bits point -> name of the point it came from.
  """
  net, costs, task, first = lab.net, lab.costs, lab.task, seeds[0]
  points = _points(lab, seeds, parents, settings.uniform_baselines)
  reference = [one.judged[REFERENCE] for one in seeds]
  in_float = scores([one.float_judged for one in seeds], reference)

  # Names beside values: a record of many fields is read by them
  return Assignments(
    network=net.name,
    target=costs.name,
    seeds=tuple(one.seed for one in seeds),
    validation_count=task.validation.count,
    validation_sources=len(np.unique(task.validation.sources())),
    test_count=task.test.count,
    test_sources=len(np.unique(task.test.sources())),
    float_validation=in_float[0],
    float_test=in_float[1],
    points=tuple(points),
    layers={p.name: points_lib.layers(net, costs, p.precision) for p in points},
    changes={
      p.name: tuple(
        points_lib.change_of(net, costs, change) for change in changes
      )
      for p in points
      if (changes := first.raises.get(p.name))
    },
    reference=REFERENCE,
    tolerance=settings.tolerance,
    confidence=settings.confidence,
    clock_hertz=costs.target.frequency_hz if costs.target else None,
    assumptions=tuple(_assumptions(lab, seeds)),
    warnings=(
      *(text for one in seeds for text in one.warnings),
      *_too_bad(reference, settings.tolerance),
    ),
    metric=task.objective.metric_name,
  )


def _too_bad(reference: Sequence[Judgement], tolerance: float) -> list[str]:
  """A sentence where the reference is so bad that nothing could lose more."""
  reached = statistics.fmean(one.validation.accuracy for one in reference)
  if reached > tolerance:
    return []
  metric = reference[0].validation.objective.metric_name
  return [
    f"{REFERENCE} itself has a {metric} of {reached:.2%} in validation, no "
    f"more than the {tolerance:.2%} that may be lost: whatever is recommended "
    "means nothing. Train longer."
  ]


def _points(lab: Lab, seeds: Sequence[OneSeed], parents, uniform):
  """One point for what differs in some seed; its first name is its name."""
  # Baselines give their name to what is found again, then what was searched
  baselines = points_lib.uniform(lab, uniform)
  order = sorted(
    seeds[0].found, key=lambda name: (name not in baselines, name in parents)
  )
  same: dict[tuple, list[str]] = {}
  for name in order:
    key = tuple(points_lib.digest(lab.net, one.found[name]) for one in seeds)
    same.setdefault(key, []).append(name)
  return [
    _point(
      lab,
      seeds,
      names,
      "baseline"
      if names[0] in baselines
      else "free_bits"
      if names[0] in parents
      else "search",
      parents.get(names[0]),
    )
    for names in same.values()
  ]


def _point(lab: Lab, seeds: Sequence[OneSeed], names, kind, parent) -> Point:
  """Costs are those of the assignments alone, whoever found them."""
  name, *aliases = names
  workload, costs = lab.net.workload, lab.costs
  found = [one.found[name] for one in seeds]
  judged = [one.judged[name] for one in seeds]
  reference = [one.judged[REFERENCE] for one in seeds]
  cycles = [costs.total(workload, bits) for bits in found]

  def mean(count):
    return round(statistics.fmean(count(workload, bits) for bits in found))

  validation, test = scores(judged, reference)
  return Point(
    name=name,
    kind=kind,
    parent=parent,
    precision=found[0],
    cycles=round(statistics.fmean(cycles)),
    validation=validation,
    test=test,
    bops=mean(proxies.bops),
    weight_bytes=mean(proxies.weight_bytes),
    peak_activation_bytes=mean(proxies.peak_activation_bytes),
    detail={
      **seeds[0].details.get(name, {}),
      **costs.otherwise(workload, found[0]),
    },
    aliases=tuple(aliases),
    by_seed=tuple(
      SeedPoint(one.seed, bits, count, *scores([own], [eight]))
      for one, bits, count, own, eight in zip(
        seeds, found, cycles, judged, reference, strict=True
      )
    ),
  )


def _assumptions(lab: Lab, seeds: Sequence[OneSeed]) -> list[str]:
  costs = lab.costs
  first = "calibration" if pretrained.is_given(lab.settings) else "training"
  measured = sum(p.startswith("measured") for p in costs.table.provenance)
  about_seeds = (
    f"Every number is the mean of the whole pipeline, from {first} on, over "
    f"{len(seeds)} seeds; layers, bits, what was raised, settings beside a "
    "point and exports are of the first."
    if len(seeds) > 1
    else "Every number is of one seed, which tells nothing of other seeds."
  )
  return [
    "Cycles are "
    + (
      f"simulated, but for {measured} measured layers."
      if measured
      else "simulated tile by tile, not measured."
    ),
    points_lib.about_outputs(costs),
    lab.about_images,
    f"{about_seeds} All fine-tunings of a seed see the same batches.",
  ]
