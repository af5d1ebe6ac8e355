"""The page of a design space: what is best where, and what is in doubt."""

import dataclasses
from pathlib import Path

from fbq.experiments.design_space import pictures, results
from fbq.experiments.design_space.results import (
  SURE,
  Design,
  Doubt,
  Space,
)
from fbq.lab import intervals
from fbq.report import blocks, cells, page
from fbq.report.blocks import Column, number
from fbq.report.run import Run
from fbq.train.log import Log

_SHOWN = 20  # designs in the table
_ASSUMPTIONS = (
  "Cycles are simulated; hwsim/pulp/README.md and hwsim/ne16/README.md tell "
  "against what they were checked.",
  "Every draw takes each assumption from its range, all values alike, and all "
  "assumptions independently; constants that go together are one.",
  "The proxy of accuracy is no accuracy: nothing is trained here.",
)
_PERCENT = "{:+z.1f}"


def write(space: Space, run: Run, workdir: Path) -> None:
  """Writes report.html and its pictures."""
  page.write(
    workdir / "report.html",
    f"{space.network} on designs around {space.target}",
    "Which hardware, which precisions, and how sure is that?",
    content(space),
    dataclasses.replace(run, assumptions=_ASSUMPTIONS),
  )


def tell(space: Space, log: Log) -> None:
  """Prints the intervals and the answer."""
  if space.doubt is not None:
    log.console.print(cells.printed(_intervals(space.doubt), space.target))
  for sentence in results.answer(space):
    log.say(sentence)


def content(space: Space) -> list[blocks.Block]:
  """The page, but for the facts of the run."""
  found: list[blocks.Block] = [blocks.Answer(results.answer(space))]
  if space.designs:
    found.append(_space(space))
  found.append(
    blocks.Section(
      "Fronts",
      [
        blocks.Picture(pictures.fronts(space), "fronts.svg"),
        blocks.note(
          f"Exact fronts. The proxy of accuracy is {space.proxy}; less is "
          "better."
        ),
      ],
    )
  )
  if space.doubt is not None:
    found.append(_doubt(space, space.doubt))
  return found


# ---- Designs


def _space(space: Space) -> blocks.Section:
  running = space.running
  left_out = len(space.designs) - len(running)
  parts: list[blocks.Block] = []
  if running:
    parts = [
      blocks.Picture(pictures.heat(space), "designs.svg"),
      blocks.note(
        f"Cycles of the fastest assignment nowhere below {space.least_bits} "
        "bits. Where there are more than two fields, the others are as in the "
        "fastest design."
      ),
      _fastest(space, space.frugal[:_SHOWN]),
      blocks.note(
        "Designs that no other with no more of any field is as fast as, the "
        f"fastest {min(_SHOWN, len(space.frugal))} of {len(space.frugal)}; all "
        f"{len(running):,} are in results.csv, with the bits of every tensor."
        + f" On {left_out:,} a layer does not fit at some precision."
        * bool(left_out)
      ),
      blocks.Details("Precisions that change", [_changing(space, running)]),
    ]
  else:
    parts = [blocks.Text("The network runs on none of these designs.")]
  return blocks.Section("Designs", parts)


def _fastest(space: Space, designs: list[Design]) -> blocks.Table:
  fields = [
    (Column(name), lambda d, i=i: results.shown(d.values[i]))
    for i, name in enumerate(space.fields)
  ]
  levels = [
    (
      number(f"least cycles\nat {name}'s harm"),
      lambda d, i=i: d.reach[i],
    )
    for i, name in enumerate(space.levels)
  ]
  return blocks.Table.of(
    designs,
    *fields,
    (number("cycles\nat 8/8"), lambda d: d.eight),
    (number("cycles\nof the best"), lambda d: d.best),
    (number("vs 8/8\n%", _PERCENT), lambda d: 100 * d.change),
    (number("tensors\nthat differ"), space.differing),
    *levels,
    label="the fastest designs for what they have",
  )


def _changing(space: Space, running: list[Design]) -> blocks.Table:
  """Every tensor whose best precision is not the same everywhere."""
  rows = []
  for i, site in enumerate(space.sites):
    bits = [design.bits[i] for design in running]
    other = sum(b != space.own.bits[i] for b in bits)
    if other:
      shares = {b: bits.count(b) / len(bits) for b in sorted({*bits})}
      rows.append((site, space.own.bits[i], other / len(bits), shares))
  rungs = sorted({b for *_, shares in rows for b in shares})
  return blocks.Table.of(
    sorted(rows, key=lambda row: -row[2]),
    ("tensor", lambda row: row[0]),
    (Column("here", "bits"), lambda row: row[1]),
    (number("other bits on\n% of designs", "{:.0f}"), lambda r: 100 * r[2]),
    *(
      (
        number(f"{b} bits\n% of designs", "{:.0f}"),
        lambda row, b=b: 100 * row[3][b] if b in row[3] else None,
      )
      for b in rungs
    ),
    label="tensors whose best precision depends on the design",
  )


# ---- Doubt


def _doubt(space: Space, doubt: Doubt) -> blocks.Section:
  careful = (
    f"“Careful” passes make least what the network takes in "
    f"{doubt.quantile:.0%} of the draws, instead of its cycles on the target."
  )
  if doubt.exact_fails:
    careful += f" The exact one gave up: {doubt.exact_fails}."
  elif doubt.exact_gap:
    careful += (
      " No assignment takes less in as many draws than the one near the least "
      f"by more than {doubt.exact_gap:.3%}."
    )
  else:
    careful += " The exact one is proven to be the least."
  return blocks.Section(
    "What is assumed, and how sure the answer is",
    [
      _intervals(doubt),
      blocks.note(
        f"90 % of {doubt.draws:,} draws lie between low and high, half of "
        "them up to the middle; changes are "
        f"taken within each draw. {careful}"
      ),
      blocks.note(doubt.why_outside),
      blocks.Section(
        "Networks in order",
        [
          blocks.Table.of(
            doubt.orders,
            ("faster", lambda order: order.faster),
            ("slower", lambda order: order.slower),
            (
              number("in that order\n% of draws", "{:.0f}"),
              lambda order: 100 * order.same,
            ),
            marks=lambda o: "like" if o.same >= SURE else "",
            label="neighbours in the order of cycles",
          )
        ],
      ),
      blocks.Section(
        "What each assumption is worth",
        [blocks.Picture(pictures.worths(doubt), "worths.svg"), _worths(doubt)],
      ),
      blocks.Section(
        f"Precisions after the Free Bits pass from {space.least_bits} bits",
        [
          blocks.Text(
            f"{doubt.sure} of {len(doubt.choices)} tensors end in the same "
            f"bits in at least {SURE:.0%} of the draws. The others:"
          ),
          _choices(doubt),
        ],
      ),
    ],
  )


def _intervals(doubt: Doubt) -> blocks.Table:
  upper = number(f"in {doubt.quantile:.0%}\nof draws")
  return blocks.Table.of(
    list(zip(doubt.intervals, doubt.uppers, strict=True)),
    *intervals.columns(lambda row: row[0]),
    (upper, lambda row: row[1]),
    label="cycles and their intervals",
  )


def _worths(doubt: Doubt) -> blocks.Table:
  return blocks.Table.of(
    doubt.worths,
    ("assumption", lambda w: w.name),
    (number("here", "{:,g}"), lambda w: w.center),
    (number("from", "{:,g}"), lambda w: w.low),
    (number("to", "{:,g}"), lambda w: w.high),
    (number("cycles\nfrom end to end", "{:+,}"), lambda w: w.swing),
    *(
      [(number("by the\nderivative", "{:+,.0f}"), lambda w: w.slope)]
      if any(w.slope is not None for w in doubt.worths)
      else []
    ),
    (number("points\nvs 8/8", "{:+z.2f}"), lambda w: w.points),
    (Column("source", "long"), lambda w: w.source),
    label="assumptions by what they are worth",
  )


def _choices(doubt: Doubt) -> blocks.Table:
  unsure = [c for c in doubt.choices if c.same < SURE]
  return blocks.Table.of(
    sorted(unsure, key=lambda c: c.same),
    ("tensor", lambda c: c.site),
    (Column("before", "bits"), lambda c: c.before),
    (Column("after", "bits"), lambda c: c.bits),
    (number("same\n% of draws", "{:.0f}"), lambda c: 100 * c.same),
    (
      Column("otherwise", "soft"),
      lambda c: ", ".join(f"{b} bits {share:.0%}" for b, share in c.others),
    ),
    label="tensors whose precision depends on what is assumed",
  )
