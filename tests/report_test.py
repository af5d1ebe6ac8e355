"""What the report recommends, what it refuses, and its tables."""

import csv
import dataclasses
import io
import itertools
import os

import numpy as np
import pytest
from report_points import TEST_COUNT, make, points
from rich.console import Console

from fbq.report import Change, LayerRow, recommend, records, tables

# --- what is recommended -----------------------------------------------------


def test_what_breaks_demands_is_not_recommended():
  reference, fast = make("8/8", 1000, 0.98), make("4/4", 700, 0.98)
  slow, poor = make("slow", 1100, 0.979), make("poor", 800, 0.90)
  broken = lambda p: dataclasses.replace(
    p, detail={"breaks": "the limit on flash"}
  )
  best = recommend([reference, broken(fast), slow, poor])
  assert best.is_reference and best.others == 2
  best = recommend([broken(reference), broken(fast), slow, poor])
  assert best.point == slow and best.is_accurate
  said = tables.sentence(best, "net", "cluster")
  assert "10.0% more than 8/8" in said
  assert said.endswith("allowed); 8/8 breaks the limit on flash.")
  best = recommend([broken(reference), broken(fast), poor])
  assert best.point == poor and not best.is_accurate
  said = tables.sentence(best, "net", "cluster")
  assert "more than the 0.5 points allowed" in said


def test_fastest_within_the_tolerance_is_recommended():
  best = recommend(points())
  assert best.point.name == "locked-0.03+fb"
  assert best.cycles_saved == pytest.approx(0.35)
  assert best.speedup == pytest.approx(1000 / 650)
  assert recommend(points(), tolerance=0.02).point.name == "free-0.1+fb"
  assert recommend(points(), tolerance=0.2).point.name == "2/2"


def test_exactly_the_tolerance_is_allowed():
  edge = make("edge", 100, 0.955)
  assert recommend([*points(), edge], tolerance=0.005).point == edge
  # In floating point this edge is 1e-17 beyond the tolerance.
  assert 104 / 200 - 0.05 > 94 / 200
  some = [make("8/8", 200, 104 / 200, "baseline"), make("p", 100, 94 / 200)]
  assert recommend(some, tolerance=0.05).point.name == "p"
  below = make("below", 100, 0.9549)
  assert recommend([*points(), below]).point.name == "locked-0.03+fb"


def test_ties_go_to_accuracy_then_bytes_then_reference_then_name():
  reference = make("8/8", 1000, 0.96, "baseline", bits=8)
  accurate = make("c", 650, 0.958)
  small = make("y", 650, 0.958, bits=2)
  twin = make("x", 650, 0.958, bits=2)
  rising = [reference, make("a", 650, 0.957), accurate, small, twin]
  for count, name in ((2, "a"), (3, "c"), (4, "y"), (5, "x")):
    for order in itertools.permutations(rising[:count]):
      assert recommend(order).point.name == name
  equal = dataclasses.replace(reference, name="7", aliases=())
  assert recommend([equal, reference]).is_reference


def test_reference_is_kept_when_nothing_faster_qualifies():
  best = recommend(points()[:1] + points()[2:3] + [make("slow", 1200, 0.99)])
  assert best.is_reference and best.others == 2
  said = tables.sentence(best, "net", "cluster")
  assert said.startswith("Keep 8/8 in every tensor of net on cluster")
  assert "of the 2 other assignments none is faster" in said
  assert "nothing faster within 0.5 points" in tables.summary(best)


def test_missing_reference_and_impossible_tolerance_are_refused():
  with pytest.raises(ValueError, match="no point is called '8/8'.*'4/4'"):
    recommend(points()[1:])
  with pytest.raises(ValueError, match="tolerance is nan"):
    recommend(points(), tolerance=float("nan"))


def test_sentence_states_the_gain():
  said = tables.sentence(recommend(points()), "net", "cluster")
  assert "650 cycles, 35.0% fewer than 8/8 (1.54x as fast)" in said
  assert "95.70% test accuracy, 0.30 points below 8/8" in said
  assert tables.summary(recommend(points())) == (
    "recommended: locked-0.03+fb, 650 cycles (-35.0% vs 8/8), 95.70% "
    "(-0.30 points)"
  )


def test_bits_in_words():
  precision = {"a": 8, "a.weight": 2, "b": 8, "b.weight": 8, "c.weight": 2}
  assert tables.bits_in_words(precision) == (
    "weights: 2 bits in 2, 8 in 1 tensors; activations: 8 bits in 2 tensors"
  )


# --- what is refused ---------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.1, 1.1, "0.9"])
def test_impossible_accuracies_are_refused(bad):
  with pytest.raises(ValueError, match="point 'p': accuracy is .*0 to 1"):
    make("p", 100, bad)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0, 1.5, None])
def test_impossible_cycles_are_refused(bad):
  with pytest.raises(ValueError, match="point 'p': cycles is .*whole number"):
    make("p", bad, 0.5, bops=1)


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(kind="best"), "kind is 'best'"),
    (dict(kind="free_bits"), "parent is None"),
    (dict(parent="q"), "parent is 'q'"),
    (dict(name=" "), "name is empty"),
    (dict(precision={}), "precision is empty"),
    (dict(precision={"a": 0}), "bits of site 'a' is 0"),
    (dict(weight_bytes=-1), "weight_bytes is -1"),
  ],
)
def test_impossible_points_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(make("p", 100, 0.5), **change)


def test_numbers_of_numpy_become_plain_ones():
  point = make("p", np.float64(12.0), np.float32(0.5), bops=np.int64(3))
  assert (point.cycles, point.accuracy, point.bops) == (12, 0.5, 3)
  assert [type(point.cycles), type(point.accuracy)] == [int, float]


def test_points_that_do_not_fit_together_are_refused():
  with pytest.raises(ValueError, match="names .'free-0.2'. occur more"):
    records.check([*points(), make("free-0.2", 5, 0.5)])
  with pytest.raises(ValueError, match="parent 'nobody' is not a point"):
    records.check([*points(), make("p", 5, 0.5, "free_bits", "nobody")])
  with pytest.raises(ValueError, match="only one has sites .'conv', .*'fc'"):
    records.check([*points(), make("p", 5, 0.5, precision={"fc": 8})])
  with pytest.raises(ValueError, match="no points"):
    records.check([])
  with pytest.raises(ValueError, match="share is nan"):
    LayerRow("conv", "conv", 8, 8, 8, 10, 10, float("nan"))
  with pytest.raises(ValueError, match="cycles_after is -1"):
    Change("conv", "conv", (4, 4), (8, 8), 10, -1, "")


# --- the tables --------------------------------------------------------------


def write_csv(path, some):
  with open(path, "w", newline="") as file:
    csv.writer(file, lineterminator="\n").writerows(tables.csv_rows(some))


def test_csv_reads_back_as_written(tmp_path):
  path = tmp_path / "results.csv"
  written = [
    *points(),
    make('odd, "name"\nof two lines', 1, 1 / 3, detail={"why": "a, b"}),
  ]
  write_csv(path, written)
  assert tables.read_csv(path) == tables.by_cycles(written)
  assert os.listdir(tmp_path) == ["results.csv"]


def test_csv_marks_the_front_and_has_a_column_per_site(tmp_path):
  write_csv(tmp_path / "r.csv", points())
  with open(tmp_path / "r.csv", newline="") as file:
    rows = list(csv.DictReader(file))
  front = {row["name"] for row in rows if row["on_front"] == "1"}
  assert front == {"2/2", "free-0.1+fb", "locked-0.03+fb", "8/8"}
  assert rows[0]["bits:conv.weight"] == "2" and rows[0]["name"] == "2/2"


def test_csv_errors_name_file_and_row(tmp_path):
  path = tmp_path / "r.csv"
  write_csv(path, points())
  text = path.read_text()
  path.write_text(text.replace(",0.94,", ",many,"))
  with pytest.raises(ValueError, match=r"r\.csv, row 3: could not convert"):
    tables.read_csv(path)
  path.write_text(text.replace("cycles", "time"))
  with pytest.raises(ValueError, match="no columns .'cycles'"):
    tables.read_csv(path)
  with pytest.raises(ValueError, match="contain spaces"):
    write_csv(path, [make("p", 5, 0.5, aliases=("a b",))])


def test_failed_write_leaves_the_file_before_it(tmp_path, monkeypatch):
  path = tmp_path / "r.csv"
  path.write_bytes(b"before")

  def fail(*_):
    raise OSError("disk is full")

  monkeypatch.setattr(os, "replace", fail)
  with pytest.raises(OSError, match="disk is full"):
    tables.write_atomically(path, b"after")
  assert path.read_bytes() == b"before"
  assert os.listdir(tmp_path) == ["r.csv"]


def test_printed_table_shows_every_point():
  out = io.StringIO()
  table = tables.results_table(points(), recommend(points()), TEST_COUNT)
  Console(file=out, width=140).print(table)
  lines = out.getvalue().splitlines()
  best = next(line for line in lines if "★ locked" in line)
  for cell in ("locked-0.03", "650", "-35.0%", "95.70 ±0.53"):
    assert cell in best
  for point in points():
    assert any(f"{point.name} " in line for line in lines)


def test_printed_table_takes_names_literally():
  odd = make("[bold]x[/nothing]", 5, 0.96)
  some = [points()[0], odd]
  out = io.StringIO()
  table = tables.results_table(some, recommend(some), TEST_COUNT)
  Console(file=out, width=140).print(table)
  assert "[bold]x[/nothing]" in out.getvalue()
