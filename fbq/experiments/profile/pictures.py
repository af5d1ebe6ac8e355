"""Pictures of a profile: every mark tells its layer and its cycles."""

import numpy as np

from fbq.experiments.profile.costs import Cost, short
from fbq.experiments.profile.results import Profile
from fbq.report import picture

_COLORS = (picture.BLUE, picture.AMBER, picture.GREEN)
# Cause -> (colour, in words, in short).
_PARTS = {
  "compute": (picture.BLUE, "kernels: cores at work", "cores at work"),
  "waiting": (picture.SKY, "kernels: cores wait for the slowest", "waiting"),
  "dma": (picture.AMBER, "L2-L1 transfers not hidden", "DMA"),
  "overhead": (picture.GREY, "software of layers and tiles", "software"),
  "l3": (picture.VERMILION, "L3 transfers not hidden", "L3"),
}

_ENGINE = "jobs of NE16, and kernels of the cores", "jobs and kernels"


def layers(profile: Profile) -> str:
  """Cycles of every layer by precision, one panel per target."""
  figure, panels = _panels(profile, len(profile.networks), 2.1)
  names = [c.layer for c in profile.own["8/8"]]
  for axes, (target, networks) in zip(
    panels, profile.networks.items(), strict=True
  ):
    series = {f"uniform {name}": networks[name] for name in profile.uniform}
    totals = ", ".join(
      f"{sum(c.cycles for c in rows) / 1e6:.2f} at {name[8:]}"
      for name, rows in series.items()
    )
    if "8/4" not in profile.uniform:
      series["inputs 8, weights 4"] = tuple(
        c
        for c in profile.at_8.values()
        if (c.target, c.both) == (target, (8, 4))
      )
    colors = [*_COLORS, picture.VERMILION]
    for i, (name, rows) in enumerate(series.items()):
      at = [names.index(c.layer) + 0.2 * (i - 1.5) for c in rows]
      heights = [c.cycles / 1e6 for c in rows]
      bars = axes.bar(at, heights, 0.2, color=colors[i], label=name)
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
  figure, panels = _panels(profile, len(profile.uniform), 1.9)
  said_of = dict(_PARTS)
  if profile.has_engine:
    said_of["compute"] = _PARTS["compute"][0], *_ENGINE
  for axes, name in zip(panels, profile.uniform, strict=True):
    rows = profile.own[name]
    cycles = np.array([c.cycles for c in rows])
    base, said = np.zeros(len(rows)), []
    for part, (color, label, word) in said_of.items():
      parts = np.array([c.parts[part] for c in rows])
      heights = 100 * parts / cycles
      at = range(len(rows))
      bars = axes.bar(at, heights, 0.8, base, color=color, label=label)
      titles = [
        f"{c.layer}: {word} {height:.1f} %, {c.parts[part]:,} cycles"
        for c, height in zip(rows, heights, strict=True)
      ]
      picture.title(bars, titles)
      base += heights
      said.append(f"{100 * parts.sum() / cycles.sum():.0f} % {word}")
    axes.set(ylim=(0, 100), ylabel="% of layer")
    summed = f"{cycles.sum() / 1e6:.2f} million cycles; {', '.join(said)}"
    picture.heading(axes, f"uniform {name}: {summed}")
  picture.legend(figure, panels[0], 3)
  return picture.svg(
    figure,
    "Share of kernels, waiting cores, transfers, software and L3 in the cycles "
    "of each layer.",
  )


def _colors(profile: Profile) -> dict[str, str]:
  """Colour of every uniform network."""
  return dict(zip(profile.uniform, _COLORS, strict=True))


def roofline(profile: Profile) -> str:
  """MAC/cycle over MAC per byte that must move."""
  figure = picture.new(9, 5.2)
  axes = figure.subplots()
  picture.bare(axes, "both")
  for name, color in _colors(profile).items():
    rows = [c for c in profile.own[name] if c.macs]
    dots = axes.scatter(
      [c.macs / c.least_bytes for c in rows],
      [c.macs / c.cycles for c in rows],
      s=26,
      color=color,
      linewidths=[1.1 if c.l3 else 0.4 for c in rows],
      edgecolors=[picture.INK if c.l3 else picture.PAGE for c in rows],
      zorder=3,
      label=f"uniform {name}",
    )
    picture.title(dots, list(map(_said, rows)))
  highest = 1.7 * max(profile.peaks["conv"].values())
  axes.set(xscale="log", yscale="log")
  axes.set(xlim=axes.get_xlim(), ylim=(axes.get_ylim()[0], highest))

  # Roofs: transfers bound from the left, inner loops from above.
  left, right = axes.get_xlim()
  both_ways = 2 * profile.constant("dma_bytes_per_cycle")  # in and out
  for label, style, slope in (
    (f"DMA, {both_ways / 2:g} B/cycle each way", "-", both_ways),
    ("L3", "--", profile.constant("l3_bytes_per_cycle")),
  ):
    ends = [slope * left, slope * right]
    axes.plot([left, right], ends, style, color=picture.INK, label=label)
  roofs = [
    (name, peak, _colors(profile)[name])
    for name, peak in profile.peaks["conv"].items()
  ]
  if "depthwise" in profile.kinds:
    peak = max(profile.peaks["depthwise"].values())
    roofs.append(("depthwise", peak, picture.SOFT))
  for name, peak, color in roofs:
    ends = [peak / both_ways, right]  # from where transfers cease to bound
    axes.plot(ends, [peak, peak], color=color, linewidth=1.4)
    what = "array" if profile.has_engine else "inner loop"
    said = f"{what}, {name}: {peak:.1f} MAC/cycle "
    style = dict(ha="right", va="bottom", fontsize=8, color=color)
    picture.halo(axes.text(right, 1.02 * peak, said, **style))
  axes.set_xlabel("MAC per byte (input, weights and output once)")
  axes.set_ylabel("MAC/cycle, all cores")
  picture.legend(figure, axes, 5, "lower center")
  return picture.svg(
    figure,
    "MAC per cycle over MAC per byte for each layer, under the peaks of the "
    "inner loops and of the transfers.",
  )


def _panels(profile, count, height):
  """A wide figure with panels below each other that share the layers."""
  names = [c.layer for c in profile.own["8/8"]]
  wide = max(9.0, 2.0 + 0.32 * len(names))
  figure = picture.new(wide, height * count + 1.6)
  panels = figure.subplots(count, 1, sharex=True, sharey=True, squeeze=False)
  for axes in panels[:, 0]:
    picture.bare(axes)
  picture.upright(panels[-1, 0], names)
  return figure, panels[:, 0]


def _said(cost: Cost) -> str:
  said = f"{cost.layer} at {cost.bits}: {cost.cycles:,} cycles"
  if cost.macs:
    said += f", {cost.macs / cost.cycles:.2f} MAC/cycle"
  return said + ", waits for L3" * bool(cost.l3)
