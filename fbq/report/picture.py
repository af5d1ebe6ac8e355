"""Pictures: matplotlib figures as SVG that suits the page around it.

Texts stay texts in the font of the page, ink and grid follow the reader's light
or dark scheme, and marks tell their names and numbers to the mouse. The same
figure gives the same bytes. Nothing here uses pyplot, so there is no global
state and no display.
"""

import hashlib
import io
import json
import re
from collections.abc import Sequence
from xml.etree import ElementTree

# Okabe-Ito: told apart by people who do not see all colours, and in grey.
BLUE, VERMILION, GREEN = "#0072b2", "#d55e00", "#009e73"
SKY, AMBER, PURPLE = "#56b4e9", "#e69f00", "#cc79a7"
GREY = "#999999"
# These follow the scheme, as blue does, which is too dark for a dark page. The
# first two are what matplotlib takes by itself.
INK, PAGE, SOFT, GRID = "#000000", "#ffffff", "#5c6670", "#dde2e7"
# And these never do: for letters on a coloured ground.
DARK_LETTERS, LIGHT_LETTERS = "#111111", "#fefefe"

# Colours of page and pictures: name of the variable -> (light, dark), in the
# order of INK, PAGE, SOFT, GRID and BLUE.
SCHEME = {
  "text": ("#1c2127", "#e4e8ec"),
  "page": ("#ffffff", "#15191d"),
  "soft": (SOFT, "#9aa5b0"),
  "line": (GRID, "#343c44"),
  "blue": (BLUE, "#2e8ace"),
}
_VARIABLES = dict(zip((INK, PAGE, SOFT, GRID, BLUE), SCHEME, strict=True))
_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_HALO = "halo"
_ROOT_STYLE = (
  f"fill: var(--text, {SCHEME['text'][0]}); "
  "font-family: system-ui, sans-serif; "
  "stroke-linejoin: round; stroke-linecap: butt"
)
_ALONE = (
  "svg:root { color-scheme: light dark; background: var(--page, #ffffff) } "
  "@media (prefers-color-scheme: dark) { svg:root { "
  + " ".join(f"--{name}: {dark};" for name, (_, dark) in SCHEME.items())
  + " } }"
)


def new(width: float, height: float):
  """An empty matplotlib figure, sizes in inches."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width, height), layout="constrained")
  FigureCanvasAgg(figure)
  return figure


def bare(axes, grid: str = "y") -> None:
  """Takes away what carries no information; keeps a pale grid."""
  axes.spines[["top", "right"]].set_visible(False)
  axes.grid(True, axis=grid, color=GRID, linewidth=0.7)
  axes.set_axisbelow(True)


def legend(figure, axes, columns: int, place: str = "upper center") -> None:
  """A legend of what `axes` show, outside of all axes."""
  figure.legend(
    *axes.get_legend_handles_labels(),
    loc=f"outside {place}",
    ncols=columns,
    fontsize=8.5,
    frameon=False,
  )


def upright(axes, names: Sequence[str]) -> None:
  """Names from below along the horizontal axis, at 0, 1, ..."""
  axes.set_xticks(
    range(len(names)),
    names,
    rotation=90,
    rotation_mode="anchor",  # holds in any font
    ha="right",
    va="center",
    fontsize=8,
    parse_math=False,
  )
  axes.set_xlim(-0.6, len(names) - 0.4)


def heading(axes, text: str) -> None:
  """A line above a panel that says what it shows."""
  axes.set_title(text, loc="left", fontsize=9.5, parse_math=False)


def title(artist, titles: str | Sequence[str]) -> None:
  """Says what is shown where the mouse rests on an artist.

  Args:
    artist: an arrow, a text or a bar; or a line or collection of marks, or all
      bars of one call of `axes.bar`.
    titles: of the whole artist, or one for each of its marks.
  """
  if isinstance(artist, tuple):
    for bar, text in zip(artist, titles, strict=True):
      title(bar, text)
  else:
    artist.set_gid(json.dumps(titles))


def halo(text) -> None:
  """Sets a text off from what lies behind it."""
  text.set_gid(_HALO)


def svg(figure, alt: str) -> str:
  """The figure as SVG that can be embedded or opened alone.

  Args:
    figure: from `new`; its grounds are made transparent.
    alt: what it shows, for those who do not see it.

  Raises:
    ValueError: an artist has another number of marks than titles; marks beyond
      the canvas are not drawn.
  """
  import matplotlib

  for ground in (figure, *figure.axes):
    ground.patch.set_visible(False)
  out = io.StringIO()
  with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fbq"}):
    figure.savefig(out, format="svg", metadata={"Date": None})
  drawn = out.getvalue()
  ElementTree.register_namespace("", _SVG[1:-1])
  root = ElementTree.fromstring(drawn)

  # Out: metadata, which tell matplotlib's version, and a style that would hold
  # for every element of the page.
  for child in root.findall("*")[:2]:
    root.remove(child)
  for group in root.iter(f"{_SVG}g"):
    _mark(group, group.get("id", ""))
  for element in root.iter():
    if "style" in element.attrib:
      element.set("style", _restyled(element.attrib["style"]))
    if "d" in element.attrib:
      element.set("d", _rounded(element.attrib["d"]))
  _make_ids_own(root, hashlib.sha256(drawn.encode()).hexdigest()[:8])

  # The whole is one picture with a name, a size and colours of its own.
  width, height = 96 * figure.get_size_inches()
  root.attrib |= {
    "class": "picture",
    "role": "img",
    "aria-label": alt,
    "width": f"{width:.0f}",
    "height": f"{height:.0f}",
    # Letters stay legible on narrow screens, which scroll instead.
    "style": f"{_ROOT_STYLE}; min-width: {0.7 * width:.0f}px",
  }
  style = ElementTree.Element(f"{_SVG}style")
  style.text = _ALONE
  root.insert(0, style)
  return ElementTree.tostring(root, encoding="unicode") + "\n"


def _mark(group, gid):
  """Puts titles and halos where artists asked for them."""
  if gid == _HALO:
    more = f"paint-order: stroke; stroke: {PAGE}; stroke-width: 2.5px"
    for text in group.iter(f"{_SVG}text"):
      text.set("style", f"{text.get('style')}; {more}")
  if not gid.startswith(('"', "[")):
    return
  titles = json.loads(gid)
  marks = [group]
  if isinstance(titles, str):
    titles = [titles]
  else:
    marks = list(group.iter(f"{_SVG}use")) or list(group.iter(f"{_SVG}path"))
  if len(marks) != len(titles):
    raise ValueError(
      f"{len(titles)} titles for {len(marks)} marks, expected one for each "
      f"that lies on the canvas; the titles begin with {titles[:3]}"
    )
  for mark, text in zip(marks, titles, strict=True):
    node = ElementTree.Element(f"{_SVG}title")
    node.text = text
    mark.insert(0, node)


def _restyled(style: str) -> str:
  """A style in the font of the page and the colours of the scheme."""
  kept = []
  for entry in style.split("; "):
    name, _, value = entry.partition(": ")
    if value in _VARIABLES:
      variable = _VARIABLES[value]
      value = f"var(--{variable}, {SCHEME[variable][0]})"
    if name != "font-family":
      kept.append(f"{name}: {value}")
  return "; ".join(kept)


def _rounded(path: str) -> str:
  """A path to a hundredth of a point, on one line."""
  path = re.sub(r"-?\d+\.\d+", lambda n: f"{float(n[0]):z.2f}", path)
  return " ".join(path.split())


def _make_ids_own(root, prefix):
  """Drops ids that nothing refers to and makes the others unique."""
  used = set()
  for element in root.iter():
    if _XLINK in element.attrib:
      element.set("href", element.attrib.pop(_XLINK))
    for attribute in ("clip-path", "href"):
      name = element.get(attribute)
      if name is not None:
        used.add(name.removeprefix("url(").removesuffix(")"))
        element.set(attribute, name.replace("#", f"#{prefix}-"))
  for element in root.iter():
    name = element.attrib.pop("id", None)
    if f"#{name}" in used:
      element.set("id", f"{prefix}-{name}")
