"""Standings from numbers made by hand, and a shootout from start to end."""

import json
import math

import experiment_runs
import lab_cases
import pytest

from fbq.config import ConfigError
from fbq.experiments.shootout import pipeline, plots, standings
from fbq.experiments.shootout.standings import Tuned
from fbq.lab import experiment
from tests.configs import tiny_shootout


def outcome(strategy, seed, setting, cycles, accuracy):
  bits = {"a.weight": 8 if cycles > 50 else 4}
  return Tuned(strategy, seed, setting, cycles, accuracy, bits)


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
  assert good.hypervolume.value == pytest.approx(sum(areas) / 2)
  assert good.hypervolume.error == pytest.approx((areas[1] - areas[0]) / 2)
  assert good.best[0] is None
  assert good.best[1].value == pytest.approx(0.90)
  assert good.best[1].error == pytest.approx(0.02)
  assert good.best[2].value == pytest.approx(0.90)  # the better of its two
  assert good.search_steps == 230 and fair.search_steps == 0
  assert good.assignments == 4
  assert poor.hypervolume.value == 0  # slower than 8/8, which covers nothing
  assert uniform.best[1].value == pytest.approx(0.72)
  # Within seeds the difference is the same: nothing is left to chance.
  assert fair.behind.value == pytest.approx(0.02)
  assert fair.behind.error == pytest.approx(0.0, abs=1e-12)
  assert good.is_level and not fair.is_level
  assert "every other strategy is behind" in standings.verdict(rows, 2)


def test_a_mean_of_some_seeds_says_so():
  found = [*outcomes(), outcome("odd", 0, "1", 40, 0.8)]
  found.append(outcome("odd", 1, "1", 60, 0.9))
  rows = standings.standings(found, (0.4, 0.6), 0.5, {})
  fast, slow = next(row for row in rows if row.strategy == "odd").best
  assert fast.of(2) == "80.00 (1/2)" and slow.of(2) == "85.00 ±5.00"


def test_the_chances_of_the_strategies_are_told():
  assert "has 2 settings" in pipeline._chances([2, 2])
  assert "2 to 3 settings" in pipeline._chances([2, 3])


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
  assert "does not tell it from fair." in standings.verdict(rows, 2)


def test_a_single_seed_has_no_error_and_no_verdict():
  found = [o for o in outcomes() if o.seed == 0]
  rows = standings.standings(found, (0.5,), 0.5, {})
  assert all(math.isnan(row.hypervolume.error) for row in rows)
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
  first = plots.panels(outcomes(), rows, 360)
  assert first == plots.panels(outcomes(), rows, 360)
  for text in (
    "good, 1: 50.00 % of the cycles, 90.00 ± 2.00 %",
    "uniform, 8/8",
  ):
    assert text in first


WRONG = [
  ("strategies.softmax.settings", (0.0,), "softmax.settings is .*above 0"),
  ("strategies.softmax.settings", (), "softmax.settings is .*positive numb"),
  ("strategies.loss-exact.settings", (0.5,), "shares of the cycles.*to 100 %"),
  ("strategies.latency.settings", (1.0, 1.0), "differ"),
  ("strategies.gumbel.gate_learning_rate", -0.1, "gate_learning.*above 0"),
  ("strategies.gumbel.strategy", "gumble", "'gumble' is not known; did you m"),
  ("strategies.gumbel.strategy", "tests.configs.tiny:separable", "Valuation"),
  ("seeds", (1, 1), "seeds.*different"),
  ("search.temperature", (1.0,), r"temperature is .*\(a number, above 0"),
  ("search.steps", 0, "search.steps is 0, expected a whole number, 1 to"),
  ("budgets", (1.2,), "budgets.*shares of the cycles"),
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


def test_an_unknown_strategy_is_named():
  config = tiny_shootout.get_config()
  config.strategies["sofmax"] = dict(settings=(1.0,))
  with pytest.raises(ConfigError, match="sofmax.*did you mean 'softmax'"):
    lab_cases.checked(config)
  del config.strategies["sofmax"], config.strategies["free-bits"]
  with pytest.raises(ConfigError, match="free-bits with gates-exact"):
    lab_cases.checked(config)


def test_a_whole_shootout_resumes_and_repeats(tmp_path):
  cache, first = tmp_path / "cache", tmp_path / "first"
  options = dict(config="tests/configs/tiny_shootout.py:few")
  status, output = experiment_runs.run(cache, first, **options)
  assert status == 0, output
  result = json.loads((first / "result.json").read_text())
  expected = {"uniform", "fractional-budget", "loss-exact"}
  assert set(result["standings"]) == expected
  assert (first / "report.html").stat().st_size > 50_000
  numbers = (first / "results.csv").read_bytes()
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
