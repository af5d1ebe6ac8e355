"""The page of a latency profile: what each layer costs, and why."""

import dataclasses
from pathlib import Path

from fbq.experiments.profile import pictures, results
from fbq.experiments.profile.costs import Cost, short
from fbq.experiments.profile.plateaus import Plateau, plateaus
from fbq.experiments.profile.published import PUBLISHED
from fbq.experiments.profile.results import Profile
from fbq.lab import intervals
from fbq.report import blocks, cells, page
from fbq.report.run import Run
from fbq.train.log import Log

ASSUMPTIONS = (
  "Cycles are simulated tile by tile, not measured; hwsim/pulp/README.md tells "
  "what the simulator was checked against, and what was not.",
  "Latency of a network is the sum over its layers, each timed alone with "
  "8-bit outputs and its input in L2 if it fits, as published.",
  "Uniform networks keep 8 bits at the image, at the tensors that meet at an "
  "adder and at signed tensors (linear bottlenecks), as deployed.",
  "Bank conflicts are not modelled.",
)
_NEXT = (
  "python main.py --config=configs/digits_free_bits.py --workdir=runs/digits",
  "To search precisions for such hardware, from training to a front:",
)
_ROOFS = {
  False: "Horizontal: the inner loop of the convolution, without im2col and "
  "requantization; depthwise kernels have one of their own, and inputs that "
  "are transposed byte by byte.",
  True: "Horizontal: NE16's array in 3x3 jobs, without loads and stores; 1x1 "
  "jobs reach 144 MAC/cycle whatever the weights.",
}
_CHANGE = blocks.number("change\n%", "{:+z.1f}")


def write(profile: Profile, run: Run, workdir: Path) -> None:
  """Writes report.html and its pictures."""
  page.write(
    workdir / "report.html",
    f"{profile.network} on {profile.target}",
    "What does each layer of this network cost at each precision, and why?",
    content(profile),
    dataclasses.replace(run, assumptions=ASSUMPTIONS, next=_NEXT),
  )


def tell(profile: Profile, log: Log) -> None:
  """Prints the networks and the answer."""
  title = f"{profile.network}: cycles per image"
  log.console.print(cells.printed(_networks(profile, False), title))
  log.say(results.answer(profile))


def content(profile: Profile) -> list[blocks.Block]:
  """The page, but for the facts of the run."""
  target = short(profile.target)
  published = any(whole.published for whole in profile.wholes)
  low = f"{profile.uniform[1]}+FB"
  return [
    blocks.Answer([results.answer(profile)]),
    blocks.Section(
      "Uniform networks and their Free Bits versions",
      [
        blocks.note(
          f"“{low}”: Free Bits raises the precision of a tensor wherever that "
          "makes the layers that read it faster."
          + " Published figures are from the slides of Free Bits (arXiv "
          "2307.02894), for this network; nothing here was fitted to them."
          * published
        ),
        _networks(profile, published),
      ],
    ),
    *([_intervals(profile)] if profile.why_outside else []),
    *([_published(profile)] if profile.variants else []),
    blocks.Section(
      "What is said of NE16, on this network"
      if profile.has_engine
      else "Three claims of the Free Bits slides, on this network",
      [
        *(
          blocks.Text(said, lead=f"{i}. {claim}.")
          for i, (claim, said, _) in enumerate(results.statements(profile), 1)
        ),
        blocks.note(
          "Cycles over those at 8/8: sums over all layers of a kind, outputs "
          "at 8 bits. Layers that read tensors of fixed bits, such as the "
          "image, count at all mixtures nevertheless."
        ),
        _mixtures(profile),
      ],
    ),
    blocks.Section(
      "Every layer",
      [
        blocks.Picture(pictures.layers(profile), "layers.svg"),
        blocks.note(
          "Layers of the uniform networks as deployed: where a tensor keeps 8 "
          "bits (the image, what meets at an adder, signed tensors), so does "
          "the layer that reads it."
        ),
        _layers(profile),
        blocks.note(
          "Every precision of every layer on every target, by cause, is in "
          "results.csv; latency_table.csv is the table that searches read."
        ),
      ],
    ),
    blocks.Section(
      f"Where the cycles of a layer go, on {target}",
      [blocks.Picture(pictures.shares(profile), "shares.svg")],
    ),
    blocks.Section(
      f"Roofline of {target}",
      [
        blocks.Picture(pictures.roofline(profile), "roofline.svg"),
        blocks.note(
          _ROOFS[profile.has_engine] + " Bytes are those of every tensor once; "
          "tiles that are fetched again move more. With an edge: waits for L3."
        ),
      ],
    ),
    blocks.Section(
      "Where higher precision is faster, and why", _gains(profile)
    ),
    blocks.Section(
      "How much L2 is left to tensors",
      [
        blocks.Text(
          "The part of L2 that code takes is a property of the application. "
          "With less L2, layers are cut into slices that stream from L3, and "
          "8-bit layers are cut first. Which cut is chosen, and how small "
          "its slices are, changes with every budget, so that cycles do not "
          "fall steadily. Neighbours whose changes differ by less than half a "
          "point are one row."
        ),
        _budgets(profile),
      ],
    ),
    blocks.Details(
      f"constants of {profile.target}", [blocks.Facts(profile.constants)]
    ),
  ]


def _networks(profile: Profile, published: bool) -> blocks.Table:
  clock = profile.constant("frequency_hz")
  columns = [
    ("target", lambda w: short(w.target)),
    ("inputs / weights", lambda w: w.name),
    (blocks.number("cycles"), lambda w: w.cycles),
    (
      blocks.number(f"ms at\n{clock / 1e6:g} MHz", "{:,.2f}"),
      lambda w: w.cycles / clock * 1e3,
    ),
    (blocks.number("vs 8/8\n%", "{:+z.1f}"), lambda w: 100 * w.change),
    (
      blocks.number("layers\nraised"),
      lambda w: w.raised if "FB" in w.name else None,
    ),
  ]
  if published:
    column = blocks.number("published\n%", "{:+z.1f}")
    columns.append((column, lambda w: w.published and 100 * w.published))
  return blocks.Table.of(
    profile.wholes,
    *columns,
    marks=lambda w: "like" if w.target == profile.target else "",
  )


def _intervals(profile: Profile) -> blocks.Section:
  """The networks in draws of what is assumed, and what stands at an end."""
  parts: list[blocks.Block] = []
  if profile.intervals:
    parts = [
      blocks.Table.of(
        profile.intervals,
        *intervals.columns(),
        label="cycles and their intervals",
      ),
      blocks.note(
        "Every draw takes each assumption from its range (the doubt.py of the "
        "target's family), all values alike. 90 % of the draws lie between low "
        "and high; changes are taken within each draw. configs/design_space.py "
        "tells what each assumption is worth."
      ),
    ]
  return blocks.Section(
    f"Within all that is assumed of {short(profile.target)}",
    [*parts, blocks.note(profile.why_outside)],
  )


def _mixtures(profile: Profile) -> blocks.Table:
  """Cycles over those at 8/8 for every mixture, by kind of layer and target."""
  return blocks.Table.of(
    [(kind, target) for kind in profile.kinds for target in profile.networks],
    ("kind of layer", lambda row: row[0]),
    (blocks.Column("target", "soft"), lambda row: short(row[1])),
    *(
      (
        blocks.number(f"{a}/{w}", "{:.2f}", f"{a}-bit inputs"),
        lambda row, a=a, w=w: profile.relative(row[1], row[0], a, w),
      )
      for a in profile.activations
      for w in profile.weights
    ),
    marks=lambda row: "like" if row[1] == profile.target else "",
    label="cycles over those at 8/8, by input/weight bits",
  )


def _layers(profile: Profile) -> blocks.Table:
  """Every layer on the profile's target, beside its fastest precision."""

  def fastest(costs):  # of equals that of more bits; fixed inputs stay
    found = [
      cost
      for cost in profile.at_8.values()
      if (cost.target, cost.layer) == (costs[0].target, costs[0].layer)
      and cost.in_bits in {each.in_bits for each in costs}
    ]
    return min(reversed(found), key=lambda cost: cost.cycles)

  uniform = [profile.own[name] for name in profile.uniform]
  engine = [(blocks.Column("runs on", "soft"), lambda row: row[1].engine)]
  return blocks.Table.of(
    [(costs, fastest(costs)) for costs in zip(*uniform, strict=True)],
    ("layer", lambda row: row[1].layer),
    (blocks.Column("kind", "soft"), lambda row: row[1].kind),
    *(engine if profile.has_engine else []),
    (blocks.number("MACs"), lambda row: row[1].macs or None),
    *(
      (blocks.number(f"{name}\ncycles"), lambda row, i=i: row[0][i].cycles)
      for i, name in enumerate(profile.uniform)
    ),
    (
      blocks.number("MAC/cycle\nat 8/8", "{:.2f}"),
      lambda row: row[1].macs / row[0][0].cycles or None,
    ),
    (blocks.Column("fastest\ninput / weight", "bits"), lambda row: row[1].both),
    (blocks.number("its cycles"), lambda row: row[1].cycles),
    (_CHANGE, lambda row: _change(row[0][0], row[1])),
    label=f"all layers on {profile.target}",
  )


def _change(before: Cost, after: Cost) -> float:
  return 100 * (after.cycles / before.cycles - 1)


def _gains(profile: Profile) -> list[blocks.Block]:
  if not profile.gains:
    said = "fewer bits never cost cycles in this network on this target"
    return [blocks.Text(f"No layer is: {said}.")]
  return [
    blocks.Table.of(
      profile.gains,
      (blocks.Column("from", "soft"), lambda gain: gain.start),
      ("layer", lambda gain: gain.before.layer),
      (blocks.Column("kind", "soft"), lambda gain: gain.before.kind),
      (
        blocks.Column("bits before\ninput / weight", "bits"),
        lambda g: g.before.both,
      ),
      (
        blocks.Column("bits after\ninput / weight", "bits"),
        lambda g: g.after.both,
      ),
      (blocks.number("cycles\nbefore"), lambda gain: gain.before.cycles),
      (blocks.number("cycles\nafter"), lambda gain: gain.after.cycles),
      (_CHANGE, lambda gain: _change(gain.before, gain.after)),
      (blocks.Column("why (cycles by cause)", "long"), lambda gain: gain.why),
    ),
    blocks.note(
      "Tiles are channels x rows x columns of the output in L1. Causes that "
      "save less than a tenth of the whole are left out, so the numbers need "
      "not add up."
    ),
  ]


def _budgets(profile: Profile) -> blocks.Table:
  names = [n for name in profile.uniform[1:] for n in (name, f"{name}+FB")]

  def sizes(plateau: Plateau) -> str:
    ends = {plateau.first, plateau.last}
    return " to ".join(f"{size / 1e3:g}" for size in sorted(ends))

  def eight(plateau: Plateau) -> str:
    return " to ".join(f"{n:,}" for n in sorted({*plateau.eight}))

  return blocks.Table.of(
    plateaus(profile.budgets),
    (blocks.Column("L2 in kB"), sizes),
    (
      blocks.Column("cycles at 8/8\n“–”: a layer does not fit", "soft"),
      lambda plateau: eight(plateau) or "–",
    ),
    *(
      (
        blocks.number(f"{n}\nvs 8/8 %", "{:+z.1f}"),
        lambda p, n=n: 100 * p.changes[n] if p.changes else None,
      )
      for n in names
    ),
    marks=lambda p: "best" if p.has(profile.l2_bytes) else "",
    label="cycles by L2 left to tensors",
  )


def _published(profile: Profile) -> blocks.Section:
  """Every published figure of both instruction sets beside its variants."""

  def both(row):
    return [100 * change for change in PUBLISHED[row.target]]

  percent = "{:+z.1f}"
  return blocks.Section(
    "What is published, and every way to come to it",
    [
      blocks.note(
        "What disagrees most comes first. “off” is in points: simulated or "
        "measured minus published. No variant of XPulpV2 meets both columns; "
        "its baseline's library and the thin slices of pw3 at 8 bits together "
        "cover the difference. Published too, of accuracies that nothing here "
        "trains: 27.9 % fewer cycles within half a point (slides), up to 28.6 "
        "% at a negligible drop (abstract)."
      ),
      blocks.Table.of(
        profile.variants,
        ("instruction set", lambda row: row.target),
        (blocks.Column("variant", "long"), lambda row: row.what),
        *(
          column
          for i, name in enumerate(("4/4", "4/4+FB"))
          for column in (
            (
              blocks.number("here %", percent, name),
              lambda row, i=i: 100 * (row.four, row.free)[i],
            ),
            (
              blocks.number("published %", percent, name),
              lambda row, i=i: both(row)[i],
            ),
            (
              blocks.number("off", percent, name),
              lambda row, i=i: row.off[i],
            ),
          )
        ),
        marks=lambda row: "like" if row.what == "simulated" else "",
        label="published figures and variants",
      ),
    ],
  )
