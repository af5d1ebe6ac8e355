"""The picture and the page: that they show what was put in and no more."""

import dataclasses
import io
import itertools
import re

import matplotlib.image
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from report_points import TEST_COUNT, make, points

from fbq.report import Change, LayerRow, html, labels, plots, recommend, tables


@pytest.fixture(scope="module")
def picture():
  return plots.front_png(points(), TEST_COUNT, 0.97, "locked-0.03+fb")


def report(picture, some_points=None, **others):
  return html.Report(
    "net", "cluster", some_points or points(), TEST_COUNT, picture, **others
  )


# --- the picture -------------------------------------------------------------


def test_picture_is_written_and_repeatable(tmp_path, picture):
  path = tmp_path / "front.png"
  plots.write_front(path, points(), TEST_COUNT, 0.97, "locked-0.03+fb")
  assert path.read_bytes() == picture
  pixels = matplotlib.image.imread(path)
  assert pixels.shape[:2] == (900, 1350)
  plain = plots.front_png(points(), TEST_COUNT, 0.97)
  star = np.abs(pixels - matplotlib.image.imread(io.BytesIO(plain))).max(-1)
  assert (star > 0.5).sum() > 100


@pytest.mark.parametrize("count", [1, 2])
def test_picture_of_few_points_with_odd_names(count):
  some = [make("$x^$", 5, 1.0), make("a_{b}$", 5, 1.0)][:count]
  assert plots.front_png(some, 10, title="$").startswith(b"\x89PNG")


def test_picture_refuses_impossible_numbers():
  with pytest.raises(ValueError, match="float_accuracy is nan"):
    plots.front_png(points(), TEST_COUNT, float("nan"))
  with pytest.raises(ValueError, match="test_count is 0"):
    plots.front_png(points(), 0)
  with pytest.raises(ValueError, match="no point is called 'nobody'"):
    plots.front_png(points(), TEST_COUNT, recommended="nobody")


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
  left_out = labels.place(axes, canvas.get_renderer(), wanted, markers, [])
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
  left = labels.place(axes, canvas.get_renderer(), wanted, crowd, [])
  assert left == ["may be left out"]
  assert [text.get_text() for text in axes.texts] == ["must be here"]


# --- the page ----------------------------------------------------------------


def full_report(picture, name="locked-0.03+fb"):
  rows = (
    LayerRow("conv_row", "conv", 8, 4, None, 10, 600, 0.75),
    LayerRow("pool_row", "avg_pool", 8, None, 8, 0, 200, 0.25),
  )
  change = Change(
    ("conv.weight",), "conv_row", (8, 4), (8, 8), 700, 600, "no unpacking"
  )
  return report(
    picture,
    layers={name: rows, "8/8": rows},
    changes={name: (change,)},
    float_accuracy=0.97,
    clock_hertz=1e6,
    facts={"jax": "1.2.3"},
    stages={"search": 61.4, "report": 2.0},
    config={"seed": 17},
    assumptions=["All of it fits in L2."],
  )


def test_page_loads_nothing_from_elsewhere(tmp_path, picture):
  html.write(tmp_path / "report.html", full_report(picture))
  page = (tmp_path / "report.html").read_text()
  targets = re.findall(r"""(?:src|href|action|data)\s*=\s*["']([^"']*)""", page)
  assert len(targets) == 2
  for target in targets:
    assert target.startswith(("data:image/png;base64,", "#"))
  without_picture = re.sub(r"data:image/png;base64,[^\"]*", "", page)
  for sign in ("//", "url(", "@import", "<script", "<link", "<iframe"):
    assert sign not in without_picture


def test_page_answers_first_and_shows_everything(picture):
  page = " ".join(html.render(full_report(picture)).split())
  answer = tables.sentence(recommend(points()), "net", "cluster")
  assert page.index(answer) < page.index("<img")
  for text in (
    "no unpacking",
    "conv_row",
    "0.65 ms at 1 MHz",
    "float: 97.00",
    "75.0 %",
    "1 min 01 s",
    "1 min 03 s",
    "All of it fits in L2.",
    "1.2.3",
    "&#34;seed&#34;: 17",
    "= free-0.2, free-0.3",
  ):
    assert text in page, text
  for point in points():
    assert f"<td>{point.name}" in page
  assert page.count("<details>") == len(points())  # All but one, and config.
  assert page.count('class="best"') == 1


def test_page_escapes_what_it_is_given(picture):
  evil = "<script>alert('x')</script>&"
  some = [
    points()[0],
    make("base", 900, 0.5, detail={evil: evil}, aliases=(evil + "2",)),
    make(evil, 100, 0.96, "free_bits", "base"),
  ]
  row = LayerRow(evil, evil, 8, 8, 8, 1, 1, 1.0)
  change = Change((evil,), evil, (4, 4), (8, 8), 2, 1, evil)
  page = html.render(
    dataclasses.replace(
      report(picture, some),
      network=evil,
      target=evil,
      layers={evil: (row,)},
      changes={evil: (change,)},
      facts={evil: evil},
      stages={evil: 1.0},
      config={evil: evil},
      assumptions=(evil,),
    )
  )
  assert "<script" not in page and "')<" not in page
  assert page.count("&lt;script&gt;") > 15


def test_page_without_anything_optional(picture):
  page = html.render(report(picture, points()[:1]))
  assert "Keep 8/8 in every tensor" in page
  assert "Free Bits pass" not in page
  assert "<td>conv.weight</td>" in page  # Bits of tensors for lack of layers.


def test_report_refuses_what_does_not_belong(picture):
  with pytest.raises(ValueError, match="layers has entries for .'nobody'"):
    report(picture, layers={"nobody": ()})
  with pytest.raises(ValueError, match="picture is not a PNG"):
    report(b"GIF")
  with pytest.raises(ValueError, match="clock_hertz is 0"):
    report(picture, clock_hertz=0)
  with pytest.raises(ValueError, match="no point is called '16/16'"):
    html.render(report(picture, reference="16/16"))
