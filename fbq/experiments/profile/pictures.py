"""Pictures of a profile: every mark tells its layer and its cycles."""

from collections.abc import Iterable

import numpy as np

from fbq.experiments.profile.results import UNIFORM, Cost, Profile, short
from fbq.report import picture

BITS = (2, 4, 8)
_COLORS = dict(
  zip(UNIFORM, (picture.BLUE, picture.AMBER, picture.GREEN), strict=True)
)
# Cause -> (colour, in words, in short).
_PARTS = {
  "compute": (picture.BLUE, "kernels: cores at work", "cores at work"),
  "waiting": (picture.SKY, "kernels: cores wait for the slowest", "waiting"),
  "dma": (picture.AMBER, "L2-L1 transfers not hidden", "DMA"),
  "overhead": (picture.GREY, "software of layers and tiles", "software"),
  "l3": (picture.VERMILION, "L3 transfers not hidden", "L3"),
}
_LINES = {
  "8/8": ("o-", picture.BLUE),
  "4/4": ("s-", picture.AMBER),
  "4/4+FB": ("D-", picture.VERMILION),
}


def layers(profile: Profile) -> str:
  """Cycles of every layer by precision, one panel per target."""
  figure, panels = _panels(profile, len(profile.targets), 2.1)
  for axes, target in zip(panels, profile.targets, strict=True):
    series = {name: profile.in_uniform(target, name) for name in UNIFORM}
    totals = ", ".join(
      f"{_total(rows) / 1e6:.2f} at {name}" for name, rows in series.items()
    )
    narrow = [c for c in profile.shown(target) if c.bits == "8/4"]
    series["inputs 8, weights 4"] = narrow
    for i, (name, rows) in enumerate(series.items()):
      bars = axes.bar(
        [profile.layers.index(c.layer) + 0.2 * (i - 1.5) for c in rows],
        [c.cycles / 1e6 for c in rows],
        0.2,
        color=_COLORS.get(name, picture.VERMILION),
        label=f"uniform {name}" if name in UNIFORM else name,
      )
      picture.title(bars, list(map(_said, rows)))
    axes.set_ylabel("million cycles")
    picture.heading(axes, f"{short(target)}: {totals} million cycles in all")
  picture.legend(figure, panels[0], 4)
  return picture.svg(
    figure,
    "Cycles of each layer at uniform 8, 4 and 2 bits and at 8-bit inputs with "
    "4-bit weights, one panel per target.",
  )


def shares(profile: Profile) -> str:
  """Where the cycles of each layer go, in the uniform networks."""
  figure, panels = _panels(profile, len(UNIFORM), 1.9)
  for axes, name in zip(panels, UNIFORM, strict=True):
    rows = profile.in_uniform(profile.target, name)
    total, base = _total(rows), np.zeros(len(rows))
    said = []
    for part, (color, label, word) in _PARTS.items():
      parts = [c.parts[part] for c in rows]
      heights = [100 * p / c.cycles for p, c in zip(parts, rows, strict=True)]
      bars = axes.bar(
        range(len(rows)), heights, 0.8, base, color=color, label=label
      )
      titles = [
        f"{c.layer}: {word} {height:.1f} %, {p:,} cycles"
        for c, height, p in zip(rows, heights, parts, strict=True)
      ]
      picture.title(bars, titles)
      base += heights
      said.append(f"{100 * sum(parts) / total:.0f} % {word}")
    axes.set(ylim=(0, 100), ylabel="% of layer")
    summed = f"{total / 1e6:.2f} million cycles; {', '.join(said)}"
    picture.heading(axes, f"uniform {name}: {summed}")
  picture.legend(figure, panels[0], 3)
  return picture.svg(
    figure,
    "Share of kernels, waiting cores, transfers, software and L3 in the cycles "
    "of each layer.",
  )


def roofline(profile: Profile) -> str:
  """MAC/cycle over MAC per byte that must move, one panel per target."""
  count = len(profile.targets)
  figure = picture.new(4.3 * count, 4.9)
  panels = figure.subplots(1, count, sharex=True, sharey=True, squeeze=False)[0]
  drawn = {
    (target, name): [c for c in profile.in_uniform(target, name) if c.macs]
    for target in profile.targets
    for name in UNIFORM
  }
  spots = [_spot(c) for rows in drawn.values() for c in rows]
  left, right = min(spots)[0] / 1.6, max(spots)[0] * 1.6
  highest = max(
    p for ops in profile.peaks.values() for p in ops["conv"].values()
  )
  bytes_per_cycle = 2 * profile.constant("dma_bytes_per_cycle")  # in and out
  for axes, target in zip(panels, profile.targets, strict=True):
    picture.bare(axes, "both")
    axes.set(xscale="log", yscale="log", xlim=(left, right))

    # Roofs: transfers bound from the left, inner loops from above.
    for slope, style, label in (
      (bytes_per_cycle, "-", f"DMA, {bytes_per_cycle / 2:g} B/cycle each way"),
      (profile.constant("l3_bytes_per_cycle"), "--", "L3"),
    ):
      ends = [slope * left, slope * right]
      axes.plot([left, right], ends, style, color=picture.INK, label=label)
    for name, peak in profile.peaks[target]["conv"].items():
      _roof(axes, peak, bytes_per_cycle, right, name, _COLORS[name])
    if any(c.kind == "depthwise" for c in drawn[target, "8/8"]):
      peak = max(profile.peaks[target]["depthwise"].values())
      _roof(axes, peak, bytes_per_cycle, right, "depthwise", picture.SOFT)

    for name, color in _COLORS.items():
      rows = drawn[target, name]
      dots = axes.scatter(
        *zip(*map(_spot, rows), strict=True),
        s=22,
        color=color,
        linewidths=[1.1 if c.l3 else 0.4 for c in rows],
        edgecolors=[picture.INK if c.l3 else picture.PAGE for c in rows],
        zorder=3,
        label=f"uniform {name}",
      )
      picture.title(dots, list(map(_said, rows)))
    axes.set_ylim(min(y for _, y in spots) / 1.6, 1.7 * highest)
    picture.heading(axes, short(target))
    axes.set_xlabel("MAC per byte (input, weights and output once)")
  panels[0].set_ylabel("MAC/cycle, all cores")
  picture.legend(figure, panels[0], 5, "lower center")
  return picture.svg(
    figure,
    "MAC per cycle over MAC per byte for each layer, under the peaks of the "
    "inner loops and of the transfers.",
  )


def _roof(axes, peak, bytes_per_cycle, right, name, color):
  start = peak / bytes_per_cycle  # where transfers cease to bound
  (line,) = axes.plot([start, right], [peak, peak], color=color, linewidth=1.4)
  picture.title(line, [f"inner loop, {name}: {peak:.1f} MAC/cycle"])
  name = axes.annotate(
    f"{name}: {peak:.1f}",
    (right, peak),
    xytext=(-2, 2),
    textcoords="offset points",
    ha="right",
    fontsize=7.5,
    color=color,
  )
  picture.halo(name)


def precisions(profile: Profile) -> str:
  """Cycles over those at 8/8 for every mixture, by kind of layer and target."""
  from matplotlib import cm, colors

  kinds, targets = profile.kinds(), profile.targets
  grids = {
    (target, kind): {
      (a, w): profile.relative(target, kind, a, w) for a in BITS for w in BITS
    }
    for target in targets
    for kind in kinds
  }
  most = max(1.5, *(v for grid in grids.values() for v in grid.values()))
  shade = cm.ScalarMappable(colors.TwoSlopeNorm(1.0, 0.0, most), "RdBu_r")
  figure = picture.new(2.35 * len(kinds) + 0.6, 2.15 * len(targets) + 0.5)
  panels = figure.subplots(
    len(targets), len(kinds), squeeze=False, sharex=True, sharey=True
  )
  for axes, ((target, kind), grid) in zip(
    panels.flat, grids.items(), strict=True
  ):
    for (a, w), value in grid.items():
      place = BITS.index(w), BITS.index(a)
      square = axes.bar(
        place[0],
        1,
        1,
        place[1] - 0.5,
        color=shade.to_rgba(np.array(value)),
      )
      said = f"{kind} on {short(target)}, {a}-bit inputs, {w}-bit weights"
      picture.title(square, [f"{said}: {value:.2f} of the cycles at 8/8"])
      is_dark = value < 0.25 or value > 0.45 + 0.55 * most
      color = picture.LIGHT_LETTERS if is_dark else picture.DARK_LETTERS
      axes.text(*place, f"{value:.2f}", ha="center", va="center", color=color)
    axes.set(xlim=(-0.5, 2.5), ylim=(2.5, -0.5))
    axes.set_xticks(range(3), BITS)
    axes.set_yticks(range(3), BITS)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
  for axes, kind in zip(panels[0], kinds, strict=True):
    picture.heading(axes, kind)
  for axes, target in zip(panels[:, 0], targets, strict=True):
    axes.set_ylabel(f"{short(target)}\ninput bits")
  for axes in panels[-1]:
    axes.set_xlabel("weight bits")
  return picture.svg(
    figure,
    "Cycles of each kind of layer at the nine mixtures of input and weight "
    "bits, over those at 8/8, for each target.",
  )


def budgets(profile: Profile) -> str:
  """Cycles, and their change against 8/8, over the L2 left to tensors."""
  figure = picture.new(10, 3.9)
  left, right = figure.subplots(1, 2)
  shown = [budget for budget in profile.budgets if budget.cycles]
  sizes = [budget.size / 1e3 for budget in shown]
  for name, (style, color) in _LINES.items():
    cycles = [b.cycles[name] for b in shown]
    changes = [100 * (b.cycles[name] / b.cycles["8/8"] - 1) for b in shown]
    titles = [
      f"{name} with {size:g} kB: {n:,} cycles, {change:+.1f} %"
      for size, n, change in zip(sizes, cycles, changes, strict=True)
    ]
    drawn = [(left, [n / 1e6 for n in cycles]), (right, changes)]
    for axes, values in drawn[: 1 if name == "8/8" else 2]:
      (line,) = axes.plot(
        sizes, values, style, color=color, markersize=4, label=name
      )
      picture.title(line, titles)
    published = profile.whole(name).published
    if published is not None:
      label = f"{name} published: {published:+.1%}"
      right.axhline(100 * published, color=color, linestyle=":", label=label)
  default = next(b.size for b in profile.budgets if b.is_default) / 1e3
  for axes in (left, right):
    picture.bare(axes, "both")
    axes.axvline(default, color=picture.INK, linestyle="--", linewidth=0.9)
    axes.set_xlabel("L2 left to tensors (kB); dashed: as costed above")
    axes.legend(fontsize=8, frameon=False)
  left.set_ylim(bottom=0)
  picture.heading(left, "million cycles per image")
  picture.heading(right, "change of cycles against 8/8 (%)")
  return picture.svg(
    figure,
    "Cycles and their change against 8/8 over the L2 left to tensors, the "
    "default marked.",
  )


# ---- What they share


def _panels(profile, count, height):
  """A wide figure with panels below each other that share the layers."""
  layers = len(profile.layers)
  figure = picture.new(max(9.0, 2.0 + 0.32 * layers), height * count + 1.6)
  panels = figure.subplots(count, 1, sharex=True, sharey=True, squeeze=False)
  for axes in panels[:, 0]:
    picture.bare(axes)
  picture.upright(panels[-1, 0], profile.layers)
  return figure, panels[:, 0]


def _total(rows: Iterable[Cost]) -> int:
  return sum(cost.cycles for cost in rows)


def _spot(cost: Cost) -> tuple[float, float]:
  return cost.macs / cost.least_bytes, cost.macs / cost.cycles


def _said(cost: Cost) -> str:
  said = f"{cost.layer} at {cost.bits}: {cost.cycles:,} cycles"
  if cost.macs:
    said += f", {cost.macs / cost.cycles:.2f} MAC/cycle"
  return said + ", waits for L3" * bool(cost.l3)
