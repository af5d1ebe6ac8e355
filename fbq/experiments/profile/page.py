"""The page of a latency profile: what each layer costs, and why."""

import dataclasses
from pathlib import Path

from fbq.experiments.profile import pictures
from fbq.experiments.profile.results import UNIFORM, Profile, short
from fbq.report import cells, page
from fbq.report.blocks import (
  Answer,
  Block,
  Cell,
  Column,
  Details,
  Picture,
  Section,
  Table,
  Text,
  number,
)
from fbq.report.run import Run
from fbq.train.log import Log

ASSUMPTIONS = (
  "Cycles are simulated tile by tile, not measured; hwsim/pulp/README.md tells "
  "what the simulator was checked against, and what was not.",
  "Latency of a network is the sum over its layers, each timed alone with "
  "8-bit outputs and its input in L2 if it fits, as published.",
  "Uniform networks keep 8 bits at the image, at the tensors that meet at an "
  "adder and at signed tensors (linear bottlenecks), as deployed.",
  "Bank conflicts and instruction-cache misses are not modelled.",
)
_NEXT = (
  "python main.py --config=configs/digits_free_bits.py --workdir=runs/digits",
  "To search precisions for such hardware, from training to a front:",
)
_CHANGE = number("change\n%", "{:+z.1f}")


def write(results: Profile, run: Run, workdir: Path) -> None:
  """Writes report.html and its pictures."""
  page.write(
    workdir / "report.html",
    f"{results.network} on {results.target}",
    "What does each layer of this network cost at each precision, and why?",
    blocks(results),
    dataclasses.replace(run, assumptions=ASSUMPTIONS, next=_NEXT),
  )


def tell(results: Profile, log: Log) -> None:
  """Prints the networks and the answer."""
  title = f"{results.network}: cycles per image"
  log.console.print(cells.printed(_networks(results), title))
  log.say(results.answer)


def blocks(profile: Profile) -> list[Block]:
  """The page, but for the facts of the run."""
  target = short(profile.target)
  return [
    Answer([profile.answer]),
    Section(
      "Uniform networks and their Free Bits versions",
      [
        Text(
          "“4/4+FB”: Free Bits raises the precision of a tensor wherever that "
          "makes the layers that read it faster."
          + (
            f" Published figures are from the {profile.published_source}, for "
            "this network on XPulpNNv1; nothing here was fitted to them."
            if profile.published_source
            else ""
          ),
          note=True,
        ),
        _networks(profile),
      ],
    ),
    Section(
      "Three claims of the Free Bits slides, on this network",
      [
        *(
          Text(each.finding, lead=f"{i}. {each.claim}.")
          for i, each in enumerate(profile.statements, 1)
        ),
        Picture(pictures.precisions(profile), "precision.svg"),
        _note(
          "Sums over all layers of a kind, outputs at 8 bits. Blue is faster "
          "than 8/8, red slower. Layers that read tensors of fixed bits, such "
          "as the image, are shown at all mixtures nevertheless."
        ),
      ],
    ),
    Section(
      "Every layer",
      [
        Picture(pictures.layers(profile), "layers.svg"),
        _note(
          "Layers of the uniform networks as deployed: where a tensor keeps 8 "
          "bits (the image, what meets at an adder, signed tensors), so does "
          "the layer that reads it."
        ),
        _layers(profile),
        _note(
          "Every precision of every layer on every target, by cause, is in "
          "results.csv; latency_table.csv is the table that searches read."
        ),
      ],
    ),
    Section(
      f"Where the cycles of a layer go, on {target}",
      [Picture(pictures.shares(profile), "shares.svg")],
    ),
    Section(
      "Roofline",
      [
        Picture(pictures.roofline(profile), "roofline.svg"),
        _note(
          "Horizontal: the inner loop of the convolution, without im2col and "
          "requantization; depthwise kernels have one of their own. Bytes are "
          "those of every tensor once; tiles that are fetched again and "
          "depthwise inputs, which are transposed byte by byte, move more. "
          "With an edge: waits for L3."
        ),
      ],
    ),
    Section("Where higher precision is faster, and why", _gains(profile)),
    Section(
      "How much L2 is left to tensors",
      [
        Text(
          "The part of L2 that code takes is a property of the application. "
          "With less L2, layers are cut into slices that stream from L3, and "
          "8-bit layers are cut first. Which cut DORY chooses, and how small "
          "its slices are, changes with every budget, so that cycles do not "
          "fall steadily."
        ),
        Picture(pictures.budgets(profile), "l2_budget.svg"),
        _budgets(profile),
      ],
    ),
    Details(f"constants of {profile.target}", [_constants(profile)]),
  ]


def _networks(profile: Profile) -> Table:
  clock = profile.constant("frequency_hz")
  columns = [
    (Column("target"), lambda w: short(w.target)),
    (Column("inputs / weights"), lambda w: w.name),
    (number("cycles"), lambda w: w.cycles),
    (
      number(f"ms at\n{clock / 1e6:g} MHz", "{:,.2f}"),
      lambda w: w.cycles / clock * 1e3,
    ),
    (number("vs 8/8\n%", "{:+z.1f}"), lambda w: 100 * w.change),
    (number("layers\nraised"), lambda w: w.raised if "FB" in w.name else None),
  ]
  if profile.published_source:
    published = number("published\n%", "{:+z.1f}")
    columns.append((published, lambda w: w.published and 100 * w.published))
  return Table.of(
    profile.wholes,
    *columns,
    marks=lambda w: "like" if w.target == profile.target else "",
  )


def _layers(profile: Profile) -> Table:
  """Every layer on the profile's target, beside its fastest precision."""
  uniform = [profile.in_uniform(profile.target, name) for name in UNIFORM]
  rows = [
    (costs, _fastest(profile, costs)) for costs in zip(*uniform, strict=True)
  ]
  return Table.of(
    rows,
    (Column("layer"), lambda row: row[1].layer),
    (Column("kind", "soft"), lambda row: row[1].kind),
    (number("MACs"), lambda row: row[1].macs or None),
    *(
      (number(f"{name}\ncycles"), lambda row, i=i: row[0][i].cycles)
      for i, name in enumerate(UNIFORM)
    ),
    (
      number("MAC/cycle\nat 8/8", "{:.2f}"),
      lambda row: row[1].macs / row[0][0].cycles or None,
    ),
    (Column("fastest\ninput / weight", "bits"), lambda row: row[1].both),
    (number("its cycles"), lambda row: row[1].cycles),
    (_CHANGE, lambda row: _change(row[0][0], row[1])),
    label=f"all layers on {profile.target}",
  )


def _change(before, after):
  return 100 * (after.cycles / before.cycles - 1)


def _fastest(profile, costs):
  """The fastest cost that a layer can have; ties go to more bits.

  A layer that reads a tensor of fixed bits keeps them.
  """
  possible = {cost.in_bits for cost in costs}
  found = [
    cost
    for cost in profile.shown(profile.target)
    if cost.layer == costs[0].layer and cost.in_bits in possible
  ]
  return min(reversed(found), key=lambda cost: cost.cycles)


def _gains(profile: Profile) -> list[Block]:
  if not profile.gains:
    said = "fewer bits never cost cycles in this network on this target"
    return [Text(f"No layer is: {said}.")]
  return [
    Table.of(
      profile.gains,
      (Column("from", "soft"), lambda gain: gain.start),
      (Column("layer"), lambda gain: gain.before.layer),
      (Column("kind", "soft"), lambda gain: gain.before.kind),
      (Column("bits before\ninput / weight", "bits"), lambda g: g.before.both),
      (Column("bits after\ninput / weight", "bits"), lambda g: g.after.both),
      (number("cycles\nbefore"), lambda gain: gain.before.cycles),
      (number("cycles\nafter"), lambda gain: gain.after.cycles),
      (_CHANGE, lambda gain: _change(gain.before, gain.after)),
      (Column("why (cycles by cause)", "long"), lambda gain: gain.why),
    ),
    _note(
      "Tiles are channels x rows x columns of the output in L1. Causes that "
      "save less than a tenth of the whole are left out, so the numbers need "
      "not add up."
    ),
  ]


def _budgets(profile: Profile) -> Table:
  def cycles(budget):
    return budget.cycles.get("8/8", Cell(None, "a layer does not fit"))

  def change(budget, name):
    n = budget.cycles
    return 100 * (n[name] / n["8/8"] - 1) if n else None

  return Table.of(
    profile.budgets,
    (number("L2\nkB", "{:g}"), lambda budget: budget.size / 1e3),
    (number("8/8\ncycles"), cycles),
    *(
      (number(f"{name}\nvs 8/8 %", "{:+z.1f}"), lambda b, n=name: change(b, n))
      for name in ("4/4", "4/4+FB", "2/2", "2/2+FB")
    ),
    marks=lambda budget: "best" if budget.is_default else "",
  )


def _constants(profile: Profile) -> Table:
  return Table.of(
    profile.constants,
    (Column("constant"), lambda name: name),
    (number("value", "{}"), lambda name: profile.constants[name]),
    (Column("set", "soft"), lambda n: "overridden" * (n in profile.overridden)),
  )


def _note(text: str) -> Text:
  return Text(text, note=True)
