"""What the report recommends, what it refuses, and its tables."""

import csv
import dataclasses
import io
import itertools

import numpy as np
import pytest
from report_points import make, points, report
from rich.console import Console
from scipy import stats

from fbq.lab.experiment import as_csv
from fbq.report import (
  Change,
  LayerRow,
  points_page,
  recommend,
  records,
  sentences,
)
from fbq.report.records import Score, SeedPoint

# --- what is recommended -----------------------------------------------------


def test_what_breaks_demands_is_not_recommended():
  reference, fast = make("8/8", 1000, 0.96), make("4/4", 700, 0.96)
  slow, poor = make("slow", 1100, 0.959), make("poor", 800, 0.90)
  broken = lambda p: dataclasses.replace(
    p, detail={"breaks": "the limit on flash"}
  )
  best = recommend([reference, broken(fast), slow, poor])
  assert best.is_reference and best.others == 2
  best = recommend([broken(reference), broken(fast), slow, poor])
  assert best.point == slow and best.is_accurate
  said = sentences.answer(best, "net", "cluster")
  assert "10.0% more than 8/8" in said
  assert said.endswith("8/8; 8/8 breaks the limit on flash.")
  best = recommend([broken(reference), broken(fast), poor])
  assert best.point == poor and not best.is_accurate
  assert "nothing loses at most 0.5 points with 80% confidence; poor is" in (
    sentences.why(best)
  )


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
  some = [
    make(*point, reference=104 / 200)
    for point in (("8/8", 200, 104 / 200, "baseline"), ("p", 100, 94 / 200))
  ]
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
  said = sentences.answer(best, "net", "cluster")
  assert said.startswith("Keep 8/8 in every tensor of net on cluster")
  assert "of the 2 other assignments none is faster" in said
  assert best.nearest is not None and best.nearest.name == "2/2"
  assert "2/2 with 500 cycles, loses 16.00 ± 0.00 points" in (
    sentences.why(best)
  )


def test_a_loss_that_is_not_known_well_enough_is_not_risked():
  """The upper end of a one-sided interval by Student's t has to be allowed.

  Of each of the two that are faster at half of the risk.
  """
  reference = make("8/8", 1000, 0.96, "baseline")
  sure = make("sure", 900, 0.958, loss_error=0.002)
  unsure = make("unsure", 800, 0.959, loss_error=0.005)
  some = [reference, sure, unsure, make("slow", 1100, 0.9)]
  # Of a t distribution of 99 degrees 75 % are below 0.677, 80 % below 0.845, 90
  # % below 1.290, 95 % below 1.660
  assert sure.validation.largest_loss(0.8) == pytest.approx(
    0.002 + 0.8453 * 0.002, abs=1e-6
  )
  for confidence, name in ((0.5, "unsure"), (0.8, "sure"), (0.9, "8/8")):
    best = recommend(some, confidence=confidence)
    assert best.point.name == name
    assert best.is_accurate
  best = recommend(some)
  assert best.nearest == unsure
  said = sentences.why(best)
  assert "loses 0.20 ± 0.20 points, at most 0.46 with that confidence" in said
  assert "The nearest of the faster ones, unsure with 800 cycles" in said
  # Three seeds have two degrees of freedom: 80 % are below 1.061
  few = dataclasses.replace(sure.validation, freedom=2)
  assert few.largest_loss(0.8) == pytest.approx(
    0.002 + 1.0607 * 0.002, abs=1e-6
  )


def test_where_no_image_differs_a_loss_is_still_possible():
  """None of 287 sources: with 80 % confidence below 1 - 0.2^(1/287)."""
  same = dataclasses.replace(make("p", 900, 0.96).validation, sources=287)
  assert same.largest_loss(0.8) == pytest.approx(0.0056, abs=1e-5)
  assert same.largest_loss(0.8) > 1 - 0.2 ** (1 / 287)
  two = dataclasses.replace(same, sources=2)
  assert two.largest_loss(0.97) == 1  # no more than all, however few they are


@pytest.mark.parametrize("losing", [0, 1, 2, 5, 20])
def test_few_losing_images_are_bounded_as_exactly_as_counts_are(losing):
  """Beside Clopper and Pearson's limit of a share, made by another formula."""
  lost = np.zeros(500)
  lost[:losing] = 1
  error = lost.std(ddof=1) / np.sqrt(500)
  found = Score(0.9, 0.01, lost.mean(), error, 499, 500).largest_loss(0.975)
  exact = stats.beta.ppf(0.975, losing + 1, 500 - losing)
  assert 0.99 * exact <= found < 1.05 * exact


def test_confidence_holds_for_the_fastest_of_many():
  """Of nine that lose more than may be lost, one is taken at most so often."""
  random = np.random.default_rng(0)
  wrong = 0
  for _ in range(400):
    seen = 0.006 + 0.005 * random.normal(size=9)
    some = [make("8/8", 1000, 0.96, "baseline")] + [
      make(f"p{i}", 900 - i, 0.96 - loss, loss_error=0.005)
      for i, loss in enumerate(seen)
    ]
    wrong += not recommend(some, tolerance=0.006).is_reference
  assert 0.1 < wrong / 400 < 0.2 + 2 * 0.02


def test_nothing_is_chosen_by_the_test():
  """Whatever the test says, the same is recommended and on the front."""
  given = points()
  scores = [p.test for p in given]
  for turned in range(len(scores)):
    other = [
      dataclasses.replace(p, test=scores[i - turned])
      for i, p in enumerate(given)
    ]
    assert recommend(other).point.name == recommend(given).point.name
    assert records.front(other) == records.front(given)
    names = [p.name for p in records.by_cycles(other)]
    assert names == [p.name for p in records.by_cycles(given)]


def test_missing_reference_and_impossible_tolerance_are_refused():
  with pytest.raises(ValueError, match="no point is called '8/8'.*'4/4'"):
    recommend(points()[1:])
  with pytest.raises(ValueError, match="tolerance\n.*input_value=nan"):
    recommend(points(), tolerance=float("nan"))


def test_sentence_states_the_gain():
  said = sentences.answer(recommend(points()), "net", "cluster")
  assert "650 cycles, 35.0% fewer than 8/8 (1.54x as fast)" in said
  assert "50.15% test accuracy, 0.15 ± 0.40 points above 8/8" in said


def test_bits_in_words():
  precision = {"a": 8, "a.weight": 2, "b": 8, "b.weight": 8, "c.weight": 2}
  assert sentences.bits_in_words(precision) == (
    "weights: 2 bits in 2, 8 in 1 tensors; activations: 8 bits in 2 tensors"
  )


# --- what is refused ---------------------------------------------------------


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (dict(cycles=float("inf")), "cycles\n.*finite number"),
    (dict(cycles=0), "cycles\n.*greater than 0"),
    (dict(cycles=1.5), "cycles\n.*fractional"),
    (dict(cycles=None), "cycles\n.*valid integer"),
    (dict(kind="best"), "kind\n.*'search', 'free_bits' or 'baseline'.*'best'"),
    (dict(kind="free_bits"), "parent is None"),
    (dict(parent="q"), "parent is 'q'"),
    (dict(name=" "), "name\n"),
    (dict(precision={}), "precision\n.*at least 1 item"),
    (dict(precision={"a": 0}), "precision.a\n.*greater than 0"),
    (dict(weight_bytes=-1), "weight_bytes\n.*input_value=-1"),
    (dict(aliases=("a b",)), "aliases.0\n.*input_value='a b'"),
  ],
)
def test_impossible_points_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(make("p", 100, 0.5), **change)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (dict(accuracy=float("nan")), "accuracy\n.*less than or equal to 1"),
    (dict(accuracy=1.1), "accuracy\n.*less than or equal to 1.*1.1"),
    (dict(accuracy=-0.1), "accuracy\n.*greater than or equal to 0"),
    (dict(error=-0.1), "error\n.*greater than or equal to 0"),
    (dict(loss=-1.1), "loss\n.*greater than or equal to -1"),
    (dict(freedom=0), "freedom\n.*greater than 0"),
  ],
)
def test_impossible_scores_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(make("p", 100, 0.5).test, **change)


def test_numbers_of_numpy_become_plain_ones():
  point = make("p", np.float64(12.0), np.float32(0.5), bops=np.int64(3))
  accuracy = point.validation.accuracy
  assert (point.cycles, accuracy, point.bops) == (12, 0.5, 3)
  assert [type(point.cycles), type(accuracy)] == [int, float]


def test_points_that_do_not_fit_together_are_refused():
  with pytest.raises(ValueError, match="names .'free-0.2'. occur more"):
    report([*points(), make("free-0.2", 5, 0.5)])
  with pytest.raises(ValueError, match="parents has .'nobody'., .*no points"):
    report([*points(), make("p", 5, 0.5, "free_bits", "nobody")])
  with pytest.raises(ValueError, match="only one has sites .'conv', .*'fc'"):
    report([*points(), make("p", 5, 0.5, precision={"fc": 8})])
  with pytest.raises(ValueError, match="points\n.*at least 1 item"):
    report(points=())
  with pytest.raises(ValueError, match="layers has .'nobody'., .*no points"):
    report(layers={"nobody": ()})
  with pytest.raises(ValueError, match="clock_hertz\n.*greater than 0"):
    report(clock_hertz=0)
  with pytest.raises(ValueError, match="test_count\n.*greater than 0"):
    report(test_count=0)
  with pytest.raises(ValueError, match="share\n.*input_value=nan"):
    row = LayerRow("conv", "conv", 8, 8, 8, 10, 10, 1.0)
    dataclasses.replace(row, share=float("nan"))
  with pytest.raises(ValueError, match="cycles_after\n.*input_value=-1"):
    change = Change(("conv",), "conv", (4, 4, 4), (8, 8, 4), 10, 5, "")
    dataclasses.replace(change, cycles_after=-1)


# --- the tables --------------------------------------------------------------


def read(some):
  """The rows of results.csv, read back."""
  text = as_csv(report(some).table())
  return list(csv.DictReader(io.StringIO(text, newline="")))


def test_csv_says_all_of_every_point():
  odd = make('odd, "name"\nof two lines', 1, 1 / 3, detail={"why": "a, b"})
  given = [*points(), odd]
  rows = read(given)
  assert [r["name"] for r in rows] == [p.name for p in records.by_cycles(given)]
  for row, point in zip(rows, records.by_cycles(given), strict=True):
    for prefix, score in (("", point.test), ("validation_", point.validation)):
      for field in ("accuracy", "error", "loss", "loss_error"):
        assert float(row[prefix + field]) == getattr(score, field)
    assert row["kind"] == point.kind and row["parent"] == (point.parent or "")
    assert tuple(row["aliases"].split()) == point.aliases
    for field in ("cycles", "bops", "weight_bytes", "peak_activation_bytes"):
      assert int(row[field]) == getattr(point, field)
    bits = {k[5:]: int(v) for k, v in row.items() if k.startswith("bits:")}
    assert bits == point.precision
    detail = {k[7:]: v for k, v in row.items() if v and k.startswith("detail:")}
    assert detail == point.detail
  front = {row["name"] for row in rows if row["on_front"] == "1"}
  assert front == {odd.name, "2/2", "free-0.1+fb", "locked-0.03+fb", "8/8"}


class Terminal:
  """A log that keeps what it is told, on 80 columns."""

  def __init__(self):
    self.told = io.StringIO()
    self.console = Console(file=self.told, width=80)
    self.say = self.console.print


def test_csv_of_several_seeds_has_the_numbers_of_each():
  some = [
    dataclasses.replace(
      p,
      by_seed=tuple(
        SeedPoint(seed, p.precision, p.cycles + seed, p.validation, p.test)
        for seed in (4, 7)
      ),
    )
    for p in points()
  ]
  text = as_csv(report(some, seeds=(4, 7)).table())
  rows = list(csv.DictReader(io.StringIO(text, newline="")))
  for row, point in zip(rows, records.by_cycles(some), strict=True):
    for one in point.by_seed:
      end = f":seed{one.seed}"
      assert int(row[f"cycles{end}"]) == one.cycles
      assert float(row[f"accuracy{end}"]) == one.test.accuracy
      found = float(row[f"validation_accuracy{end}"])
      assert found == one.validation.accuracy


def test_a_terminal_of_80_columns_shows_every_point_and_the_answer():
  log = Terminal()
  points_page.tell(report(), log)
  lines = log.told.getvalue().splitlines()
  best = next(line for line in lines if "★ " in line and "650" in line)
  for cell in ("locked-0.03+fb", " 650 ", "-35.0", "50.15 ± 1.00", "-0.15 ±"):
    assert cell in best
  for point in points():
    assert any(f" {point.name} " in line for line in lines), point.name
  told = " ".join(" ".join(lines).split())
  assert "the bits of locked-0.03+fb: on cluster" in told
  assert "the fastest that loses at most 0.5 points with 80% conf" in told
