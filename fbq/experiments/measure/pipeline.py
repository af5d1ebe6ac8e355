"""The loop closed on this machine: measure layers, choose, build, measure.

Every layer is timed on ONNX Runtime in integers and in float, and every
conversion between unlike neighbours; precisions are chosen by those times; the
networks that were chosen are built and timed whole, beside the uniform ones.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fbq.deploy import mixed_layers, onnx_mixed, onnx_timing
from fbq.deploy.onnx_timing import Part, Timed, Whole
from fbq.experiments.measure import (
  choice,
  harm,
  inputs,
  machine,
  mixtures,
  table,
)
from fbq.experiments.measure.config import Measuring, net_of
from fbq.experiments.measure.results import Chosen, LayerTimes, Measured
from fbq.files import write_atomically
from fbq.lab.kept import refuse_others
from fbq.lab.lab import Lab
from fbq.precision import to_json
from hwsim import latency_io

T = TypeVar("T")


def run(
  settings: Measuring,
  lab: Lab,
  time: Callable[..., list[Timed]] = onnx_timing.run,
  race: Callable[..., dict[str, Whole]] = onnx_timing.race,
) -> Measured:
  """The whole loop; `time` and `race` are those of `fbq.deploy.onnx_timing`."""
  net, workdir = net_of(lab), lab.workdir

  # ---- A float network: its weights, and how far its tensors reach
  with lab.clock.measure("float network"):
    pictures = inputs.pictures(settings, net)
    refuse_others(workdir, "inputs", pictures)
    refuse_others(workdir, "hardware", json.dumps(machine.about()))
    network = onnx_mixed.folded(
      net, inputs.variables(settings, net), pictures[: inputs.CALIBRATION]
    )
    net, images = network.net, onnx_mixed.as_bytes(pictures)

  # ---- Every layer and every conversion, where they are: in networks
  uniform = mixtures.uniform(net)
  mixed = mixtures.mixtures(net, settings.mixtures, settings.seed)
  tried = [*uniform.values(), *mixed]
  with lab.clock.measure("layers"):
    timed = _kept(
      workdir / "times.json",
      lambda: time(
        [onnx_mixed.build(network, bits) for bits in tried],
        net,
        images[:1],
        settings.rounds,
        _progress(lab, "networks made ready to be timed"),
      ),
      _timed_to_json,
      _timed_from_json,
    )
  costs = table.costs_of(net, tried, timed)
  about = machine.about()
  latency = table.latency_table(net, costs, about["target"])
  latency_io.save(latency, workdir / "latency_table.csv")

  # ---- What integers do to the answers
  with lab.clock.measure("harm"):
    harms = _kept(
      workdir / "harm.json",
      lambda: harm.measure(network, images, _progress(lab, "harms measured")),
      lambda found: found,
      lambda plain: {
        site: {int(b): x for b, x in by.items()} for site, by in plain.items()
      },
    )

  # ---- The choice
  with lab.clock.measure("choice"):
    choosing = choice.problem_of(net, costs, latency, harms)
    found = choice.chosen(net, latency, choosing)
  (workdir / "precision").mkdir(exist_ok=True)
  for name, bits in found.items():
    text = to_json(net, bits, mixed_layers.LADDER)
    write_atomically(workdir / "precision" / f"{_file_of(name)}.json", text)

  # ---- What was chosen, built and timed whole, in turn
  with lab.clock.measure("whole networks"):
    models = {n: onnx_mixed.build(network, bits) for n, bits in found.items()}
    for name, model in models.items():
      write_atomically(
        workdir / f"{_file_of(name)}.onnx", model.SerializeToString()
      )
    raced = _kept(
      workdir / "whole.json",
      lambda: race(models, images[:1], settings.rounds),
      lambda wholes: {name: _plain(one) for name, one in wholes.items()},
      lambda plain: {name: _whole(one) for name, one in plain.items()},
    )
    answers = {n: harm.logits(network, b, images) for n, b in found.items()}

  # ---- Predicted and measured
  apart = table.errors(net, tried, timed, len(uniform))
  error = float(np.sqrt(np.mean([(p / m - 1) ** 2 for p, m in apart])))
  at = table.percentile_of(list(raced.values()))
  pairs = zip(timed, (raced[n] for n in choice.UNIFORM), strict=False)
  again = table.apart([(one.whole, whole) for one, whole in pairs])
  widths = table.half_widths(
    net, tried, timed, found, float(np.hypot(error, again))
  )
  rows = [
    _chosen(net, costs, name, bits, widths[name], raced[name], at)
    for name, bits in found.items()
  ]
  noises = {
    name: harm.noise(answer, answers[choice.FLOATS])
    for name, answer in answers.items()
  }
  return Measured(
    network=net.name,
    machine=about,
    rounds=settings.rounds,
    trained=bool(settings.float_checkpoint),
    pictures=settings.images,
    quiet=all(one.whole.is_quiet for one in timed)
    and all(one.is_quiet for one in raced.values()),
    interrupted=float(np.mean([one.interrupted for one in raced.values()])),
    node_us=costs.node_ns / 1e3,
    layers=tuple(_layer(net, costs, found, harms, n.name) for n in net.nodes),
    networks=tuple(row._replace(noise=noises[row.name]) for row in rows),
    mixtures=tuple((p / 1e3, m / 1e3) for p, m in apart),
    error=error,
    again=again,
  )


# ---- Records


def _layer(net, costs, found, harms, name) -> LayerTimes:
  node, layer = net.node[name], net.workload.layers[net.workload.index[name]]
  times = {
    kind: costs.kernels[name, kind] / 1e3
    for kind in (8, 32, 4)
    if (name, kind) in costs.kernels
  }
  site = f"{name}.weight"
  return LayerTimes(
    name,
    node.op,
    layer.macs,
    times.get(8, 0.0),
    times.get(32, 0.0),
    times.get(4) if node.has_weights else None,
    costs.moves[name, True] / 1e3 if not node.is_output else 0.0,
    costs.moves[name, False] / 1e3 if not node.is_output else 0.0,
    harms[site][8] if site in harms else None,
    {which: table.kind_of(net, bits, name) for which, bits in found.items()},
  )


def _chosen(net, costs, name, bits, width, whole, at) -> Chosen:
  predicted = table.predicted_ns(net, costs, bits)
  times = whole.times_ns
  kinds = [table.kind_of(net, bits, node.name) for node in net.nodes]
  return Chosen(
    name=name,
    predicted_us=predicted / 1e3,
    half_width_us=width / 1e3,
    measured_us=float(np.percentile(times, at)) / 1e3,
    measured_low_us=float(np.percentile(times, 25)) / 1e3,
    measured_high_us=float(np.percentile(times, 75)) / 1e3,
    integer_layers=kinds.count(8),
    float_layers=kinds.count(32),
    four_bit_layers=kinds.count(4),
    conversions=len(mixed_layers.conversions(net, bits)),
    weight_bytes=mixed_layers.weight_bytes(net, bits),
    noise=0.0,
  )


# ---- What is measured once is kept


def _kept(path: Path, make: Callable[[], T], to: Any, back: Any) -> T:
  """What `make` returns, or what it returned before this run was stopped."""
  if not path.exists():
    write_atomically(path, json.dumps(to(make())))
  return back(json.loads(path.read_text()))


def _plain(whole: Whole) -> list[Any]:
  return [whole.wall_ns.tolist(), whole.busy_ns.tolist(), whole.interrupted]


def _whole(plain: list[Any]) -> Whole:
  wall, busy, interrupted = plain
  return Whole(np.array(wall), np.array(busy), interrupted)


def _timed_to_json(timed: list[Timed]) -> list[Any]:
  return [
    {
      "whole": _plain(one.whole),
      "parts": [
        [*part, one.nodes[part], times.tolist()]
        for part, times in one.parts.items()
      ],
    }
    for one in timed
  ]


def _timed_from_json(plain: list[Any]) -> list[Timed]:
  return [
    Timed(
      {Part(t, layer): np.array(x) for t, layer, _, x in one["parts"]},
      {Part(t, layer): nodes for t, layer, nodes, _ in one["parts"]},
      _whole(one["whole"]),
    )
    for one in plain
  ]


def _progress(lab: Lab, what: str) -> Callable[[int, int], None]:
  """Says a line for every quarter of what is done."""

  def say(done, of):
    if done == of or done % max(1, of // 4) == 0:
      lab.log.say(f"{done} of {of} {what}")

  return say


def _file_of(name: str) -> str:
  return "".join(c if c.isalnum() else "_" for c in name).replace("__", "_")
