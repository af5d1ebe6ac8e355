"""The picture of the page: how far from the float network, over what cost."""

from fbq.experiments.compress.results import Compressed
from fbq.report import picture, records
from fbq.report.records import Point

# What budgets are of -> (heading, order, unit, name of the axis)
AXES = {
  "cycles": ("cycles", "fastest", 1e6, "cycles per input (millions)"),
  "weight_bytes": ("flash", "smallest", 1e3, "weights (kB)"),
  "peak_activation_bytes": ("L2", "leanest", 1e3, "activations at once (kB)"),
}


def front(results: Compressed) -> str:
  """An SVG of every assignment, the recommended one as a star."""
  figure = picture.new(9, 4.6)
  axes = figure.subplots()
  picture.bare(axes, "both")
  found = results.assignments
  best = found.best.point
  _, _, scale, name = AXES[found.cost]
  styles = (
    ("search", "o", picture.BLUE, "chosen exactly under a budget"),
    ("baseline", "s", picture.SOFT, "the same bits everywhere"),
  )

  def place(p):  # On a logarithmic axis 0 has no place
    cost = records.cost_of(p, found.cost) / scale
    return cost, max(results.closeness[p.name].validation_kl, 1e-6)

  for kind, marker, color, label in styles:
    group = [p for p in found.points if p.kind == kind]
    if group:
      xs, ys = zip(*map(place, group), strict=True)
      [line] = axes.plot(
        xs, ys, marker, color=color, markersize=7, label=label, zorder=3
      )
      picture.title(line, [_said(results, p) for p in group])
  [star] = axes.plot(
    *place(best),
    "*",
    color=picture.AMBER,
    markeredgecolor=picture.INK,
    markersize=16,
    label="recommended",
    zorder=4,
  )
  picture.title(star, [f"recommended: {_said(results, best)}"])
  axes.set_yscale("log")
  axes.set_xlabel(name)
  axes.set_ylabel("KL divergence from float (nats)")
  picture.heading(axes, f"{found.network} on {found.target}")
  picture.legend(figure, axes, 3, "lower center")
  return picture.svg(figure, f"KL divergence from float over {name}")


def _said(results: Compressed, point: Point) -> str:
  close = results.closeness[point.name]
  return (
    f"{point.name}: {point.cycles:,} cycles, "
    f"{point.weight_bytes / 1e3:.1f} kB, {close.kl:.2g} nats, "
    f"{close.agreement:.2%} of float's classes"
  )
