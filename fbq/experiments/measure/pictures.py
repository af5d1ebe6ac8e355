"""Pictures of a measurement: every mark tells its layer and its time."""

from fbq.experiments.measure.results import Chosen, Measured
from fbq.report import picture

_KINDS = {8: "int8", 32: "float", 4: "int4"}


def layers(results: Measured) -> str:
  """Microseconds of every layer in integers and in float."""
  names = [row.layer for row in results.layers]
  figure = picture.new(max(9.0, 2.0 + 0.24 * len(names)), 3.8)
  axes = figure.subplots()
  picture.bare(axes)
  for i, (label, color, times) in enumerate(
    (
      ("int8", picture.BLUE, [row.int8_us for row in results.layers]),
      ("float", picture.AMBER, [row.float_us for row in results.layers]),
    )
  ):
    at = [x + 0.4 * (i - 0.5) for x in range(len(names))]
    bars = axes.bar(at, times, 0.4, color=color, label=label)
    picture.title(
      bars,
      [
        f"{name} in {label}: {time:,.0f} µs"
        for name, time in zip(names, times, strict=True)
      ],
    )
  axes.set_ylabel("µs")
  picture.upright(axes, names)
  picture.legend(figure, axes, 2)
  return picture.svg(figure, "Time of every layer in int8 and in float.")


def kinds(results: Measured) -> str:
  """Which layers each chosen network computes in what."""
  names = [row.layer for row in results.layers]
  chosen = results.networks[2:]
  figure = picture.new(max(9.0, 2.0 + 0.24 * len(names)), 2.6)
  axes = figure.subplots()
  colors = {8: picture.BLUE, 32: picture.AMBER, 4: picture.GREEN}
  for kind, color in colors.items():
    places = [
      (x, y)
      for y, network in enumerate(chosen)
      for x, row in enumerate(results.layers)
      if row.kinds[network.name] == kind
    ]
    if not places:
      continue
    across, up = zip(*places, strict=True)
    dots = axes.scatter(
      across, up, s=46, marker="s", color=color, label=_KINDS[kind]
    )
    said = [f"{names[x]}: {_KINDS[kind]}, {chosen[y].name}" for x, y in places]
    picture.title(dots, said)
  picture.bare(axes, "x")
  axes.set_yticks(range(len(chosen)), [row.name for row in chosen])
  axes.set_ylim(len(chosen) - 0.5, -0.5)
  picture.upright(axes, names)
  picture.legend(figure, axes, 3)
  return picture.svg(figure, "Kind of every layer in the chosen networks.")


def predictions(results: Measured) -> str:
  """Measured over predicted times of mixtures and of chosen networks."""
  figure = picture.new(5.6, 4.2)
  axes = figure.subplots()
  picture.bare(axes, "both")
  mixtures = results.mixtures
  dots = axes.scatter(
    [p / 1e3 for p, _ in mixtures],
    [m / 1e3 for _, m in mixtures],
    s=26,
    color=picture.GREY,
    label="random mixtures, predicted by the others",
  )
  picture.title(
    dots, [f"predicted {p:,.0f} µs, measured {m:,.0f} µs" for p, m in mixtures]
  )
  networks = results.networks
  axes.errorbar(
    [row.predicted_us / 1e3 for row in networks],
    [row.measured_us / 1e3 for row in networks],
    xerr=[row.half_width_us / 1e3 for row in networks],
    fmt="none",
    ecolor=picture.SOFT,
    linewidth=0.9,
  )
  dots = axes.scatter(
    [row.predicted_us / 1e3 for row in networks],
    [row.measured_us / 1e3 for row in networks],
    s=36,
    color=picture.BLUE,
    zorder=3,
    label="uniform and chosen networks, with the 90 % interval",
  )
  picture.title(dots, list(map(_said, networks)))
  low, high = axes.get_xlim()
  axes.plot([low, high], [low, high], "--", color=picture.INK, linewidth=0.8)
  axes.set(xlim=(low, high), xlabel="predicted, ms", ylabel="measured, ms")
  picture.legend(figure, axes, 1)
  return picture.svg(figure, "Measured over predicted times of networks.")


def _said(row: Chosen) -> str:
  return (
    f"{row.name}: predicted {row.predicted_us:,.0f} µs, measured "
    f"{row.measured_us:,.0f} µs"
  )
