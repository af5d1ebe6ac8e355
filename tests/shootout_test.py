"""Standings from numbers made by hand, and a shootout from start to end."""

import collections
import csv
import json
import math

import experiment_runs
import lab_cases
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fbq.config import ConfigError
from fbq.experiments.shootout import plots, significance, standings
from fbq.experiments.shootout.standings import Tuned
from fbq.lab import experiment
from tests.configs import tiny_shootout


def outcome(strategy, seed, setting, cycles, accuracy, validation=None):
  bits = {"a.weight": 8 if cycles > 50 else 4}
  chosen_by = accuracy if validation is None else validation
  return Tuned(strategy, seed, setting, cycles, accuracy, 0.03, chosen_by, bits)


def outcomes():
  """Two seeds; "good" is 0.02 better than "fair" in both, "poor" is slow."""
  found = []
  for seed, more in ((0, 0.0), (1, 0.04)):
    found += [
      outcome("uniform", seed, "8/8", 100, 0.90 + more),
      outcome("uniform", seed, "4/4", 50, 0.70 + more),
      outcome("good", seed, "1", 50, 0.88 + more),
      outcome("good", seed, "2", 80, 0.85 + more),
      outcome("fair", seed, "1", 50, 0.86 + more),
      outcome("poor", seed, "1", 120, 0.95),
    ]
  return found


def test_standings_of_numbers_made_by_hand():
  rows = standings.standings(outcomes(), (0.4, 0.5, 0.8), 0.5, {"good": 230.0})
  assert [row.strategy for row in rows] == ["good", "fair", "uniform", "poor"]
  good, fair, uniform, poor = rows
  # Area of seed 0: from 50 to 100 cycles, (0.88 - 0.5) of 0.5.
  areas = [0.5 * (0.38 + more) / 0.5 for more in (0.0, 0.04)]
  assert good.area.value == pytest.approx(sum(areas) / 2)
  assert good.area.error == pytest.approx((areas[1] - areas[0]) / 2)
  assert good.best[0] is None
  assert good.best[1].value == pytest.approx(0.90)
  assert good.best[1].error == pytest.approx(0.02)
  assert good.best[2].value == pytest.approx(0.90)  # the better of its two
  assert good.search_steps == 230 and fair.search_steps == 0
  assert good.assignments == 4
  assert poor.area.value == 0  # slower than 8/8, which covers nothing
  assert uniform.best[1].value == pytest.approx(0.72)
  # Within seeds the difference is the same: nothing is left to chance.
  assert fair.behind.value == pytest.approx(0.02)
  assert fair.behind.error == pytest.approx(0.0, abs=1e-12)
  assert good.is_level and not fair.is_level
  # Areas 0.38 and 0.42 above: t = 20 with one degree of freedom. Of six pairs
  # three have no chance at all, and this is the least of the others.
  expected = 3 * 2 / math.pi * math.atan(1 / 20)
  assert poor.chance == pytest.approx(expected)
  assert "corrected for all 6 pairs, do not tell it from poor." in (
    standings.verdict(rows, 2)
  )
  known = [o for o in outcomes() if o.strategy != "poor"]
  told = standings.standings(known, (0.5,), 0.5, {})
  assert "every other strategy is behind" in standings.verdict(told, 2)


def test_a_mean_of_some_seeds_says_so():
  found = [*outcomes(), outcome("odd", 0, "1", 40, 0.8)]
  found.append(outcome("odd", 1, "1", 60, 0.9))
  rows = standings.standings(found, (0.4, 0.6), 0.5, {})
  fast, slow = next(row for row in rows if row.strategy == "odd").best
  assert fast.of(2) == "80.00 (1/2)" and slow.of(2) == "85.00 ±5.00"


def test_two_standard_errors_of_three_seeds_prove_nothing():
  found = []
  for seed, lead in ((0, 0.01), (1, 0.02), (2, 0.06)):
    found += [
      outcome("uniform", seed, "8/8", 100, 0.9),
      outcome("good", seed, "1", 50, 0.8 + lead),
      outcome("fair", seed, "1", 50, 0.8),
    ]
  rows = standings.standings(found, (0.5,), 0.5, {})
  behind = rows[1].behind  # 0.03 +- 0.0153: p = 0.19 with 2 degrees of freedom
  assert rows[1].strategy == "fair"
  assert 1.9 < behind.value / behind.error < 2.1
  assert rows[1].is_level


def test_a_noisy_difference_is_no_difference():
  found = outcomes()
  found.append(outcome("fair", 1, "2", 50, 0.93))
  rows = standings.standings(found, (0.5,), 0.5, {})
  fair = next(row for row in rows if row.strategy == "fair")
  assert fair.is_level
  assert ", do not tell it from fair, poor." in standings.verdict(rows, 2)


def test_what_is_deployed_is_chosen_in_validation():
  tuned = [
    outcome("a", 0, "fast", 20, 0.70, validation=0.80),
    outcome("a", 0, "lucky", 40, 0.95, validation=0.75),  # on the test images
    outcome("a", 0, "slow", 60, 0.60, validation=0.90),
    outcome("uniform", 0, "8/8", 100, 0.90, validation=0.95),
  ]
  # From 20 cycles on the first, from 60 on the third, though it is worse.
  expected = (40 * 0.20 + 40 * 0.10) / (100 * 0.5)
  assert standings.area(tuned, 100, 0.5) == pytest.approx(expected)
  (first, _) = standings.standings(tuned, (0.5, 0.7), 0.5, {})
  assert [best.value for best in first.best] == [0.70, 0.60]


@settings(deadline=None)
@given(
  st.lists(
    st.tuples(st.integers(1, 12), st.integers(0, 9), st.integers(0, 9)),
    min_size=1,
  )
)
def test_the_area_is_the_sum_over_every_number_of_cycles(points):
  tuned = [
    outcome("a", 0, str(i), cycles, accuracy / 10, validation / 10)
    for i, (cycles, accuracy, validation) in enumerate(points)
  ]
  total = 0.0
  for cycles in range(10):
    fast = [t for t in tuned if t.cycles <= cycles]
    if fast:
      best = max(t.validation for t in fast)
      fastest = min(t.cycles for t in fast if t.validation == best)
      # Of equals in both any may be deployed.
      ties = {
        t.accuracy for t in fast if (t.validation, t.cycles) == (best, fastest)
      }
      assume(len(ties) == 1)
      total += max(ties.pop() - 0.2, 0.0)
  assert standings.area(tuned, 10, 0.2) == pytest.approx(total / 8)


def test_holm_by_hand():
  nan = math.nan
  found = significance.holm([0.01, nan, 0.04, 0.02, 0.5])
  # 4 x 0.01, then 3 x 0.02, then 2 x 0.04, then 1 x 0.5.
  assert math.isnan(found.pop(1))
  assert found == pytest.approx([0.04, 0.08, 0.06, 0.5])
  # None below one that was smaller, none above 1.
  assert significance.holm([0.02, 0.021, 0.9]) == pytest.approx(
    [0.06, 0.06, 0.9]
  )
  assert significance.holm([0.6, 0.7]) == [1.0, 1.0]


def test_a_paired_test_by_hand():
  # Differences 1, 2, 3: t = 2 / (1 / sqrt(3)) = 3.464 with 2 degrees of
  # freedom, whose p is 1 - t / sqrt(t^2 + 2) in closed form.
  t = 2 * math.sqrt(3)
  expected = 1 - t / math.sqrt(t**2 + 2)
  assert significance.paired([2, 4, 6], [1, 2, 3]) == pytest.approx(expected)
  assert significance.paired([1, 2], [1, 2]) == 1.0
  assert significance.paired([2, 3], [1, 2]) == 0.0
  assert math.isnan(significance.paired([1], [2]))


def test_ranks_by_hand():
  # Ranks 1, 2.5, 2.5, 4 against 4, 2.5, 2.5, 1.
  found = significance.rank_correlation([1, 5, 5, 9], [8, 4, 4, 2])
  assert found == pytest.approx(-1.0)
  assert significance.rank_correlation([1, 2, 3], [8, 8, 8]) is None


def test_many_comparisons_need_more_than_one():
  """A difference that one test tells from zero is not told among many."""

  def found(others):
    tuned = []
    for seed, lead in ((0, 0.010), (1, 0.011), (2, 0.0125)):
      tuned += [
        outcome("uniform", seed, "8/8", 100, 0.9),
        outcome("good", seed, "1", 50, 0.8 + lead),
        outcome("by-macs", seed, "1", 50, 0.8),
        *(
          outcome(f"other{i}", seed, "1", 50, 0.79 - 0.02 * (i + seed) % 0.03)
          for i in range(others)
        ),
      ]
    return standings.standings(tuned, (0.5,), 0.5, {})

  one = next(s for s in found(0) if s.strategy == "by-macs")
  assert not one.is_level
  good = next(s for s in found(0) if s.strategy == "good")
  assert good.beats_control and "from good alone" in standings.about_control(
    found(0), 3
  )
  many = found(30)
  one = next(s for s in many if s.strategy == "by-macs")
  assert one.is_level
  assert "is told from no strategy" in standings.about_control(many, 3)
  assert standings.about_control(many, 1) == ""


def test_equal_strategies_are_told_apart_no_more_often_than_is_said():
  """The leader is picked by chance, and counts for what it was picked from."""
  random, runs = np.random.default_rng(0), 250
  claims = 0
  for accuracies in random.normal(0.8, 0.02, (runs, 8, 3)):
    tuned = [
      outcome(f"s{i}", seed, "1", 50, accuracies[i, seed])
      for i in range(8)
      for seed in range(3)
    ]
    tuned += [outcome("uniform", s, "8/8", 100, 0.1) for s in range(3)]
    rows = standings.standings(tuned, (), 0.5, {})
    claims += any(not row.is_level for row in rows if row.strategy != "uniform")
  nominal = standings.LEVEL
  error = math.sqrt(nominal * (1 - nominal) / runs)
  assert claims / runs <= nominal + 2 * error


def test_a_single_seed_has_no_error_and_no_verdict():
  found = [o for o in outcomes() if o.seed == 0]
  rows = standings.standings(found, (0.5,), 0.5, {})
  assert all(math.isnan(row.area.error) for row in rows)
  assert str(rows[0].best[0]) == "88.00"
  assert "one seed" in standings.verdict(rows, 1)


def test_a_seed_that_a_strategy_lacks_is_named():
  with pytest.raises(ValueError, match=r"'fair': seeds \[1\] lack"):
    standings.standings(
      [o for o in outcomes() if (o.strategy, o.seed) != ("fair", 1)],
      (0.5,),
      0.5,
      {},
    )


def test_the_picture_is_the_same_twice_and_names_its_marks():
  rows = standings.standings(outcomes(), (0.5,), 0.5, {})
  first = plots.panels(outcomes(), rows)
  assert first == plots.panels(outcomes(), rows)
  for text in (
    "good, 1: 50.00 % of the cycles, 90.00 ± 2.00 %",
    "uniform, 8/8",
  ):
    assert text in first
  # One seed has no spread over seeds, but that over images.
  alone = [o for o in outcomes() if o.seed == 0]
  rows = standings.standings(alone, (0.5,), 0.5, {})
  text = "good, 1: 50.00 % of the cycles, 88.00 ± 3.00 %"
  assert text in plots.panels(alone, rows)


WRONG = [
  ("strategies.softmax.bracket", (1.0, 0.5), "softmax.bracket is .*that rise"),
  ("strategies.softmax.bracket", (0.0, 1.0), "softmax.bracket is .*that rise"),
  ("strategies.gumbel.gate_learning_rate", -0.1, "gate_learning.*above 0"),
  ("strategies.gumbel.strategy", "gumble", "'gumble' is not known; did you m"),
  (
    "strategies.gumbel.strategy",
    "tests.configs.tiny:separable",
    "Search, Valuation or Order",
  ),
  ("seeds", (1, 1), "seeds.*different"),
  ("search.temperature", (1.0,), r"temperature is .*\(a number, above 0"),
  ("search.steps", 0, "search.steps is 0, expected a whole number, 1 to"),
  ("budgets", (1.2,), "budgets.*shares of what 8 bits cost"),
  ("budgets", (0.5, 0.98), "budgets.*shares of the cycles.*to 100 %"),
  ("fine_tuning.start", "gates", "start is 'gates', expected one of 'float'"),
]


@pytest.mark.parametrize("name, value, message", WRONG)
def test_wrong_settings_are_named(name, value, message):
  config = tiny_shootout.get_config()
  *path, last = name.split(".")
  place = config
  for part in path:
    place = place[part]
  place[last] = value
  with pytest.raises(ConfigError, match=message):
    lab_cases.checked(config)


def test_kept_weights_have_no_float_teacher():
  config = tiny_shootout.get_config("few")
  config.qat.distillation = 0.5
  with pytest.raises(ConfigError, match="distillation is 0.5, expected 0 with"):
    lab_cases.checked(config)


def test_an_unknown_strategy_is_named():
  config = tiny_shootout.get_config()
  config.strategies["sofmax"] = {}
  with pytest.raises(ConfigError, match="sofmax.*did you mean 'softmax'"):
    lab_cases.checked(config)
  del config.strategies["sofmax"], config.strategies["free-bits"]
  with pytest.raises(ConfigError, match="free-bits with gates-exact"):
    lab_cases.checked(config)
  del config.strategies["gates-exact"]
  with pytest.raises(ConfigError, match="free-bits with by-macs"):
    lab_cases.checked(config)


def test_a_whole_shootout_resumes_and_repeats(cache, tmp_path):
  first = tmp_path / "first"
  options = dict(config="tests/configs/tiny_shootout.py:few")
  status, output = experiment_runs.run(cache, first, **options)
  assert status == 0, output
  result = json.loads((first / "result.json").read_text())
  expected = {"uniform", *tiny_shootout.FEW}
  assert set(result["standings"]) == expected
  assert (first / "report.html").stat().st_size > 50_000
  numbers = (first / "results.csv").read_bytes()
  # An assignment for each budget, and two uniform networks for each precision.
  with (first / "results.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
  counts = collections.Counter(row["strategy"] for row in rows)
  assert counts == dict.fromkeys(tiny_shootout.FEW, 2) | {"uniform": 6}
  # Weights that a search trained are trained on, beside the float network's.
  runs = {path.name for path in (first / "checkpoints").iterdir()}
  assert any(name.endswith("-fractional-budget-99%-of-cycles") for name in runs)
  assert not any(name.endswith("-loss-exact-99%-of-cycles") for name in runs)
  # The page is made again from the record alone.
  kind, results, run = experiment.load(first)
  text = (first / "report.html").read_text()
  (first / "report.html").unlink()
  kind.write(results, run, first)
  assert (first / "report.html").read_text() == text
  # Without the mark of the end, everything is found and nothing trained again.
  (first / "result.json").unlink()
  (first / "results.csv").unlink()
  status, output = experiment_runs.run(cache, first, **options)
  assert status == 0, output
  assert (first / "results.csv").read_bytes() == numbers
