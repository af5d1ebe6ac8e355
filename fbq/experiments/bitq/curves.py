"""Figures 5 and 6 of the paper: energy by format, and what alpha decides."""

from fbq.experiments.bitq.results import BitQResults, at_alpha
from fbq.report import picture

FIGURE_5 = (
  "Eq. 8, means over seeds, as shares of FP32's. The paper tells of BitQ16 "
  "0.48, 0.38, 0.42, 0.67 and of BitQ8 0.18, 0.13, 0.17, 0.15 (classification, "
  "detection, instance and semantic segmentation), read as shares: what it "
  "calls savings of 0.52 and 0.82, and so on. 0.67 is more than 16 bits in "
  "place of 32 take by themselves."
)
FIGURE_6 = (
  "Predicted optima, trained; means over seeds. The paper finds the same "
  "energy from 0.05 to 3 and the same accuracy from 0.015 to 3, at 8 bits from "
  "0.15 to 1.5."
)
_COLOURS = picture.BLUE, picture.VERMILION, picture.GREEN, picture.PURPLE


def energy(results: BitQResults) -> str:
  """SVG: energy of published formats and BitQ beside FP32."""
  study = results.studies[0]
  roles = [n.name for n in study.networks if n.family == "published"]
  roles += [f"{word.name} recommended" for word in study.words]
  share = lambda role: results.over_seeds(
    role, lambda n, fp32: n.moves.joules / fp32.moves.joules
  )
  shares = {role: share(role).value for role in roles}
  roles.sort(key=lambda role: -shares[role])
  ours = {f"{word.name} recommended" for word in study.words}
  figure = picture.new(7.2, 3.6)
  axes = figure.subplots()
  picture.bare(axes)
  bars = axes.bar(
    range(len(roles)),
    [shares[role] for role in roles],
    0.7,
    color=[picture.BLUE if role in ours else picture.GREY for role in roles],
  )
  picture.title(
    tuple(bars),
    [
      f"{role}: {shares[role]:.3f} of FP32, "
      f"{1e6 * study.by_role[role].moves.joules:.1f} µJ (seed {study.seed})"
      for role in roles
    ],
  )
  picture.upright(axes, roles)
  axes.set_ylabel("energy, share of FP32's")
  return picture.svg(figure, "Energy of every format as a share of FP32's.")


def alphas(results: BitQResults) -> str:
  """SVG: metric and energy of the optima over alpha, a line for each word."""
  figure = picture.new(8.4, 3.2)
  left, right = figure.subplots(1, 2)
  study = results.studies[0]
  for colour, word in zip(_COLOURS, study.words, strict=False):
    values = sorted({o.alpha for o in word.optima})
    at = range(len(values))
    tested = [results.test(at_alpha(word.name, a)) for a in values]
    metric = [100 * one.value for one in tested if one is not None]
    shares = [
      results.over_seeds(
        at_alpha(word.name, a),
        lambda n, fp32: n.moves.joules / fp32.moves.joules,
      ).value
      for a in values
    ]
    for axes, numbers in ((left, metric), (right, shares)):
      (line,) = axes.plot(
        at, numbers, color=colour, marker="o", markersize=5, label=word.name
      )
      picture.title(
        line,
        [
          f"{word.name}, alpha {a:g}: {number:.3f}"
          for a, number in zip(values, numbers, strict=True)
        ],
      )
      axes.set_xticks(at, [f"{a:g}" for a in values])
  for axes, name in (
    (left, f"test {results.metric} (%)"),
    (right, "energy, share of FP32's"),
  ):
    picture.bare(axes)
    axes.set_xlabel("alpha")
    axes.set_ylabel(name)
  picture.legend(figure, left, 4)
  return picture.svg(
    figure, "Metric and energy of the predicted optima over alpha."
  )
