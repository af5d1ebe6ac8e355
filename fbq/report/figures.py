"""Figures without pyplot: no global state, no display, repeatable files."""

import io

# Okabe-Ito: told apart by people who do not see all colours, and in grey.
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
SKY, AMBER, PURPLE = "#56B4E9", "#E69F00", "#CC79A7"
GREY, PALE = "#999999", "#e4e4e4"


def new(width: float, height: float):
  """An empty matplotlib figure, sizes in inches."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
  FigureCanvasAgg(figure)
  return figure


def png(figure) -> bytes:
  """The figure as a PNG; the same figure gives the same bytes."""
  out = io.BytesIO()
  figure.savefig(out, format="png", metadata={"Software": None})
  return out.getvalue()


def bare(axes, grid: str = "y") -> None:
  """Takes away what carries no information; keeps a pale grid."""
  axes.spines[["top", "right"]].set_visible(False)
  axes.grid(True, axis=grid, color=PALE, linewidth=0.7)
  axes.set_axisbelow(True)
