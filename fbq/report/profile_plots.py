"""Pictures of a profile: layers, causes, roofline."""

from fbq.report import figures, profile_effects
from fbq.report.profile import PARTS, UNIFORM, Profile
from fbq.report.profile_text import short

COLORS = dict(
  zip(UNIFORM, (figures.BLUE, figures.AMBER, figures.GREEN), strict=True)
)
_NARROW = "8/4"
_PART_STYLES = {
  "compute": (figures.BLUE, "kernels: cores at work"),
  "waiting": (figures.SKY, "kernels: cores wait for the slowest"),
  "dma": (figures.AMBER, "L2-L1 transfers not hidden"),
  "overhead": (figures.GREY, "software of layers and tiles"),
  "l3": (figures.VERMILION, "L3 transfers not hidden"),
}
_MARKERS = {
  "convolution": "s",
  "pointwise": "o",
  "depthwise": "^",
  "linear": "D",
}


def pictures(profile: Profile) -> dict[str, bytes]:
  """Every picture of a profile as a PNG, by name."""
  drawn = {
    "layers": layers_png(profile),
    "shares": shares_png(profile),
    "roofline": roofline_png(profile),
    "precision": profile_effects.precision_png(profile),
    "l2_budget": profile_effects.budget_png(profile),
  }
  if profile.gains:
    drawn["higher"] = profile_effects.gains_png(profile, _PART_STYLES)
  return drawn


def layers_png(profile: Profile) -> bytes:
  """Cycles of every layer by precision, one panel per target."""
  bars = {
    name: {t: list(profile.uniform[t, name]) for t in profile.targets}
    for name in UNIFORM
  }
  narrow = {
    (cost.target, cost.layer): cost.cycles
    for cost in profile.costs
    if (cost.in_bits, cost.weight_bits) == (8, 4)
  }
  count = len(profile.layers)
  figure = figures.new(_width(count), 2.1 * len(profile.targets) + 1.6)
  panels = figure.subplots(
    len(profile.targets), 1, sharex=True, sharey=True, squeeze=False
  )[:, 0]
  for axes, target in zip(panels, profile.targets, strict=True):
    figures.bare(axes)
    for offset, name in enumerate(UNIFORM):
      axes.bar(
        [i + 0.2 * (offset - 1.5) for i in range(count)],
        [cost.cycles / 1e6 for cost in bars[name][target]],
        0.2,
        color=COLORS[name],
        label=f"uniform {name}",
      )
    there = [
      (i, narrow[target, layer] / 1e6)
      for i, layer in enumerate(profile.layers)
      if (target, layer) in narrow
    ]
    axes.bar(
      [i + 0.3 for i, _ in there],
      [cycles for _, cycles in there],
      0.2,
      color=figures.VERMILION,
      label="inputs 8, weights 4",
    )
    axes.set_ylabel("million cycles")
    totals = ", ".join(
      f"{sum(cost.cycles for cost in bars[name][target]) / 1e6:.2f} at {name}"
      for name in UNIFORM
    )
    axes.set_title(
      f"{short(target)}: {totals} million cycles in all",
      loc="left",
      fontsize=9.5,
    )
  panels[-1].set_xticks(range(count), profile.layers, rotation=90, fontsize=8)
  panels[-1].set_xlim(-0.6, count - 0.4)
  _legend(figure, panels[0], 4)
  return figures.png(figure)


def shares_png(profile: Profile) -> bytes:
  """Where the cycles of each layer go, in the uniform networks."""
  count = len(profile.layers)
  figure = figures.new(_width(count), 1.9 * len(UNIFORM) + 1.6)
  panels = figure.subplots(len(UNIFORM), 1, sharex=True, sharey=True)
  for axes, name in zip(panels, UNIFORM, strict=True):
    figures.bare(axes)
    rows = profile.uniform[profile.target, name]
    base = [0.0] * count
    for part in PARTS:
      color, label = _PART_STYLES[part]
      heights = [100 * row.parts[part] / row.cycles for row in rows]
      axes.bar(range(count), heights, 0.8, base, color=color, label=label)
      base = [b + h for b, h in zip(base, heights, strict=True)]
    total = sum(row.cycles for row in rows)
    parts = {part: sum(row.parts[part] for row in rows) for part in PARTS}
    axes.set_title(
      f"uniform {name}: {total / 1e6:.2f} million cycles; "
      + ", ".join(
        f"{100 * n / total:.0f} % {_SHORT[part]}" for part, n in parts.items()
      ),
      loc="left",
      fontsize=9.5,
    )
    axes.set_ylim(0, 100)
    axes.set_ylabel("% of layer")
  panels[-1].set_xticks(range(count), profile.layers, rotation=90, fontsize=8)
  panels[-1].set_xlim(-0.6, count - 0.4)
  _legend(figure, panels[0], 3)
  return figures.png(figure)


_SHORT = {
  "compute": "cores at work",
  "waiting": "waiting",
  "dma": "DMA",
  "overhead": "software",
  "l3": "L3",
}


def roofline_png(profile: Profile) -> bytes:
  """MAC/cycle over MAC per byte that must move, one panel per target."""
  figure = figures.new(4.3 * len(profile.targets), 4.9)
  panels = figure.subplots(
    1, len(profile.targets), sharex=True, sharey=True, squeeze=False
  )[0]
  points = [
    cost for rows in profile.uniform.values() for cost in rows if cost.macs
  ]
  intensities = [cost.macs / cost.least_bytes for cost in points]
  rates = [cost.macs / cost.cycles for cost in points]
  left, right = min(intensities) / 1.6, max(intensities) * 1.6
  top = max(profile.peaks.values()) * 1.7
  for axes, target in zip(panels, profile.targets, strict=True):
    figures.bare(axes, "both")
    axes.set_xscale("log")
    axes.set_yscale("log")
    both_ways = 2 * profile.dma_bytes_per_cycle
    l3 = profile.l3_bytes_per_cycle
    for slope, style, label in (
      (both_ways, "-", f"DMA, {both_ways / 2:g} B/cycle each way"),
      (l3, "--", f"L3, {l3:g} B/cycle"),
    ):
      axes.plot(
        [left, right],
        [slope * left, slope * right],
        style,
        color="black",
        linewidth=1,
        label=label,
      )
    axes.set_xlim(left, right)
    axes.set_ylim(min(rates) / 1.6, top)
    _roofs(axes, profile, target, both_ways, right)
    for name in UNIFORM:
      for kind, marker in _MARKERS.items():
        group = [
          cost for cost in profile.uniform[target, name] if cost.kind == kind
        ]
        axes.scatter(
          [cost.macs / cost.least_bytes for cost in group],
          [cost.macs / cost.cycles for cost in group],
          22,
          color=COLORS[name],
          marker=marker,
          linewidths=[1.1 if cost.l3 else 0.4 for cost in group],
          edgecolors=["black" if cost.l3 else "white" for cost in group],
          zorder=3,
        )
    axes.set_title(short(target), loc="left", fontsize=10, fontweight="bold")
    axes.set_xlabel("MAC per byte (input, weights and output once)")
  panels[0].set_ylabel("MAC/cycle, 8 cores")
  _roofline_legend(figure, panels[0], {cost.kind for cost in points})
  return figures.png(figure)


def _roofs(axes, profile, target, bytes_per_cycle, right):
  """Peaks of inner loops, named where the transfers begin to bound."""
  peaks = {name: profile.peaks[target, "conv", name] for name in UNIFORM}
  for name, peak in peaks.items():
    # Named below where another roof lies close above.
    crowded = any(1 < other / peak < 1.5 for other in peaks.values())
    axes.plot(
      [peak / bytes_per_cycle, right],
      [peak] * 2,
      color=COLORS[name],
      linewidth=1.4,
    )
    axes.annotate(
      f"{name} inner loop: {peak:.1f}",
      (max(peak / bytes_per_cycle, axes.get_xlim()[0]), peak),
      xytext=(14, -3 if crowded else 2),
      textcoords="offset points",
      va="top" if crowded else "bottom",
      fontsize=7.5,
      color=COLORS[name],
    )
  depthwise = [
    cost.macs / cost.least_bytes
    for cost in profile.uniform[target, "2/2"]
    if cost.kind == "depthwise"
  ]
  if depthwise:
    peak = max(profile.peaks[target, "depthwise", name] for name in UNIFORM)
    ends = [peak / bytes_per_cycle, 2 * max(depthwise)]
    axes.plot(ends, [peak] * 2, color="#555555", linewidth=1.2)
    axes.annotate(
      f"depthwise: {peak:.1f}",
      (ends[1], peak),
      xytext=(2, 0),
      textcoords="offset points",
      va="center",
      fontsize=7.5,
      color="#555555",
    )


def _roofline_legend(figure, axes, kinds):
  from matplotlib.lines import Line2D

  handles, _ = axes.get_legend_handles_labels()

  def dot(marker, color, label, edge="white"):
    return Line2D(
      [], [], linestyle="none", marker=marker, color=color,
      markeredgecolor=edge, markersize=6.5, label=label,
    )  # fmt: skip

  handles += [dot("o", COLORS[name], f"uniform {name}") for name in UNIFORM]
  handles += [
    dot(marker, "#555555", kind)
    for kind, marker in _MARKERS.items()
    if kind in kinds
  ]
  handles.append(dot("o", "#ffffff", "black edge: waits for L3", "black"))
  figure.legend(
    handles=handles,
    loc="outside lower center",
    ncols=5,
    fontsize=8,
    frameon=False,
  )


def _width(count):
  """Inches for a number of layers, so that their names can be read."""
  return max(9.0, 2.0 + 0.32 * count)


def _legend(figure, axes, columns):
  handles, labels = axes.get_legend_handles_labels()
  figure.legend(
    handles,
    labels,
    loc="outside upper center",
    ncols=columns,
    fontsize=8.5,
    frameon=False,
  )
