"""What a Free Bits run leaves for people: table, picture, page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fbq import precision as precision_lib
from fbq.experiments.task import Task
from fbq.nets.graph import Net
from fbq.report import (
  Change,
  LayerRow,
  Point,
  page,
  points_page,
  recommend,
  tables,
)
from fbq.report.run import Run, command, facts
from fbq.search.free_bits import Raise
from fbq.train.log import Log
from hwsim import proxies
from hwsim.latency_table import LatencyTable, layer_cycles, total_cycles
from hwsim.pulp import Target, simulate

REFERENCE = "8/8"


def write_report(
  workdir: Path,
  config: Any,
  net: Net,
  target: Target,
  table: LatencyTable,
  found: Mapping[str, Mapping[str, int]],
  accuracies: Mapping[str, float],
  float_accuracy: float,
  details: Mapping[str, Mapping[str, Any]],
  parents: Mapping[str, str],
  raises: Mapping[str, Sequence[Raise]],
  task: Task,
  seconds: Mapping[str, float],
  log: Log,
) -> dict[str, Any]:
  """Writes results.csv, front.svg and report.html, prints the table.

  Args:
    found: name -> assignment; equal assignments become one point with aliases.
    accuracies: name -> test accuracy after fine-tuning.
    parents: name of a Free Bits point -> name of the point it came from.
    raises: name of a Free Bits point -> what the pass changed.
    task: that accuracies are of.

  Returns:
    The summary for result.json.
  """
  points = _points(
    net, table, found, accuracies, details, parents, config.uniform_baselines
  )
  best = recommend(points, REFERENCE, config.tolerance)
  tables.write_csv(workdir / "results.csv", points)
  report = points_page.Report(
    network=net.name,
    target=target.name,
    points=points,
    test_count=task.test_count,
    layers={p.name: _layers(net, table, p.precision) for p in points},
    changes={
      p.name: [_change(net, target, change) for change in raises[p.name]]
      for p in points
      if p.name in raises
    },
    float_accuracy=float_accuracy,
    reference=REFERENCE,
    tolerance=config.tolerance,
    clock_hertz=target.frequency_hz,
  )
  run = Run(
    command=command(),
    facts={**facts(), "seed": config.seed},
    stages=dict(seconds),
    settings=config.to_dict(),
    assumptions=_assumptions(table, task),
  )
  page.write(
    workdir / "report.html",
    *points_page.heading(report),
    points_page.blocks(report),
    run,
  )
  log.console.print(tables.results_table(points, best, task.test_count))
  log.say(tables.summary(best))
  log.say(f"Report: {workdir / 'report.html'}")
  return {
    "recommended": best.point.name,
    "recommended_accuracy": best.point.accuracy,
    "cycles_saved": best.cycles_saved,
    "float_accuracy": float_accuracy,
    "points": {
      p.name: {"accuracy": p.accuracy, "cycles": p.cycles} for p in points
    },
  }


def _points(net, table, found, accuracies, details, parents, uniform):
  """One point for each different assignment; the first name is its name."""
  baselines = {f"{bits}/{bits}" for bits in uniform}
  order = sorted(
    found, key=lambda name: (name not in baselines, name in parents)
  )
  same: dict[tuple, list[str]] = {}
  for name in order:
    key = tuple(precision_lib.to_array(net, found[name]))
    same.setdefault(key, []).append(name)
  points = []
  for name, *aliases in same.values():
    kind = (
      "baseline"
      if name in baselines
      else "free_bits"
      if name in parents
      else "search"
    )
    assignment = found[name]
    points.append(
      Point(
        name=name,
        kind=kind,
        parent=parents.get(name),
        precision=assignment,
        cycles=total_cycles(table, net.workload, assignment),
        accuracy=accuracies[name],
        bops=proxies.bops(net.workload, assignment),
        weight_bytes=proxies.weight_bytes(net.workload, assignment),
        peak_activation_bytes=proxies.peak_activation_bytes(
          net.workload, assignment
        ),
        detail=details.get(name, {}),
        aliases=tuple(aliases),
      )
    )
  return points


def _layers(net, table, assignment):
  """What each layer of one point costs."""
  cycles = layer_cycles(table, net.workload, assignment)
  total = int(cycles.sum())
  rows = []
  for layer, reads, writes, count in zip(
    net.workload.layers,
    net.workload.input_sites,
    net.workload.output_sites,
    cycles,
    strict=True,
  ):
    rows.append(
      LayerRow(
        layer=layer.name,
        op=layer.op,
        in_bits=assignment[reads[0]],
        weight_bits=assignment.get(net.workload.weight_site(layer)),
        out_bits=None if writes is None else assignment[writes],
        macs=layer.macs,
        cycles=int(count),
        share=float(count) / total,
      )
    )
  return rows


def _change(net: Net, target: Target, change: Raise) -> Change:
  """A change with its reason: where the simulator sees the cycles go."""
  layer = net.workload.layers[net.workload.index[change.layer]]
  (a0, w0), (a1, w1) = change.before, change.after
  quantized = not net.node[change.layer].is_output
  out_bits = 8 if quantized else 32
  before = simulate(layer, a0, w0 or 8, out_bits, target)
  after = simulate(layer, a1, w1 or 8, out_bits, target)
  parts = [
    f"{part} {getattr(before, part):,} -> {getattr(after, part):,}"
    for part in ("compute", "dma", "overhead", "l3")
    if getattr(before, part) != getattr(after, part)
  ]
  sites = []
  if a1 != a0:
    sites.append(change.site)
  if w1 != w0:
    sites.append(net.workload.weight_site(layer))
  return Change(
    sites=tuple(sites),
    layer=change.layer,
    from_bits=change.before,
    to_bits=change.after,
    cycles_before=change.cycles_before,
    cycles_after=change.cycles_after,
    reason=f"Simulated cycles: {', '.join(parts)}.",
  )


def _assumptions(table, task):
  measured = sum(p.startswith("measured") for p in table.provenance)
  return [
    "Cycles are "
    + (
      f"simulated, but for {measured} measured layers."
      if measured
      else "simulated tile by tile, not measured."
    ),
    "Latency of the network is the sum over its layers, each timed alone with "
    "8-bit outputs, as in the published benchmark.",
    task.about_test,
    "Every accuracy is of one seed; all fine-tunings see the same batches.",
  ]
