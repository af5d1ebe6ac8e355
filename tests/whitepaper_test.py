"""The whitepaper's tables: numbers made by hand, and a run to its end."""

import csv
import json
import math
import pathlib
import shutil
from types import SimpleNamespace

import experiment_runs
import numpy as np
import pytest

from fbq.experiments import whitepaper as whitepaper_pipeline
from fbq.experiments import whitepaper_report, whitepaper_settings
from fbq.experiments.settings import ConfigError
from fbq.experiments.whitepaper_report import Study
from fbq.report import (
  whitepaper,
  whitepaper_claims,
  whitepaper_collect,
  whitepaper_plots,
  whitepaper_published,
)
from fbq.report.whitepaper import CASES, FLOAT, PTQ, QAT, W4A8, Case
from fbq.report.whitepaper_claims import CLAIMS, Claim
from fbq.train.loop import Diverged
from tests.configs import tiny_whitepaper

GOLDEN = pathlib.Path(__file__).parent / "golden/whitepaper_tables.json"
CONFIG = "tests/configs/tiny_whitepaper.py"
KEYS = {
  2: "table2_weight_only_ptq_8bit",
  3: "table3_ptq_weights_and_activations_8bit",
  4: "table4_qat_8bit",
  5: "table5_4bit_weights_8bit_activations",
  6: "table6_4bit_activations_8bit_weights",
}
CLAIM = Claim("a - b", FLOAT, W4A8, 0.01, "more", "no more")


@pytest.mark.parametrize("number", KEYS)
def test_published_numbers_are_those_of_the_golden_copy(number):
  golden = json.loads(GOLDEN.read_text())[KEYS[number]]
  golden = golden.get("rows", golden)
  ours = whitepaper_published.TABLES[number]
  assert set(ours) == set(whitepaper_published.FAMILIES.values())
  (table,) = (t for t in whitepaper.TABLES if t.number == number)
  for network, row in ours.items():
    expected = dict(golden[network])
    assert whitepaper_published.FLOAT[network] == expected.pop("float")
    assert row == expected
    assert set(row) == {c.key for c in table.columns if c.key}


def test_the_same_case_has_the_same_published_number_in_all_tables():
  for builder in whitepaper_published.FAMILIES:
    found = {}
    for table in whitepaper.TABLES:
      for column in table.columns:
        theirs = whitepaper.published(builder, table, column)
        if theirs is not None:
          assert found.setdefault(column.case, theirs) == theirs
  assert len({case.name for case in CASES}) == len(CASES) == 17


def by_hand(builder="mobilenet_v1"):
  """As published, in three seeds a point apart."""
  network = whitepaper_published.FAMILIES[builder]
  accuracies = {FLOAT: whitepaper_published.FLOAT[network]}
  for table in whitepaper.TABLES:
    for column in table.columns:
      theirs = whitepaper.published(builder, table, column)
      accuracies.setdefault(column.case, 0.5 if theirs is None else theirs)
  return {
    case: [value - 0.01, value, value + 0.01]
    for case, value in accuracies.items()
  }


@pytest.mark.parametrize("builder", whitepaper_published.FAMILIES)
def test_the_published_numbers_agree_with_themselves(builder):
  verdicts = whitepaper_claims.verdicts(builder, by_hand(builder))
  assert [v.claim for v in verdicts] == list(CLAIMS)
  for v in verdicts:
    if v.theirs is None:
      assert v.word == ""
      continue
    # Seeds differ all alike, so a difference has no error but rounding.
    assert v.ours.value == pytest.approx(v.theirs) and v.ours.error < 1e-9
    assert v.word == "agrees", v


def test_what_the_paper_says_of_each_network():
  said = {
    builder: [
      v.text for v in whitepaper_claims.verdicts(builder, by_hand(builder))
    ]
    for builder in whitepaper_published.FAMILIES
  }
  for builder, texts in said.items():
    is_depthwise = builder.startswith("mobilenet")
    assert ("collapses per layer" in texts) == is_depthwise
    assert ("per channel rescues" in texts) == is_depthwise
    assert ("symmetric loses a point or more" in texts) == (
      builder == "mobilenet_v1"
    )
    assert "8-bit activations are nearly free" in texts
    assert "training closes the gap also per layer" in texts
    assert "4-bit weights need training" in texts
    assert "W4A8 is better than W8A4" in texts


def test_a_collapse_that_does_not_show_does_not_agree():
  accuracies = by_hand()
  layer = Case(PTQ, 8, 8, "affine", False)
  accuracies[layer] = [0.69, 0.70, 0.705]
  first, second, *_ = whitepaper_claims.verdicts("mobilenet_v1", accuracies)
  assert first.claim.right == layer and first.word == "does not agree"
  assert first.text == "does not collapse per layer"
  assert first.theirs == pytest.approx(0.708)
  assert second.text == "per channel has nothing to rescue"
  del accuracies[layer]
  found = whitepaper_claims.verdicts("mobilenet_v1", accuracies)
  assert len(found) == len(CLAIMS) - 2


def test_the_seeds_decide_by_a_one_sided_t_test():
  # Mean 0.02, standard error 0.01 / sqrt(3); t of 2 degrees at 95 % is 2.920.
  apart = [0.01, 0.02, 0.03]
  reach = 2.91999 * 0.01 / math.sqrt(3)
  for bound, is_above in (
    (0.02 - reach - 1e-4, True),
    (0.02 - reach + 1e-4, None),
    (0.02 + reach - 1e-4, None),
    (0.02 + reach + 1e-4, False),
  ):
    claim = CLAIM._replace(bound=bound)
    above, below = 0.5, -0.5
    v = whitepaper_claims.verdict(claim, apart, above)
    assert v.is_above is is_above
    words = {True: "agrees", False: "does not agree", None: "undecided"}
    assert v.word == words[is_above]
    opposite = {True: "does not agree", False: "agrees", None: "undecided"}
    word = whitepaper_claims.verdict(claim, apart, below).word
    assert word == opposite[is_above]
    assert whitepaper_claims.verdict(claim, apart, None).word == ""


def test_undecided_claims_tell_how_many_seeds_are_above():
  v = whitepaper_claims.verdict(CLAIM, [0.86, 0.0, 0.86], 0.7)
  assert v.is_above is None and v.word == "undecided"
  assert v.text == "more in 2 of 3 seeds"


def test_one_seed_decides_nothing_and_equal_seeds_do():
  assert whitepaper_claims.verdict(CLAIM, [0.5], 0.5).is_above is None
  equal = CLAIM._replace(bound=0.25)
  assert whitepaper_claims.verdict(equal, [0.25, 0.25], 0.5).is_above is False
  assert whitepaper_claims.verdict(equal, [0.5, 0.5], 0.5).is_above is True


def test_cells_lose_within_seeds():
  accuracies = by_hand() | {FLOAT: [0.9, 0.7, 0.8]}
  table = whitepaper.TABLES[-1]
  ptq, *_, last = whitepaper.cells("mobilenet_v1", table, accuracies)
  assert ptq.ours.value == pytest.approx(0.48)
  lost = [0.9 - 0.47, 0.7 - 0.48, 0.8 - 0.49]
  assert ptq.lost.value == pytest.approx(np.mean(lost))
  assert ptq.lost.error == pytest.approx(np.std(lost, ddof=1) / math.sqrt(3))
  assert ptq.published == 0.48
  assert ptq.published_lost == pytest.approx(0.709 - 0.48)
  assert last.published == 0.65
  few = {FLOAT: accuracies[FLOAT]}
  assert whitepaper.cells("mobilenet_v1", table, few) == [None] * 3


def test_smaller_networks_lose_more_where_all_seeds_say_so():
  def run(net, builder, parameters, lost):
    return whitepaper_collect.Run(
      net,
      builder,
      (0, 1, 2),
      parameters,
      {FLOAT: [0.9] * 3, W4A8: [0.9 - x for x in lost]},
    )

  big = run("big", "resnet8", 900, (0.01, 0.02, 0.03))
  small = run("small", "mobilenet_v2", 100, (0.11, 0.12, 0.13))
  odd = run("odd", "vgg9", 500, (0.0, 0.05, 0.1))
  first, second, third = whitepaper_collect.pairs([big, small, odd])
  assert first.claim.title.startswith("lost by small - by odd")
  assert first.theirs is None and first.word == ""
  assert second.ours.value == pytest.approx(0.1) and second.word == "agrees"
  assert second.theirs == pytest.approx(0.719 - 0.62 - 0.752 + 0.732)
  assert third.claim.above == "odd loses more" and third.is_above is None
  with pytest.raises(ValueError, match="each of them once"):
    whitepaper_collect.check([big, big])
  with pytest.raises(ValueError, match="the same for all"):
    whitepaper_collect.check([big, small._replace(seeds=(0, 1, 4))])


def test_the_narrowest_network_is_held_against_the_widest():
  def study(lost):
    accuracies = {FLOAT: [0.9, 0.8, 0.7]}
    found = [a - x for a, x in zip(accuracies[FLOAT], lost, strict=True)]
    return Study(
      tiny_whitepaper.separable(0.5), accuracies | {W4A8: found}, [], []
    )

  widths = {
    0.5: study([0.05, 0.06, 0.07]),
    1.0: study([0.01, 0.02, 0.03]),
    0.25: study([0.31, 0.32, 0.33]),
  }
  v = whitepaper_report._narrow_against_wide(widths)
  assert "width 0.25 - by width 1," in v.claim.title
  assert v.ours.value == pytest.approx(0.3) and v.is_above
  assert v.text == "narrow networks lose more" and v.word == ""


def test_training_that_diverges_counts_as_chance_and_is_told():
  config = tiny_whitepaper.get_config()
  net, task, _ = whitepaper_settings.check(config)
  told = []
  lab = SimpleNamespace(
    net=net, task=task, log=SimpleNamespace(say=told.append)
  )
  study = Study(net, {}, [], [])

  def train(name, *rest):
    raise Diverged(f"{name}: the loss of step 3 is not finite.")

  args = lab, study, train, W4A8, "seed0-qat", None, None, None
  assert whitepaper_pipeline._trained(*args) == 0.1
  assert study.diverged == ["seed0-qat"] and "Counted as chance" in told[0]
  (text,) = whitepaper_report._diverged([study, study])
  assert text.count("seed0-qat") == 1
  assert whitepaper_report._diverged([Study(net, {}, [], [])]) == []


def test_a_picture_is_the_same_twice():
  first = whitepaper_plots.losses("mobilenet_v1", by_hand())
  assert first == whitepaper_plots.losses("mobilenet_v1", by_hand())
  assert first.startswith(b"\x89PNG")


WRONG = [
  ("seeds", (1, 1), "seeds.*different"),
  ("widths", (0.5, -1.0), "widths.*positive"),
  ("qat.freeze_share", 1.5, "freeze_share.*0 to 1"),
  ("qat.steps", 0, "qat.steps"),
  ("net.arguments", dict(), "widths.*has no width"),
]


@pytest.mark.parametrize("name, value, message", WRONG)
def test_wrong_settings_are_named(name, value, message):
  config = tiny_whitepaper.get_config()
  *path, last = name.split(".")
  place = config
  for part in path:
    place = place[part]
  place[last] = value
  with pytest.raises(ConfigError, match=message):
    whitepaper_settings.check(config)


def test_networks_free_all_activations_but_the_image():
  net = whitepaper_settings.check(tiny_whitepaper.get_config()).net
  four = whitepaper_report.assignment(net, Case(PTQ, 8, 4))
  assert four == {
    "input.out": 8,
    "conv.weight": 8,
    "conv.out": 4,
    "dw.weight": 8,
    "dw.out": 4,  # signed
    "classifier.weight": 8,
  }
  counts = 72, 72, 80  # of weights, of the width 0.5
  sizes = (
    (FLOAT, 4 * sum(counts)),
    (Case(QAT, 8, 4), sum(counts)),
    (W4A8, sum(counts) // 2),
    (Case(PTQ, None, 8), 4 * sum(counts)),
  )
  for case, size in sizes:
    assert whitepaper_report.weight_bytes(net, case) == size


def test_a_run_fills_every_table_and_resumes(tmp_path):
  cache, first = tmp_path / "cache", tmp_path / "first"
  status, output = experiment_runs.run(cache, first, config=CONFIG)
  assert status == 0, output
  result = json.loads((first / "result.json").read_text())
  names = {case.name for case in (FLOAT, *CASES)}
  assert set(result["accuracies"]) == names
  assert all(len(found) == 2 for found in result["accuracies"].values())
  assert set(result["widths"]) == {"0.5"}
  for name, found in result["widths"]["0.5"].items():
    assert found == result["accuracies"][name]
  text = (first / "results.csv").read_text()
  rows = list(csv.DictReader(text.splitlines()))
  assert len(rows) == 2 * len(names)
  for row in rows:
    place = [0, 3].index(int(row["seed"]))
    found = result["accuracies"][row["case"]]
    assert float(row["accuracy"]) == found[place]
  page = (first / "report.html").read_text()
  for table in whitepaper.TABLES:
    assert f"Table {table.number}: {table.title}" in page
    assert f"Table {table.number}: " in output
  # What was lost is made again, on what is left.
  second = tmp_path / "second"
  shutil.copytree(first, second)
  (second / "result.json").unlink()
  (second / "ptq/seed3.json").unlink()
  shutil.rmtree(second / "checkpoints/seed3-qat-w4a8-symmetric-channel")
  status, output = experiment_runs.run(cache, second, config=CONFIG)
  assert status == 0, output
  expected, found = map(experiment_runs.numbers, (first, second))
  for numbers in (expected, found):  # lines made again come last
    numbers["metrics.jsonl"] = sorted(numbers["metrics.jsonl"].splitlines())
  assert found == expected
  read = whitepaper_collect.read(second)
  assert read.seeds == (0, 3) and set(read.accuracies) == {FLOAT, *CASES}
  with pytest.raises(ValueError, match="no finished run"):
    whitepaper_collect.read(tmp_path)
