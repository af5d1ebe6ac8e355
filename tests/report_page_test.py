"""The picture and the page of points: they show what was put in and no more."""

import dataclasses
import itertools
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from report_points import TEST_COUNT, make, points

from fbq.report import (
  Change,
  LayerRow,
  labels,
  page,
  plots,
  points_page,
  recommend,
  tables,
)
from fbq.report.assignments import Assignments
from fbq.report.run import Run

SVG = "{http://www.w3.org/2000/svg}"


def report(some_points=None, **others):
  values = dict(
    network="net",
    target="cluster",
    test_count=TEST_COUNT,
    float_accuracy=0.97,
    points=tuple(some_points or points()),
    layers={},
    changes={},
    reference="8/8",
    tolerance=0.005,
    clock_hertz=None,
    assumptions=(),
  )
  return Assignments(**values | others)


def html(results):
  shown = points_page.blocks(results)
  return page.html(*points_page.heading(results), shown, Run())


# --- the picture -------------------------------------------------------------


def titles(svg):
  return [e.text for e in ElementTree.fromstring(svg).iter(f"{SVG}title")]


def test_every_point_and_arrow_of_the_picture_has_its_numbers():
  some = [*points(), make("<b>&", 620, 0.945, aliases=("other",))]
  svg = plots.front(some, TEST_COUNT, 0.97, "locked-0.03+fb")
  found = titles(svg)
  for point in some:
    said = plots.said(point, TEST_COUNT)
    assert found.count(said) == 1, said
  best = points()[4]
  assert f"recommended: {plots.said(best, TEST_COUNT)}" in found
  assert "<b>& = other: 620 cycles, 94.50% ± 0.60; weights: 4 bits" in (
    plots.said(some[-1], TEST_COUNT)
  )
  arrow = "free-0.1 to free-0.1+fb: 640 to 600 cycles, 93.00% to 94.00%"
  assert found.count(arrow) == 1
  assert len(found) == len(some) + 1 + 2


def test_the_same_points_give_the_same_picture():
  drawn = [
    plots.front(points(), TEST_COUNT, 0.97, "locked-0.03+fb") for _ in range(2)
  ]
  assert drawn[0] == drawn[1]
  assert drawn[0] != plots.front(points(), TEST_COUNT, 0.97)


@pytest.mark.parametrize("count", [1, 2])
def test_picture_of_few_points_with_odd_names(count):
  some = [make("$x^$", 5, 1.0), make("a_{b}$", 5, 1.0)][:count]
  svg = plots.front(some, 10, title="$")
  texts = {e.text for e in ElementTree.fromstring(svg).iter(f"{SVG}text")}
  assert {"$", *(point.name for point in some[:1])} <= texts


def test_picture_refuses_impossible_numbers():
  with pytest.raises(ValueError, match="float_accuracy is nan"):
    plots.front(points(), TEST_COUNT, float("nan"))
  with pytest.raises(ValueError, match="test_count is 0"):
    plots.front(points(), 0)
  with pytest.raises(ValueError, match="no point is called 'nobody'"):
    plots.front(points(), TEST_COUNT, recommended="nobody")


def test_accuracy_axis_breaks_below_an_outlier_only():
  low, high = plots.accuracy_ranges(points(), TEST_COUNT, 0.97)
  assert low[0] < 80 < low[1] < high[0] < 93 and high[1] > 97
  low, high = plots.accuracy_ranges(points()[:2] + points()[3:], TEST_COUNT)
  assert low is None and high[0] < 93 and high[1] > 96


def test_names_in_the_picture_do_not_overlap():
  rng = np.random.default_rng(0)
  markers = rng.uniform(0, 1, (14, 2)).tolist()
  figure = Figure(figsize=(9, 5), dpi=100)
  canvas = FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  canvas.draw()
  wanted = [
    labels.Label(f"point-{n}", x, y, "black", essential=n < 4)
    for n, (x, y) in enumerate(markers)
  ]
  left_out = labels.place(axes, wanted, markers, [])
  boxes = [text.get_window_extent() for text in axes.texts]
  assert len(boxes) + len(left_out) == 14 and len(boxes) >= 12
  for one, other in itertools.combinations(boxes, 2):
    assert not one.overlaps(other)
  for marker in axes.transData.transform(markers):
    assert not any(box.contains(*marker) for box in boxes)


def test_name_without_room_is_left_out_unless_essential():
  figure = Figure(figsize=(3, 3), dpi=100)
  canvas = FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  canvas.draw()
  crowd = np.random.default_rng(0).uniform(0, 1, (400, 2)).tolist()
  wanted = [
    labels.Label("must be here", 0.5, 0.5, "black", essential=True),
    labels.Label("may be left out", 0.5, 0.5, "black", essential=False),
  ]
  left = labels.place(axes, wanted, crowd, [])
  assert left == ["may be left out"]
  assert [text.get_text() for text in axes.texts] == ["must be here"]


# --- the page ----------------------------------------------------------------


def full_report(name="locked-0.03+fb"):
  rows = (
    LayerRow("conv_row", "conv", 8, 4, None, 10, 600, 0.75),
    LayerRow("pool_row", "avg_pool", 8, None, 8, 0, 200, 0.25),
  )
  change = Change(
    ("conv.weight",), "conv_row", (8, 4), (8, 8), 700, 600, "no unpacking"
  )
  return report(
    layers={name: rows, "8/8": rows},
    changes={name: (change,)},
    clock_hertz=1e6,
  )


def test_page_answers_first_and_shows_everything():
  text = " ".join(html(full_report()).split())
  answer = tables.sentence(recommend(points()), "net", "cluster")
  assert text.index(answer) < text.index("<svg")
  for said in (
    "no unpacking",
    "conv_row",
    "0.65 ms at 1 MHz",
    "float: 97.00",
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
  change = Change((evil,), evil, (4, 4), (8, 8), 2, 1, evil)
  found = report(some, layers={evil: (row,)}, changes={evil: (change,)})
  text = html(dataclasses.replace(found, network=evil, target=evil))
  assert text.count("<script") == 1 and "')<" not in text  # The page's own.
  assert text.count("&lt;script&gt;") > 15


def test_page_without_anything_optional():
  text = html(report(points()[:1]))
  assert "Keep 8/8 in every tensor" in text
  assert "Free Bits pass" not in text and "Every other" not in text
  assert "conv.weight" in text  # Bits of tensors for lack of layers.


def test_report_refuses_what_does_not_belong():
  with pytest.raises(ValueError, match="layers has entries for .'nobody'"):
    report(layers={"nobody": ()})
  with pytest.raises(ValueError, match="clock_hertz is 0"):
    report(clock_hertz=0)
  with pytest.raises(ValueError, match="no point is called '16/16'"):
    points_page.blocks(report(reference="16/16"))
