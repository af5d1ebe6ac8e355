"""Pictures of an exact choice: what harms, and the whole front."""

from fbq.experiments.exact.results import Chosen
from fbq.report import labels, picture

_COLORS = (picture.VERMILION, picture.AMBER, picture.SKY, picture.BLUE)


def harms(results: Chosen) -> str:
  """SVG: harm of every precision of every tensor alone, by tensor."""
  sites = list(results.harm)
  figure = picture.new(max(9.0, 2.0 + 0.26 * len(sites)), 4.4)
  axes = figure.subplots()
  picture.bare(axes, "both")
  bits = sorted({b for by_bits in results.harm.values() for b in by_bits})
  positive = [h for by in results.harm.values() for h in by.values() if h > 0]
  for i, b in enumerate(bits):
    found = [
      (n, site, results.harm[site][b])
      for n, site in enumerate(sites)
      if b in results.harm[site]
    ]
    dots = axes.scatter(
      [n for n, *_ in found],
      [harm for *_, harm in found],
      s=24,
      color=_COLORS[min(i, len(_COLORS) - 1)],
      zorder=3,
      label=f"{b} bits",
    )
    picture.title(dots, [f"{s} at {b} bits: harm {h:.3g}" for _, s, h in found])

  # Harms differ by powers of ten, and some are nothing at all, or a gain
  axes.set_yscale("symlog", linthresh=min(positive, default=1.0))
  axes.set_ylabel(f"harm ({results.measure}), alone")
  picture.upright(axes, sites)
  picture.legend(figure, axes, len(bits))
  return picture.svg(
    figure, "Harm of every precision of every tensor alone; the table has it."
  )


def front(results: Chosen) -> tuple[str, str]:
  """(SVG: sum of harms over cycles of the front and the choices, a note)."""
  figure = picture.new(9, 4.2)
  axes = figure.subplots()
  picture.bare(axes, "both")
  cycles, harm = zip(*results.front, strict=True)
  axes.step(
    cycles, harm, where="post", color=picture.GREEN, linewidth=0.9, alpha=0.7
  )
  [line] = axes.plot(
    cycles,
    harm,
    "o",
    color=picture.GREEN,
    markersize=3,
    label=f"front: {len(cycles):,} assignments",
  )
  picture.title(line, [f"{c:,} cycles, harm {h:.4g}" for c, h in results.front])

  # What was taken of it, and what is proven of that
  chosen = [p for p in results.assignments.points if "harm" in p.detail]
  found = {(one.cycles, one.harm): one for one in results.certificates}
  if found:
    xs, ys = zip(*found, strict=True)
    [stars] = axes.plot(
      xs, ys, "D", color=picture.VERMILION, markersize=6, label="chosen"
    )
    picture.title(
      stars, [f"budget {c.budget:,} cycles: harm {c.harm:.4g}"
              for c in found.values()]
    )  # fmt: skip
  proven = [(c.budget, c.bound) for c in found.values() if c.bound is not None]
  if proven:
    [bounds] = axes.plot(
      [budget for budget, _ in proven],
      [bound for _, bound in proven],
      "_",
      color=picture.INK,
      markersize=11,
      label="proven: no less harm within the budget",
    )
    picture.title(
      bounds,
      [f"budget {b:,}: harm at least {bound:.4g}" for b, bound in proven],
    )
  axes.set_xlabel("cycles per image")
  axes.set_ylabel(f"sum of harms ({results.measure})")
  axes.xaxis.set_major_formatter("{x:,.0f}")
  picture.legend(figure, axes, 3, "lower center")
  named = {p.cycles: p.name for p in chosen}
  unnamed = labels.place(
    axes,
    [
      labels.Label(named[c.cycles], c.cycles, c.harm, picture.VERMILION)
      for c in found.values()
      if c.cycles in named
    ],
    [(c.cycles, c.harm) for c in found.values()],
  )
  svg = picture.svg(
    figure,
    "Sum of harms over cycles of the exact front, and the choice under every "
    "budget; surrogate_front.csv has its numbers.",
  )
  text = "Every mark tells its numbers to the mouse."
  if unnamed:
    text += f" There was no room for the names of {', '.join(unnamed)}."
  return svg, text
