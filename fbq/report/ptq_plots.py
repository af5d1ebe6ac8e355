"""Pictures of post-training quantization."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fbq.report import figures
from fbq.report.shootout import Mean

_CASES = (
  ("unfolded", False, figures.SKY, "o", "one range, not folded"),
  ("folded", False, figures.VERMILION, "o", "one range, folded"),
  ("equalized", False, figures.AMBER, "o", "one range, equalized"),
  ("folded", True, figures.BLUE, "s", "range per channel, folded"),
)
_LEAST_KL = 1e-7  # nats; less is drawn there


def recipes(
  best: Sequence[tuple[str, str, Mean, bool]], in_float: Mean
) -> bytes:
  """A PNG: accuracy of the best recipe of each pair of bit-widths.

  Args:
    best: (pair, name of the recipe, accuracy, whether it is recommended).
    in_float: accuracy of the float network.
  """
  figure = figures.new(8.6, 0.8 + 0.55 * len(best))
  axes = figure.subplots()
  figures.bare(axes, "x")
  for place, (_, name, accuracy, is_used) in enumerate(best):
    color = figures.GREEN if is_used else figures.BLUE
    error = 0.0 if math.isnan(accuracy.error) else accuracy.error
    axes.errorbar(
      100 * accuracy.value,
      -place,
      xerr=100 * error,
      fmt="o",
      color=color,
      elinewidth=1.5,
      markersize=7,
    )
    axes.annotate(
      name.partition(", ")[2],
      (100 * accuracy.value, -place),
      xytext=(0, 8),
      textcoords="offset points",
      ha="center",
      fontsize=7.5,
      color="#444444",
    )
  axes.axvline(100 * in_float.value, color="#444444", linewidth=1)
  axes.annotate(
    " float",
    (100 * in_float.value, -len(best) + 0.55),
    fontsize=8,
    color="#444444",
  )
  axes.set_yticks(
    [-place for place in range(len(best))], [widths for widths, *_ in best]
  )
  axes.set_ylim(-len(best) + 0.4, 0.7)
  low = min(accuracy.value for _, _, accuracy, _ in best)
  high = max(in_float.value, *(accuracy.value for _, _, accuracy, _ in best))
  margin = 0.6 * (high - low) + 0.01  # room for the names
  axes.set_xlim(100 * (low - margin), 100 * (high + margin))
  axes.set_xlabel("test accuracy (%)")
  return figures.png(figure)


def ratios(
  tables: Mapping[str, Sequence[Mapping[str, Any]]], bits: int
) -> bytes:
  """A PNG: decibels that the weights of each layer keep at `bits` bits.

  Args:
    tables: {"unfolded" | "folded" | "equalized": rows of `sqnr.report`}.
    bits: of the rows to show.
  """
  names = list(dict.fromkeys(row["layer"] for row in tables["folded"]))
  figure = figures.new(max(8.6, 0.3 * len(names)), 3.6)
  axes = figure.subplots()
  figures.bare(axes)
  for case, per_channel, color, marker, label in _CASES:
    found = {
      row["layer"]: row["decibels"]
      for row in tables[case]
      if row["bits"] == bits and row["per_channel"] == per_channel
    }
    values = [found[name] for name in names]
    axes.plot(
      range(len(names)),
      [value if math.isfinite(value) else math.nan for value in values],
      marker=marker,
      markersize=4,
      linewidth=1.2,
      color=color,
      label=label,
    )
  _name_layers(axes, names)
  axes.set_ylabel(f"SQNR of weights, {bits} bits (dB)")
  axes.legend(frameon=False, fontsize=8, ncols=2)
  return figures.png(figure)


def sensitivities(
  weights: Mapping[str, float], activations: Mapping[str, float]
) -> bytes:
  """A PNG: how far each tensor alone at few bits moves the outputs.

  Args:
    weights, activations: {site: KL divergence in nats}.
  """
  names = list(
    dict.fromkeys(site.rsplit(".", 1)[0] for site in (*weights, *activations))
  )
  figure = figures.new(max(8.6, 0.3 * len(names)), 3.4)
  axes = figure.subplots()
  figures.bare(axes)
  for found, kind, color, shift in (
    (weights, "weight", figures.BLUE, -0.2),
    (activations, "out", figures.AMBER, 0.2),
  ):
    places = [i for i, name in enumerate(names) if f"{name}.{kind}" in found]
    values = [
      max(found[f"{names[place]}.{kind}"], _LEAST_KL) for place in places
    ]
    axes.bar(
      [place + shift for place in places],
      values,
      0.38,
      color=color,
      label={"weight": "weights", "out": "activations"}[kind],
    )
  axes.set_yscale("log")
  _name_layers(axes, names)
  axes.set_ylabel("KL divergence (nats)")
  axes.legend(frameon=False, fontsize=8)
  return figures.png(figure)


def _name_layers(axes, names: Sequence[str]) -> None:
  axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
  axes.set_xlim(-0.7, len(names) - 0.3)
