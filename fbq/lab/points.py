"""Assignments as the end of an experiment: saved, fine-tuned, compared.

The record of every experiment that ends in a front of accuracy over cycles.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from fbq import precision as precision_lib
from fbq.files import write_atomically
from fbq.lab.costs import Costs
from fbq.lab.fine_tuning import FineTuner
from fbq.lab.judgement import Judgement
from fbq.lab.lab import Lab
from fbq.lab.settings import Judged
from fbq.nets.graph import Net
from fbq.quantizers.site_ranges import Ranges
from fbq.report import Change, LayerRow, Point
from fbq.report.assignments import Assignments
from fbq.search.free_bits import Raise
from hwsim import proxies
from hwsim.pulp import simulate

REFERENCE = "8/8"
Found = Mapping[str, Mapping[str, int]]  # name of a point -> assignment


def digest(net: Net, assignment: Mapping[str, int]) -> str:
  """A short name for an assignment: equal for equal ones."""
  return hashlib.sha256(
    precision_lib.to_array(net, assignment).tobytes()
  ).hexdigest()[:10]


def training_of(net: Net, assignment: Mapping[str, int]) -> str:
  """Name of the fine-tuning of an assignment; equal for equal ones."""
  return f"fine-tune-{digest(net, assignment)}"


def file_of(name: str) -> str:
  """The name of a point as that of a file."""
  return name.replace("/", "-").replace("%", "")


def save_precisions(lab: Lab, found: Found) -> None:
  """Writes precision/<point>.json for every assignment."""
  folder = lab.workdir / "precision"
  folder.mkdir(exist_ok=True)
  for name, assignment in found.items():
    text = precision_lib.to_json(lab.net, assignment)
    write_atomically(folder / f"{file_of(name)}.json", text)


def fine_tuned(
  lab: Lab,
  fine_tune: FineTuner,
  variables: Mapping[str, Any],
  starts: Ranges,
  found: Found,
  key: jax.Array,
) -> dict[str, Judgement]:
  """{name: how it was judged}; each different assignment is trained once.

  Args:
    lab: where it trains.
    fine_tune: compiled step of all.
    variables: variables of the float network.
    starts: where ranges start, see `fine_tuning.starts`.
    found: assignments by name.
    key: random key of the batches, the same for all.
  """
  runs = {name: training_of(lab.net, bits) for name, bits in found.items()}
  different: dict[str, str] = {}  # name of a run -> the first point with it
  for name, run in runs.items():
    different.setdefault(run, name)
  trained = fine_tune.train_many(
    list(different),
    variables,
    starts,
    [found[name] for name in different.values()],
    key,
  )

  # Each is told when it is done: on a CPU they are trained one by one.
  judged: dict[str, Judgement] = {}  # by name of the run
  for (run, name), (_, judgement) in zip(
    different.items(), trained, strict=True
  ):
    judged[run] = judgement
    lab.log.say(f"[{len(judged)}/{len(different)}] {name}: {judgement}")
  return {name: judged[run] for name, run in runs.items()}


def assignments(
  lab: Lab,
  settings: Judged,
  found: Found,
  judged: Mapping[str, Judgement],
  float_judged: Judgement,
  details: Mapping[str, Mapping[str, Any]],
  parents: Mapping[str, str] = {},  # noqa: B006  never changed
  raises: Mapping[str, Sequence[Raise]] = {},  # noqa: B006
) -> Assignments:
  """The record of what was found.

  Args:
    lab: network, data and costs.
    settings: baselines and tolerance.
    found: assignments by name; equal ones become one point with aliases.
    judged: how each was judged after fine-tuning, by name.
    float_judged: how the float network was judged.
    details: what else there is to say of a point, by name.
    parents: name of a Free Bits point -> name of the point it came from.
    raises: name of a Free Bits point -> what the pass changed.
  """
  net, costs = lab.net, lab.costs
  points = _points(
    net,
    costs,
    found,
    judged,
    details,
    parents,
    settings.uniform_baselines,
  )

  # Names beside values: a record of ten fields is read by them
  return Assignments(
    network=net.name,
    target=costs.name,
    test_count=lab.task.test.count,
    float_accuracy=float_judged.test.accuracy,
    points=tuple(points),
    layers={p.name: _layers(net, costs, p.precision) for p in points},
    changes={
      p.name: tuple(_change(net, costs, change) for change in raises[p.name])
      for p in points
      if p.name in raises
    },
    reference=REFERENCE,
    tolerance=settings.tolerance,
    clock_hertz=costs.target.frequency_hz if costs.target else None,
    assumptions=tuple(_assumptions(costs, lab.task.about_test)),
  )


def _points(net, costs, found, judged, details, parents, uniform):
  """One point for each different assignment; the first name is its name."""
  # Baselines give their name to what is found again, then what was searched
  baselines = {f"{bits}/{bits}" for bits in uniform}
  order = sorted(
    found, key=lambda name: (name not in baselines, name in parents)
  )
  same: dict[tuple, list[str]] = {}
  for name in order:
    key = tuple(precision_lib.to_array(net, found[name]))
    same.setdefault(key, []).append(name)

  # Costs are those of the assignment alone, whoever found it
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
        cycles=costs.total(net.workload, assignment),
        accuracy=judged[name].test.accuracy,
        bops=proxies.bops(net.workload, assignment),
        weight_bytes=proxies.weight_bytes(net.workload, assignment),
        peak_activation_bytes=proxies.peak_activation_bytes(
          net.workload, assignment
        ),
        detail={
          **details.get(name, {}),
          **costs.otherwise(net.workload, assignment),
        },
        aliases=tuple(aliases),
      )
    )
  return points


def _layers(net, costs, assignment):
  """What each layer of one point costs."""
  cycles = costs.by_layer(net.workload, assignment)
  total = int(cycles.sum())
  return tuple(
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
    for layer, reads, writes, count in zip(
      net.workload.layers,
      net.workload.input_sites,
      net.workload.output_sites,
      cycles,
      strict=True,
    )
  )


def _change(net: Net, costs: Costs, change: Raise) -> Change:
  """A change with its reason: where the simulator sees the cycles go."""
  layer = net.workload.layers[net.workload.index[change.layer]]
  (a0, w0, o0), (a1, w1, o1) = change.before, change.after
  sites: list[str] = []
  if a1 != a0:
    sites.append(change.site)
  if w1 != w0:
    sites.append(net.workload.weight_site(layer))
  writes = net.site_of[change.layer]
  if o1 != o0 and writes and costs.output_bits == "reader":
    sites.append(writes)
  return Change(
    sites=tuple(sites),
    layer=change.layer,
    from_bits=change.before,
    to_bits=change.after,
    cycles_before=change.cycles_before,
    cycles_after=change.cycles_after,
    reason=_reason(net, costs, change),
  )


def _reason(net: Net, costs: Costs, change: Raise) -> str:
  """Where the simulator sees the cycles go, in one sentence."""
  if costs.target is None:
    return "Measured on the board."
  layer = net.workload.layers[net.workload.index[change.layer]]

  def written(own):
    """Bits at which the output is timed: those of logits are accumulators."""
    if own is None:
      return 32
    return own if costs.output_bits == "reader" else costs.output_bits

  before, after = (
    simulate(layer, a, w or 8, written(o), costs.target)
    for a, w, o in (change.before, change.after)
  )
  parts = [
    f"{part} {getattr(before, part):,} -> {getattr(after, part):,}"
    for part in ("compute", "dma", "overhead", "l3")
    if getattr(before, part) != getattr(after, part)
  ]
  return f"Simulated cycles: {', '.join(parts)}."


def about_outputs(costs: Costs) -> str:
  """How layers are timed, for reports."""
  timed = (
    "writing its output at the bits at which it is read; what 8-bit outputs "
    "would change, as the published benchmark has them, is told"
    if costs.output_bits == "reader"
    else "with 8-bit outputs, as in the published benchmark; what outputs at "
    "the bits at which they are read would change is told"
  )
  return (
    "Latency of the network is the sum over its layers, each timed alone, "
    f"{timed} where it is more than a point of 8/8's cycles."
  )


def _assumptions(costs, about_test):
  measured = sum(p.startswith("measured") for p in costs.table.provenance)
  return [
    "Cycles are "
    + (
      f"simulated, but for {measured} measured layers."
      if measured
      else "simulated tile by tile, not measured."
    ),
    about_outputs(costs),
    about_test,
    "Every accuracy is of one seed; all fine-tunings see the same batches.",
  ]
