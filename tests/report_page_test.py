"""The picture and the page of points: they show what was put in and no more."""

import dataclasses
import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from report_points import REFERENCE, make, points, report, score

from fbq.report import (
  Change,
  LayerRow,
  labels,
  neighbourhood,
  page,
  plots,
  points_page,
  recommend,
  records,
  sentences,
)
from fbq.report.run import Run

SVG = "{http://www.w3.org/2000/svg}"


def html(results):
  shown = points_page.content(results)
  return page.html(*points_page.heading(results), shown, Run())


# --- the picture -------------------------------------------------------------


def titles(svg):
  return [e.text for e in ElementTree.fromstring(svg).iter(f"{SVG}title")]


def texts(svg):
  return {e.text or "" for e in ElementTree.fromstring(svg).iter(f"{SVG}text")}


def test_every_point_and_arrow_of_the_picture_has_its_numbers():
  odd = make("<b>&", 620, 0.945, aliases=("other",))
  results = report([*points(), odd])
  found = titles(plots.front(results).svg)
  for point in results.points:
    said = plots.said(point)
    assert found.count(said) == 1, said
  assert f"recommended: {plots.said(results.best.point)}" in found
  assert (
    "<b>& = other: 620 cycles, 94.50% ± 0.50 in validation, 50.75% in t"
    in (plots.said(odd))
  )
  arrow = "free-0.1 to free-0.1+fb: 640 to 600 cycles, 93.00% to 94.00%"
  assert found.count(arrow) == 1
  assert len(found) == len(results.points) + 1 + 2


def test_the_same_points_give_the_same_picture():
  drawn = [plots.front(report()) for _ in range(2)]
  assert drawn[0] == drawn[1]
  assert drawn[0] != plots.front(report(float_validation=score(0.96, 0.96)))


@pytest.mark.parametrize("count", [1, 2])
def test_picture_of_few_points_with_odd_names(count):
  some = [make("$x^$", 5, 1.0), make("a_{b}$", 5, 1.0)][:count]
  svg = plots.front(report(some, reference="$x^$", network="$")).svg
  assert {"$ on cluster", *(point.name for point in some[:1])} <= texts(svg)


def test_an_outlier_does_not_squeeze_the_others():
  """It is in the panel of all points, which is there for it alone."""
  window = neighbourhood.around_front(report())
  held = {p.name for p in report().points if window.holds(p)}
  assert held == {p.name for p in points()} - {"2/2"}
  drawn = plots.front(report())
  found = texts(drawn.svg)
  assert {"2/2", "all 7 points", "8/8"} <= found
  assert "Far from the front are 2/2:" in drawn.note
  near = report([p for p in points() if p.name != "2/2"])
  drawn = plots.front(near)
  assert not any("all 6" in text for text in texts(drawn.svg))
  assert "Far from" not in drawn.note


def crowd(count, seed):
  """Points of which most lie together, and some far away."""
  rng = np.random.default_rng(seed)
  some = [make("8/8", 6_000_000, REFERENCE, "baseline", bits=8)]
  for i in range(count):
    far = 10 if rng.uniform() < 0.2 else 1
    accuracy = REFERENCE - rng.uniform(0, 0.02) * far
    cycles = 6_000_000 * rng.uniform(0.8, 1.1) * (1 + 0.1 * (far > 1))
    some.append(make(f"p{i}", int(cycles), accuracy))
  return report(some)


@pytest.mark.parametrize("seed", range(6))
def test_the_neighbourhood_holds_the_answer_and_gives_it_room(seed):
  results = crowd(16, seed)
  window = neighbourhood.around_front(results)
  best = results.best
  assert window.holds(best.point) and window.holds(best.reference)
  held = [p for p in results.points if window.holds(p)]
  assert len(held) > len(results.points) / 2
  # Half of what is there takes a good part of the axis
  low, high = window.accuracy
  middle = np.median([p.validation.accuracy for p in results.points])
  assert high - 100 * middle > (high - low) / 5


@pytest.mark.parametrize("seed", range(6))
def test_no_name_is_dropped_without_a_word(seed):
  results = crowd(30, seed)
  drawn = plots.front(results)
  found, (named, _, untold) = texts(drawn.svg), drawn.note.partition("no room")
  assert named
  window = neighbourhood.around_front(results)
  wanted = {p.name for p in results.points if not window.holds(p)}
  wanted |= records.front(results.points) | {results.best.point.name, "8/8"}
  for name in wanted:
    assert (name in found) != (f" {name}" in re.sub("[.,]", " ", untold)), name


def test_what_the_answer_is_about_is_named_and_the_legend_tells_arrows():
  found = texts(plots.front(report()).svg)
  front = {"2/2", "free-0.1+fb", "locked-0.03+fb", "8/8"}
  assert front | {"locked-0.03", "what the pass made of it"} <= found
  assert not {"free-0.1", "4/4"} & found


def test_names_in_the_picture_do_not_overlap():
  rng = np.random.default_rng(0)
  markers = rng.uniform(0, 1, (14, 2)).tolist()
  figure = Figure(figsize=(9, 5), dpi=100)
  FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  named = [
    labels.Label(f"point-{n}", x, y, "black")
    for n, (x, y) in enumerate(markers)
  ]
  labels.place(axes, named, markers)
  boxes = [t.get_window_extent() for t in axes.texts if t.get_text()]
  assert len(boxes) == 14
  for one, other in itertools.combinations(boxes, 2):
    assert not one.overlaps(other)
  for marker in axes.transData.transform(markers):
    assert not any(box.contains(*marker) for box in boxes)
  assert all(axes.bbox.containsx(x) for box in boxes for x in (box.x0, box.x1))


def test_a_name_without_room_is_told_and_covers_no_other():
  figure = Figure(figsize=(3, 3), dpi=100)
  FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  named = [
    labels.Label(f"a long name {n}", 0.5, 0.5, "black") for n in range(60)
  ]
  left_out = labels.place(axes, named, [(0.5, 0.5)])
  shown = [text.get_text() for text in axes.texts if text.get_text()]
  assert left_out and shown
  assert sorted(shown + left_out) == sorted(label.text for label in named)
  boxes = [t.get_window_extent() for t in axes.texts if t.get_text()]
  for one, other in itertools.combinations(boxes, 2):
    assert not one.overlaps(other)


def test_a_name_among_many_points_is_written_nevertheless():
  figure = Figure(figsize=(3, 3), dpi=100)
  FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  many = np.random.default_rng(0).uniform(0, 1, (400, 2)).tolist()
  one = labels.Label("must be here", 0.5, 0.5, "black")
  assert labels.place(axes, [one], many) == []
  assert "must be here" in [text.get_text() for text in axes.texts]


# --- the page ----------------------------------------------------------------


def full_report(name="locked-0.03+fb"):
  rows = (
    LayerRow("conv_row", "conv", 8, 4, None, 10, 600, 0.75),
    LayerRow("pool_row", "avg_pool", 8, None, 8, 0, 200, 0.25),
  )
  change = Change(
    ("conv.weight",), "conv_row", (8, 4, 8), (8, 8, 8), 700, 600, "no need"
  )
  return report(
    layers={name: rows, "8/8": rows},
    changes={name: (change,)},
    clock_hertz=1e6,
  )


def test_page_answers_first_and_shows_everything():
  text = " ".join(html(full_report()).split())
  answer = sentences.answer(recommend(points()), "net", "cluster")
  assert text.index(answer) < text.index("<svg")
  for said in (
    "no need",
    "conv_row",
    "0.65 ms at 1 MHz",
    "float network has 47.00%",
    "75.0 %",
    "= free-0.2, free-0.3",
    'data-sort="-35.0"',
  ):
    assert said in text, said
  for point in points():
    assert f'scope="row" class="text">{point.name}' in text
  assert text.count("<details>") == len(points()) - 1
  assert text.count('<tr class="best">') == 1


def test_page_escapes_what_it_is_given():
  evil = "<script>alert('x')</script>&"
  some = [
    points()[0],
    make("base", 900, 0.5, detail={evil: evil}, aliases=(evil + "2",)),
    make(evil, 100, 0.96, "free_bits", "base"),
  ]
  row = LayerRow(evil, evil, 8, 8, 8, 1, 1, 1.0)
  change = Change((evil,), evil, (4, 4, 8), (8, 8, 8), 2, 1, evil)
  found = report(some, layers={evil: (row,)}, changes={evil: (change,)})
  text = html(dataclasses.replace(found, network=evil, target=evil))
  assert text.count("<script") == 1 and "')<" not in text  # The page's own.
  assert text.count("&lt;script&gt;") > 15


def test_page_without_anything_optional():
  text = html(report(points()[:1]))
  assert "Keep 8/8 in every tensor" in text
  assert "Free Bits pass" not in text and "Every other" not in text
  assert "conv.weight" in text  # Bits of tensors for lack of layers.


def test_a_page_without_its_reference_is_refused():
  with pytest.raises(ValueError, match="no point is called '16/16'"):
    points_page.content(report(reference="16/16"))
