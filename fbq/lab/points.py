"""Assignments as the end of an experiment: saved, fine-tuned, told by layer."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fbq import precision as precision_lib
from fbq.files import write_atomically
from fbq.lab import causes
from fbq.lab.costs import Costs
from fbq.lab.fine_tuning import FineTuner
from fbq.lab.judgement import Judgement
from fbq.lab.lab import Lab
from fbq.nets.graph import Net
from fbq.quantizers.site_ranges import Ranges
from fbq.report import Change, LayerRow
from fbq.search.free_bits import Raise

REFERENCE = "8/8"
Found = Mapping[str, Mapping[str, int]]  # name of a point -> assignment


def digest(net: Net, assignment: Mapping[str, int]) -> str:
  """A short name for an assignment: equal for equal ones."""
  bits = np.array([assignment[s] for s in net.workload.sites], np.int32)
  return hashlib.sha256(bits.tobytes()).hexdigest()[:10]


def training_of(net: Net, assignment: Mapping[str, int]) -> str:
  """Name of the fine-tuning of an assignment; equal for equal ones."""
  return f"fine-tune-{digest(net, assignment)}"


def file_of(name: str) -> str:
  """The name of a point as that of a file."""
  return name.replace("/", "-").replace("%", "")


def prefix_of(seeds: Sequence[int], seed: int) -> str:
  """What names of runs and files of a seed begin with: "" for the first one.

  So a run of one seed, and what is exported of several, has plain names.
  """
  return "" if seed == seeds[0] else f"seed{seed}-"


def uniform(lab: Lab, widths: Sequence[int]) -> dict[str, dict[str, int]]:
  """{"activation/weight bits": assignment} of the uniform baselines.

  Where the hardware does not have a width it has the next one.
  """
  rungs = lab.ladder.activations, lab.ladder.weights
  return {
    "/".join(str(next(b for b in r if b >= bits)) for r in rungs): (
      lab.ladder.at_least(precision_lib.uniform(lab.net, bits))
    )
    for bits in widths
  }


def save_precisions(lab: Lab, found: Found, prefix: str = "") -> None:
  """Writes precision/<prefix><point>.json for every assignment."""
  folder = lab.workdir / "precision"
  folder.mkdir(exist_ok=True)
  for name, assignment in found.items():
    text = precision_lib.to_json(lab.net, assignment, lab.ladder)
    write_atomically(folder / f"{prefix}{file_of(name)}.json", text)


def fine_tuned(
  lab: Lab,
  fine_tune: FineTuner,
  variables: Mapping[str, Any],
  starts: Ranges,
  found: Found,
  key: jax.Array,
  prefix: str = "",
) -> dict[str, Judgement]:
  """{name: how it was judged}; each different assignment is trained once.

  Args:
    lab: where it trains.
    fine_tune: compiled step of all.
    variables: variables of the float network.
    starts: where ranges start, see `fine_tuning.starts`.
    found: assignments by name.
    key: random key of the batches, the same for all.
    prefix: what names of runs begin with, see `prefix_of`.
  """
  runs = {
    name: prefix + training_of(lab.net, bits) for name, bits in found.items()
  }
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
    lab.log.say(f"[{len(judged)}/{len(different)}] {prefix}{name}: {judgement}")
  return {name: judged[run] for name, run in runs.items()}


def layers(net: Net, costs: Costs, assignment):
  """What each layer of one point costs."""
  cycles = costs.by_layer(net.workload, assignment)
  total = int(cycles.sum())
  return tuple(
    LayerRow(
      layer=layer.name,
      op=layer.op,
      in_bits=max(assignment[site] for site in reads),
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


def change_of(net: Net, costs: Costs, change: Raise) -> Change:
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
  """What the simulator sees become faster, in words and cycles."""
  if costs.target is None:
    return "Measured on the board."
  layer = net.workload.layers[net.workload.index[change.layer]]

  def written(own):
    """Bits at which the output is timed: those of logits are accumulators."""
    if own is None:
      return 32
    return own if costs.output_bits == "reader" else costs.output_bits

  before, after = (
    causes.simulated(layer, (a, w, written(o)), costs.target)
    for a, w, o in (change.before, change.after)
  )
  return causes.why(layer, before, after, costs.target)


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
