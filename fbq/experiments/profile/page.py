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
_BEFORE = "bits before\ninput / weight"
_AFTER = "bits after\ninput / weight"
_SWEPT = ("4/4", "4/4+FB", "2/2", "2/2+FB")


def write(results: Profile, run: Run, workdir: Path) -> None:
  """Writes report.html and its pictures."""
  page.write(
    workdir / "report.html",
    f"{results.network} on {results.target}",
    "What does each layer of this network cost at each precision, and why?",
    blocks(results),
    dataclasses.replace(run, assumptions=ASSUMPTIONS),
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
        Text(
          "Sums over all layers of a kind, outputs at 8 bits. Blue is faster "
          "than 8/8, red slower. Layers that read tensors of fixed bits, such "
          "as the image, are shown at all mixtures nevertheless.",
          note=True,
        ),
      ],
    ),
    Section(
      "Every layer",
      [
        Picture(pictures.layers(profile), "layers.svg"),
        Text(
          "Layers of the uniform networks as deployed: where a tensor keeps 8 "
          "bits (the image, what meets at an adder, signed tensors), so does "
          "the layer that reads it.",
          note=True,
        ),
        _layers(profile),
        Text(
          "Every precision of every layer on every target, by cause, is in "
          "results.csv; latency_table.csv is the table that searches read.",
          note=True,
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
        Text(
          "Horizontal: the inner loop of the convolution, without im2col and "
          "requantization; depthwise kernels have one of their own. Bytes are "
          "those of every tensor once; tiles that are fetched again and "
          "depthwise inputs, which are transposed byte by byte, move more. "
          "With an edge: waits for L3.",
          note=True,
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
  columns = [
    Column("target"),
    Column("inputs / weights"),
    number("cycles"),
    number(f"ms at\n{profile.clock_hertz / 1e6:g} MHz", "{:.2f}"),
    number("vs 8/8\n%", "{:+z.1f}"),
    number("layers\nraised"),
    number("published\n%", "{:+z.1f}"),
  ]
  rows = [
    [
      short(w.target),
      w.name,
      w.cycles,
      w.cycles / profile.clock_hertz * 1e3,
      100 * w.change,
      w.raised if "FB" in w.name else None,
      None if w.published is None else 100 * w.published,
    ]
    for w in profile.wholes
  ]
  if not profile.published_source:
    columns, rows = columns[:-1], [row[:-1] for row in rows]
  marks = ["like" if w.target == profile.target else "" for w in profile.wholes]
  return Table(columns, rows, marks)


def _layers(profile: Profile) -> Table:
  """Every layer on the profile's target, beside its fastest precision."""
  uniform = [profile.in_uniform(profile.target, name) for name in UNIFORM]
  rows = []
  for costs in zip(*uniform, strict=True):
    eight, best = costs[0], _fastest(profile, costs)
    rows.append(
      [
        eight.layer,
        eight.kind,
        eight.macs or None,
        *(cost.cycles for cost in costs),
        eight.macs / eight.cycles if eight.macs else None,
        (best.in_bits, best.weight_bits),
        best.cycles,
        100 * (best.cycles / eight.cycles - 1),
      ]
    )
  return Table(
    [
      Column("layer"),
      Column("kind", "soft"),
      number("MACs"),
      *(number(f"{name}\ncycles") for name in UNIFORM),
      number("MAC/cycle\nat 8/8", "{:.2f}"),
      Column("fastest\ninput / weight", "bits"),
      number("its cycles"),
      number("vs 8/8\n%", "{:+z.1f}"),
    ],
    rows,
    label=f"all layers on {profile.target}",
  )


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
  least = min(cost.cycles for cost in found)
  return [cost for cost in found if cost.cycles == least][-1]


def _gains(profile: Profile) -> list[Block]:
  if not profile.gains:
    said = "fewer bits never cost cycles in this network on this target"
    return [Text(f"No layer is: {said}.")]
  together: dict[tuple, list[str]] = {}  # layers that gain alike
  for gain in profile.gains:
    before, after = (c._replace(layer="") for c in (gain.before, gain.after))
    key = gain.start, before, after, gain.why
    together.setdefault(key, []).append(gain.before.layer)
  table = Table(
    [
      Column("from", "soft"),
      Column("layer"),
      Column("kind", "soft"),
      Column(_BEFORE, "bits"),
      Column(_AFTER, "bits"),
      number("cycles\nbefore"),
      number("cycles\nafter"),
      number("change\n%", "{:+z.1f}"),
      Column("why (cycles by cause)", "long"),
    ],
    [
      [
        start,
        ", ".join(names),
        before.kind,
        (before.in_bits, before.weight_bits),
        (after.in_bits, after.weight_bits),
        before.cycles,
        after.cycles,
        100 * (after.cycles / before.cycles - 1),
        why,
      ]
      for (start, before, after, why), names in together.items()
    ],
  )
  return [
    Picture(pictures.gains(profile), "higher.svg"),
    table,
    Text(
      "Tiles are channels x rows x columns of the output in L1. Causes that "
      "save less than a tenth of the whole are left out, so the numbers need "
      "not add up.",
      note=True,
    ),
  ]


def _budgets(profile: Profile) -> Table:
  def row(budget):
    note = "as costed above" if budget.is_default else ""
    size = Cell(budget.size / 1e3, note=note)
    if not budget.cycles:
      return [size, Cell(None, "a layer does not fit"), *[None] * len(_SWEPT)]
    eight = budget.cycles["8/8"]
    changes = [100 * (budget.cycles[name] / eight - 1) for name in _SWEPT]
    return [size, eight, *changes]

  return Table(
    [
      number("L2, kB", "{:g}"),
      number("8/8 cycles"),
      *(number(f"{name}\nvs 8/8 %", "{:+z.1f}") for name in _SWEPT),
    ],
    [row(budget) for budget in profile.budgets],
    ["best" if budget.is_default else "" for budget in profile.budgets],
  )


def _constants(profile: Profile) -> Table:
  return Table(
    [Column("constant"), number("value", "{}"), Column("", "soft")],
    [
      [name, value, "overridden" if is_changed else ""]
      for name, value, is_changed in profile.constants
    ],
  )
