"""Pictures of what precision does: mixtures, gains, the L2 budget."""

from fbq.report import figures
from fbq.report.profile import PARTS, Profile
from fbq.report.profile_text import short

BITS = (2, 4, 8)
_NETWORKS = {
  "8/8": (figures.BLUE, "o-"),
  "4/4": (figures.AMBER, "s-"),
  "4/4+FB": (figures.VERMILION, "D-"),
}


def precision_png(profile: Profile) -> bytes:
  """Cycles over those at 8/8 for every mixture, by kind of layer and target."""
  from matplotlib.colors import TwoSlopeNorm

  kinds = profile.kinds()
  grids = {
    (target, kind): [
      [profile.relative(target, kind, a, w) for w in BITS] for a in BITS
    ]
    for target in profile.targets
    for kind in kinds
  }
  most = max(value for grid in grids.values() for row in grid for value in row)
  rows, columns = len(profile.targets), len(kinds)
  figure = figures.new(2.35 * columns + 1.6, 2.15 * rows + 0.7)
  panels = figure.subplots(rows, columns, squeeze=False)
  for row, target in zip(panels, profile.targets, strict=True):
    for axes, kind in zip(row, kinds, strict=True):
      grid = grids[target, kind]
      axes.imshow(
        grid,
        cmap="RdBu_r",
        norm=TwoSlopeNorm(1.0, 0.0, max(most, 1.5)),
        aspect="auto",
      )
      for i, values in enumerate(grid):
        for j, value in enumerate(values):
          axes.text(
            j,
            i,
            f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=9,
            color="white"
            if value < 0.25 or value > 0.45 + 0.55 * most
            else "black",
          )
      axes.set_xticks(range(3), BITS)
      axes.set_yticks(range(3), BITS)
      axes.tick_params(length=0)
      axes.spines[:].set_visible(False)
      if axes in panels[0]:
        axes.set_title(kind, fontsize=10)
      if axes in panels[-1]:
        axes.set_xlabel("weight bits")
      if axes is row[0]:
        axes.set_ylabel(f"{short(target)}\ninput bits", fontsize=9.5)
  figure.colorbar(
    panels[0, 0].images[0],
    ax=panels,
    label="cycles over those at 8/8",
    shrink=0.7,
    aspect=30,
  )
  return figures.png(figure)


def gains_png(profile: Profile, styles) -> bytes:
  """What layers save at higher precision, by cause.

  Args:
    styles: cause -> (colour, words), the same as in the picture of shares.
  """
  starts = list(dict.fromkeys(gain.start for gain in profile.gains))
  groups = [[g for g in profile.gains if g.start == start] for start in starts]
  heights = [len(group) + 1.5 for group in groups]
  figure = figures.new(9.5, 0.235 * sum(heights) + 1.0)
  panels = figure.subplots(
    len(starts), 1, height_ratios=heights, squeeze=False
  )[:, 0]
  for axes, start, group in zip(panels, starts, groups, strict=True):
    figures.bare(axes, "x")
    for i, gain in enumerate(group):
      ends = {True: 0.0, False: 0.0}  # of what is saved, of what is lost
      for part in PARTS:
        saved = gain.saved[part] / 1e3
        side = saved > 0
        axes.barh(
          i,
          saved,
          0.75,
          ends[side],
          color=styles[part][0],
          label=styles[part][1] if i == 0 else None,
        )
        ends[side] += saved
      axes.plot(
        sum(gain.saved.values()) / 1e3, i, "|", color="black", markersize=11
      )
    axes.set_yticks(
      range(len(group)),
      [f"{g.before.layer}  {bits(g.before)} to {bits(g.after)}" for g in group],
      fontsize=8,
    )
    axes.set_ylim(len(group) - 0.4, -0.6)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("thousand cycles saved (black line: in all)")
    axes.set_title(
      f"raised from uniform {start} on {short(profile.target)}",
      loc="left",
      fontsize=10,
      fontweight="bold",
    )
  handles, labels = panels[0].get_legend_handles_labels()
  figure.legend(
    handles,
    labels,
    loc="outside upper center",
    ncols=3,
    fontsize=8.5,
    frameon=False,
  )
  return figures.png(figure)


def bits(cost) -> str:
  """Input and weight bits, for instance '8/4'."""
  weights = "-" if cost.weight_bits is None else cost.weight_bits
  return f"{cost.in_bits}/{weights}"


def budget_png(profile: Profile) -> bytes:
  """Cycles, and their change against 8/8, over the L2 left to tensors."""
  figure = figures.new(10, 3.9)
  left, right = figure.subplots(1, 2)
  shown = [budget for budget in profile.budgets if budget.cycles]
  sizes = [budget.size / 1e3 for budget in shown]
  default = next(b.size for b in profile.budgets if b.is_default) / 1e3
  overridden = any(changed for _, _, changed in profile.constants)
  marked = "this target" if overridden else "default"
  for name, (color, style) in _NETWORKS.items():
    cycles = [budget.cycles[name] for budget in shown]
    left.plot(
      sizes, [n / 1e6 for n in cycles], style, color=color, markersize=4,
      label=name,
    )  # fmt: skip
    if name != "8/8":
      right.plot(
        sizes,
        [
          100 * (n / b.cycles["8/8"] - 1)
          for n, b in zip(cycles, shown, strict=True)
        ],
        style,
        color=color,
        markersize=4,
        label=name,
      )
      published = profile.whole(name).published
      if published is not None:
        right.axhline(
          100 * published,
          color=color,
          linestyle=":",
          linewidth=1.3,
          label=f"{name} published: {published:+.1%}",
        )
  left.set_ylabel("million cycles per image")
  left.set_ylim(bottom=0)
  right.set_ylabel("change of cycles against 8/8 (%)")
  for axes in (left, right):
    figures.bare(axes, "both")
    axes.axvline(
      default,
      color="black",
      linestyle="--",
      linewidth=0.9,
      label=f"{marked}: {default:g} kB",
    )
    axes.set_xlabel("L2 left to tensors (kB)")
    axes.legend(fontsize=8, frameon=False)
  left.set_title(short(profile.target), loc="left", fontsize=10)
  return figures.png(figure)
