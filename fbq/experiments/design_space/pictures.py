"""Pictures of a design space: heat map, fronts, worth of assumptions."""

from fbq.experiments.design_space.results import Doubt, Space, named, shown
from fbq.report import picture

_FRONTS = (picture.INK, picture.GREEN, picture.BLUE, picture.VERMILION)
_LETTERS = 100  # cells up to which each is told its number in letters


def heat(space: Space) -> str:
  """Cycles of the best assignment over the two fields of most values."""
  places = sorted(
    range(len(space.fields)), key=lambda i: -len([*space.fields.values()][i])
  )
  names = [[*space.fields][i] for i in places[:2]]

  def split(design):
    own = [design.values[i] for i in places]
    return tuple(own[:2]), own[2:]

  rest = split(space.running[0])[1]
  cells = {
    split(design)[0]: design
    for design in space.running
    if split(design)[1] == rest
  }
  across = space.fields[names[0]]
  up = space.fields[names[1]] if len(names) > 1 else ("",)
  figure = picture.new(9, 1.6 + min(5.5, 0.35 * len(up) + 0.3))
  axes = figure.subplots()
  found = [design.fastest / 1e6 for design in cells.values()]
  low, high = min(found), max(found)

  # A bar a cell, so that each tells its numbers
  for i, x in enumerate(across):
    for j, y in enumerate(up):
      key = (x, y) if len(names) > 1 else (x,)
      if (design := cells.get(key)) is None:
        continue
      share = (design.fastest / 1e6 - low) / ((high - low) or 1)
      [bar] = axes.bar(i, 1, 1, j - 0.5, color=_color(share), linewidth=0)
      picture.title(
        bar,
        f"{named(space, design)}: {design.best:,} cycles, {design.change:+.1%} "
        f"against 8/8, {space.differing(design)} tensors differ",
      )
      if len(across) * len(up) <= _LETTERS:
        axes.text(
          *(i, j, f"{design.fastest / 1e6:.3g}"),
          ha="center",
          va="center",
          fontsize=8,
          color=picture.DARK_LETTERS if share < 0.5 else picture.LIGHT_LETTERS,
        )

  # Not more names than there is room for
  for axis, values, most in ((axes.xaxis, across, 14), (axes.yaxis, up, 16)):
    step = -(-len(values) // most)
    places = range(0, len(values), step)
    labels = [shown(values[i]) for i in places]
    axis.set_ticks(places, labels, parse_math=False, fontsize=8)
  axes.tick_params(axis="x", rotation=30)
  axes.set(xlim=(-0.5, len(across) - 0.5), ylim=(-0.5, len(up) - 0.5))
  axes.spines[:].set_visible(False)
  axes.set_xlabel(names[0])
  axes.set_ylabel(names[1] if len(names) > 1 else "")
  picture.heading(
    axes,
    f"million cycles of the best assignment: {low:.3g} (pale) to {high:.3g}; "
    "empty: a layer does not fit",
  )
  return picture.svg(
    figure, f"Cycles of the best assignment by {' and '.join(names)}"
  )


def _color(share: float) -> str:
  """From pale to blue; both schemes show it on a ground of its own."""
  ends = (0xE8, 0xF1, 0xF8), (0x00, 0x4C, 0x80)
  mixed = (round(a + share * (b - a)) for a, b in zip(*ends, strict=True))
  return "#" + "".join(f"{part:02x}" for part in mixed)


def fronts(space: Space) -> str:
  """The proxy of accuracy over cycles, of the target and of a few designs."""
  figure = picture.new(9, 4)
  axes = figure.subplots()
  picture.bare(axes, "both")
  for front, color in zip(space.fronts, _FRONTS, strict=False):
    cycles = [c / 1e6 for c in front.cycles]
    [line] = axes.plot(
      cycles,
      front.harm,
      "o-",
      color=color,
      markersize=2.5,
      linewidth=0.9,
      label=front.name,
    )
    picture.title(
      line,
      [
        f"{front.name}: {c:,} cycles, {harm:.4g}"
        for c, harm in zip(front.cycles, front.harm, strict=True)
      ],
    )
  for name, harm in space.levels.items():
    axes.axhline(harm, color=picture.GRID, linewidth=1)
    picture.halo(
      axes.text(
        1,
        harm,
        f"{name} ",
        transform=axes.get_yaxis_transform(),
        ha="right",
        va="bottom",
        fontsize=8,
        color=picture.SOFT,
      )  # fmt: skip
    )
  if all(harm > 0 for front in space.fronts for harm in front.harm):
    axes.set_yscale("log")
  axes.set_xlabel("million cycles")
  axes.set_ylabel("proxy of lost accuracy")
  picture.legend(figure, axes, 2, "lower center")
  return picture.svg(figure, "Proxy of lost accuracy over cycles, exact fronts")


def worths(doubt: Doubt) -> str:
  """Change of cycles from end to end of every range, the largest on top."""
  found = [w for w in doubt.worths if w.swing][::-1]
  figure = picture.new(9, 0.9 + 0.28 * max(len(found), 1))
  axes = figure.subplots()
  picture.bare(axes, "x")
  bars = axes.barh(
    range(len(found)),
    [w.swing / 1e6 for w in found],
    color=[picture.VERMILION if w.swing > 0 else picture.BLUE for w in found],
  )
  picture.title(
    bars,
    [f"{w.name}: {w.swing:+,} cycles, {w.points:+.2f} points" for w in found],
  )
  axes.set_yticks(
    range(len(found)), [w.name for w in found], fontsize=8, parse_math=False
  )
  axes.axvline(0, color=picture.INK, linewidth=0.8)
  axes.set_xlabel("million cycles from the low to the high end of the range")
  return picture.svg(figure, "What each assumption is worth in cycles")
