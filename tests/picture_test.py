"""Pictures: titles on marks, colours of the scheme, the same bytes again."""

import re
from xml.etree import ElementTree

import pytest

from fbq.report import picture

SVG = "{http://www.w3.org/2000/svg}"


def draw(names=("a", "b", "c"), color=picture.BLUE):
  """A line, bars and an arrow with titles, and a text with a halo."""
  figure = picture.new(4, 3)
  axes = figure.subplots()
  picture.bare(axes)
  (line,) = axes.plot(range(len(names)), range(len(names)), "o-", color=color)
  picture.title(line, [f"mark {name}" for name in names])
  for bar, name in zip(axes.bar(range(2), [1, 2]), "xy", strict=True):
    picture.title(bar, f"bar {name}")
  dots = axes.scatter([0, 1], [1, 0], c=["red", "blue"])
  picture.title(dots, ["dot 0", "dot 1"])
  arrow = axes.annotate("", (0, 0), (1, 1), arrowprops=dict(arrowstyle="->"))
  picture.title(arrow.arrow_patch, "from 1 to 0")
  picture.halo(axes.text(0.5, 0.5, "a word"))
  picture.upright(axes, names)
  return figure


def titles(svg):
  """{title: name of the element that it is on}."""
  root = ElementTree.fromstring(svg)
  return {
    child.text: parent.tag.removeprefix(SVG)
    for parent in root.iter()
    for child in parent
    if child.tag == f"{SVG}title"
  }


def test_every_mark_has_its_title():
  found = titles(picture.svg(draw(("a", "<b>&", "c")), "alt"))
  marks = {f"mark {name}": "use" for name in ("a", "<b>&", "c")}
  bars = {"bar x": "g", "bar y": "g"}
  dots = {"dot 0": "use", "dot 1": "use"}
  assert found == marks | bars | dots | {"from 1 to 0": "g"}


def test_titles_that_do_not_fit_the_marks_are_refused():
  figure = picture.new(4, 3)
  (line,) = figure.subplots().plot([1, 2], [1, 2], "o")
  picture.title(line, ["one", "two", "three"])
  with pytest.raises(ValueError, match="3 titles for 2 marks.*'one'"):
    picture.svg(figure, "alt")


def test_the_same_figure_gives_the_same_bytes():
  first, second = (picture.svg(draw(), "alt") for _ in range(2))
  assert first == second
  assert "matplotlib" not in first.lower()  # Nor its version.


def test_a_picture_has_a_role_and_a_name():
  root = ElementTree.fromstring(picture.svg(draw(), 'what "it" shows <'))
  assert root.get("role") == "img"
  assert root.get("aria-label") == 'what "it" shows <'


def test_ids_of_two_pictures_differ():
  ids = [
    set(re.findall(r' id="([^"]*)"', picture.svg(draw(color=color), "alt")))
    for color in (picture.BLUE, picture.GREEN)
  ]
  assert ids[0] and ids[1] and not ids[0] & ids[1]


def test_every_reference_within_a_picture_holds():
  text = picture.svg(draw(), "alt")
  ids = re.findall(r' id="([^"]*)"', text)
  used = re.findall(r'(?:href="#|url\(#)([^")]*)', text)
  assert set(ids) == set(used) and len(ids) == len(set(ids))


def test_ink_and_grid_follow_the_scheme_but_data_do_not():
  text = picture.svg(draw(color=picture.GREEN), "alt")
  root = ElementTree.fromstring(text)
  styles = " ".join(e.get("style", "") for e in root.iter())
  for variable in ("text", "line"):
    assert f"var(--{variable}, {picture.SCHEME[variable][0]})" in styles
  # Black and white of matplotlib are nowhere else.
  assert "#000000" not in styles and "#ffffff" not in styles.replace(
    "var(--page, #ffffff)", ""
  )
  assert f"fill: {picture.GREEN}" in styles
  # Opened alone, it brings the colours of the dark scheme along.
  (style,) = root.iter(f"{SVG}style")
  assert "prefers-color-scheme: dark" in style.text
  for name, (_, dark) in picture.SCHEME.items():
    assert f"--{name}: {dark};" in style.text


def test_texts_stay_texts_in_the_font_of_the_page():
  root = ElementTree.fromstring(picture.svg(draw(), "alt"))
  texts = {e.text: e.get("style", "") for e in root.iter(f"{SVG}text")}
  assert {"a word", "a", "b", "c"} <= set(texts)
  assert "stroke: var(--page" in texts["a word"]
  assert not any("font-family" in style for style in texts.values())
  assert "system-ui" in root.get("style")


def test_grounds_are_transparent():
  root = ElementTree.fromstring(picture.svg(draw(), "alt"))
  assert not [
    e for e in root.iter() if "fill: var(--page" in e.get("style", "")
  ]
