"""What a network costs on a PULP cluster, layer by layer, and why.

Costs every layer at every precision on three instruction sets, puts uniform
networks next to their Free Bits versions, sweeps the L2 budget and reports.
Nothing is trained.
"""

import dataclasses
import datetime
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fbq import nets, precision
from fbq.experiments import profile_costs as costs
from fbq.experiments import settings
from fbq.experiments.workdir import finish, opened
from fbq.report import profile as records
from fbq.report import profile_html, profile_plots, profile_text
from fbq.report.tables import write_atomically
from hwsim import latency_io
from hwsim.pulp import TARGETS, Target, get_target, latency_table
from hwsim.pulp.roofline import peak_macs_per_cycle

SETTINGS = {
  "experiment": str,
  "net": {"builder": str, "arguments": dict},
  "target": str,
  "target_overrides": dict,
  "l2_sweep_bytes": list,
}
PUBLISHED_SOURCE = "slides of Free Bits (arXiv 2307.02894)"
ASSUMPTIONS = (
  "Cycles are simulated tile by tile, not measured; hwsim/pulp/README.md tells "
  "what the simulator was checked against, and what was not.",
  "Latency of a network is the sum over its layers, each timed alone with "
  "8-bit outputs and its input in L2 if it fits, as published.",
  "Uniform networks keep 8 bits at the image, at the tensors that meet at an "
  "adder and at signed tensors (linear bottlenecks), as deployed.",
  "Bank conflicts and instruction-cache misses are not modelled.",
)
# Change of cycles against 8/8 of MobileNetV1-0.75-224 on XPulpNNv1.
PUBLISHED = {"4/4": -0.323, "4/4+FB": -0.371}


def run(config: ConfigDict, workdir: Path) -> None:
  """Carries out the profile in `workdir`; does nothing in a finished one."""
  # ---- Checks: wrong settings and layers that fit no tiling are found first
  net, targets = check(config)
  work = opened(workdir, config.to_dict())
  if work is None:
    return
  _, log, clock = work
  target = targets[config.target]

  # ---- Cost of every layer at every precision
  with clock.measure("layers"):
    table = latency_table(net.workload, target)
    latency_io.save(table, workdir / "latency_table.csv")
    rows = [
      row
      for each in targets.values()
      for row in costs.every_cost(net.workload, each)
    ]
    records.write_csv(workdir / "results.csv", rows)

  # ---- Whole networks, what Free Bits raises, the L2 budget
  with clock.measure("networks"):
    stock = net == nets.mobilenet_v1(0.75, 224)
    published = {get_target("xpulpnn_v1").name: PUBLISHED} if stock else {}
    wholes = [
      whole
      for name, each in targets.items()
      for whole in costs.wholes(net, each, published.get(name, {}))
    ]
    gains = costs.gains(net, target)
  with clock.measure("L2 sweep"):
    budgets = [target.l2_budget_bytes + by for by in config.l2_sweep_bytes]
    budgets = [size for size in budgets if 0 < size <= target.l2_bytes]
    swept = costs.sweep(net, target, budgets)

  # ---- Report, and the mark that all is done
  profile = records.Profile(
    network=net.name,
    target=target.name,
    targets=[each.name for each in targets.values()],
    layers=[layer.name for layer in net.workload.layers],
    costs=[row for row in rows if row.out_bits in (8, 32)],
    uniform=_uniform(net, targets),
    wholes=wholes,
    gains=gains,
    budgets=swept,
    peaks=_peaks(targets),
    dma_bytes_per_cycle=target.dma_bytes_per_cycle,
    l3_bytes_per_cycle=target.l3_bytes_per_cycle,
    clock_hertz=target.frequency_hz,
    published_source=PUBLISHED_SOURCE if stock else "",
    constants=_constants(target, get_target(config.target)),
    facts=_facts(),
    config=config.to_dict(),
    assumptions=ASSUMPTIONS,
  )
  with clock.measure("pictures"):
    pictures = profile_plots.pictures(profile)
    for name, picture in pictures.items():
      write_atomically(workdir / f"{name}.png", picture)
  profile_html.write(workdir / "report.html", profile, pictures, clock.seconds)
  log.console.print(records.wholes_table(profile))
  log.say(f"Report: {workdir / 'report.html'}")
  finish(workdir, summary(profile, clock.seconds))


def check(config: ConfigDict) -> tuple[nets.Net, dict[str, Target]]:
  """The network, and the targets by name of the instruction set.

  Raises:
    ConfigError: naming the setting at fault, or the layer that does not fit and
      the overrides with which it would.
  """
  settings.check_keys(config.to_dict(), SETTINGS)
  for by in config.l2_sweep_bytes:
    settings.require(
      isinstance(by, int), "l2_sweep_bytes", by, "whole numbers of bytes"
    )
  try:
    net = nets.build(config.net.builder, **config.net.arguments)
    get_target(config.target)
    targets = {
      each.name: get_target(each, config.target_overrides) for each in TARGETS
    }
  except (ValueError, AttributeError, ImportError) as error:
    raise settings.ConfigError(str(error)) from error
  try:
    for name in (config.target, *targets):
      costs.check_fits(net.workload, targets[name])
  except ValueError as error:
    sizes = costs.enough_memory(net.workload, targets[config.target])
    hint = " ".join(
      f"--config.target_overrides.{name}={size}"
      for name, size in (sizes or {}).items()
    )
    raise settings.ConfigError(
      f"{error}." + (f" This network runs with {hint}" if hint else "")
    ) from error
  return net, targets


def _uniform(net, targets):
  """Costs of the layers in the uniform networks, by (target, name)."""
  found = {}
  for target in targets.values():
    for name in records.UNIFORM:
      assignment = precision.uniform(net, int(name[0]))
      found[target.name, name] = costs.layer_costs(net, assignment, target)
  return found


def _peaks(targets):
  return {
    (target.name, op, name): peak_macs_per_cycle(
      op, int(name[0]), int(name[2]), target
    )
    for target in targets.values()
    for op in ("conv", "depthwise")
    for name in records.UNIFORM
  }


def _constants(target, stock):
  return [
    (field.name, value, value != getattr(stock, field.name))
    for field in dataclasses.fields(Target)
    if field.name != "name"
    for value in [getattr(target, field.name)]
  ]


def _facts():
  return {
    "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    "versions": f"Python {platform.python_version()}",
  }


def summary(
  profile: records.Profile, seconds: Mapping[str, float]
) -> dict[str, Any]:
  """What result.json holds."""
  return {
    "network": profile.network,
    "target": profile.target,
    "networks": [whole._asdict() for whole in profile.wholes],
    "statements": [
      {"claim": each.claim, "numbers": each.numbers}
      for each in profile_text.statements(profile)
    ],
    "l2_budgets": [
      {"bytes": each.size, "is_default": each.is_default, **each.cycles}
      for each in profile.budgets
    ],
    "seconds": {name: round(value, 3) for name, value in seconds.items()},
  }
