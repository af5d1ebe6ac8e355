"""The whitepaper's tables: numbers made by hand, and a run to its end."""

import csv
import dataclasses
import json
import math
import pathlib
import shutil
from types import SimpleNamespace

import experiment_runs
import lab_cases
import numpy as np
import pytest
from ptq_cases import variables

from configs import digits_whitepaper
from fbq.config import ConfigError
from fbq.experiments.whitepaper import (
  cases,
  claims,
  collect,
  config,
  page,
  pipeline,
)
from fbq.experiments.whitepaper.cases import CASES, FLOAT, PAPER, Claim
from fbq.experiments.whitepaper.results import (
  RecipeAccuracies,
  WhitepaperTables,
)
from fbq.lab import experiment
from fbq.lab.lab import Lab
from fbq.ptq.folding import Spread
from fbq.report.run import Run
from fbq.train.loop import Diverged
from tests.configs import tiny_whitepaper

GOLDEN = pathlib.Path(__file__).parent / "golden/whitepaper_tables.json"
CONFIG = "tests/configs/tiny_whitepaper.py"
W4A8 = claims.TRAINED_4
W8A4 = "ptq-w8a4-symmetric-channel"
LAYER_8 = "ptq-w8a8-asymmetric-layer"
PTQ_A8 = cases.Case("ptq", None, 8, "restricted", True, True)
KEYS = {
  2: "table2_weight_only_ptq_8bit",
  3: "table3_ptq_weights_and_activations_8bit",
  4: "table4_qat_8bit",
  5: "table5_4bit_weights_8bit_activations",
  6: "table6_4bit_activations_8bit_weights",
}
# Table -> key of a column there -> case.
COLUMNS = {
  2: {
    "asymmetric_per_layer": "ptq-w8a32-asymmetric-layer",
    "symmetric_per_channel": "ptq-w8a32-symmetric-channel",
    "asymmetric_per_channel": "ptq-w8a32-asymmetric-channel",
  },
  3: {
    "asymmetric_per_layer": "ptq-w8a8-asymmetric-layer",
    "symmetric_per_channel": "ptq-w8a8-symmetric-channel",
    "asymmetric_per_channel": "ptq-w8a8-asymmetric-channel",
    "activation_only": "ptq-w32a8",
  },
  4: {
    "ptq_asymmetric_per_layer": "ptq-w8a8-asymmetric-layer",
    "ptq_symmetric_per_channel": "ptq-w8a8-symmetric-channel",
    "qat_asymmetric_per_layer": "qat-w8a8-asymmetric-layer",
    "qat_symmetric_per_channel": "qat-w8a8-symmetric-channel",
  },
  5: {
    "ptq_asymmetric_per_layer": "ptq-w4a8-asymmetric-layer",
    "ptq_symmetric_per_channel": "ptq-w4a8-symmetric-channel",
    "qat_symmetric_per_channel": "qat-w4a8-symmetric-channel",
  },
  6: {
    "ptq_w8a4": "ptq-w8a4-symmetric-channel",
    "qat_w8a4": "qat-w8a4-symmetric-channel",
    "qat_w4a8": "qat-w4a8-symmetric-channel",
  },
}
CLAIM = Claim("a - b", 0.01, FLOAT, W4A8, "more", "no more")


@pytest.mark.parametrize("number", KEYS)
def test_published_numbers_are_those_of_the_golden_copy(number):
  golden = json.loads(GOLDEN.read_text())[KEYS[number]]
  golden = golden.get("rows", golden)
  (table,) = (t for t in PAPER.tables if t.number == number)
  columns = COLUMNS[number]
  assert set(columns.values()) <= {*table.cases}
  for builder, network in PAPER.families.items():
    if network not in golden:  # table 6 has five networks
      assert number == 6
      assert cases.published(builder, columns["ptq_w8a4"]) is None
      assert cases.published(builder, columns["qat_w8a4"]) is None
      continue
    expected = dict(golden[network])
    assert cases.published(builder, FLOAT) == expected.pop("float")
    assert expected == {
      key: cases.published(builder, case) for key, case in columns.items()
    }


def test_nothing_else_is_said_to_be_published():
  printed = {case for columns in COLUMNS.values() for case in columns.values()}
  assert set(PAPER.published) == {FLOAT} | printed
  assert cases.published("vgg9", FLOAT) is None
  assert (
    cases.published("resnet8", "ptq-w8a8-asymmetric-layer-unfolded") is None
  )
  assert len(CASES) == 17
  with pytest.raises(ValueError, match="names no case"):
    cases.case_of("qat-w8-layer")


def test_names_say_how_a_network_was_quantized():
  layer = cases.case_of("ptq-w8a32-asymmetric-layer-unfolded")
  assert layer == ("ptq", 8, None, "affine", False, False)
  assert layer.heading == "PTQ W8A-\nasym. layer, not folded"
  assert cases.case_of(W4A8) == ("qat", 4, 8, "restricted", True, True)
  assert cases.case_of("ptq-w32a8") == PTQ_A8
  assert PTQ_A8.heading == "PTQ W-A8"


def by_hand(builder="mobilenet_v1"):
  """As published, in three seeds a point apart."""
  accuracies = {}
  for name in (FLOAT, *CASES):
    theirs = cases.published(builder, name)
    value = 0.5 if theirs is None else theirs
    accuracies[name] = (value - 0.01, value, value + 0.01)
  return accuracies


def network_of(accuracies, net="net", parameters=1):
  sizes = dict.fromkeys(accuracies, 1)
  spreads = ((Spread("dw", 1.5, 836.0, 0.88, 0.0),),) * 3
  return RecipeAccuracies(net, parameters, accuracies, sizes, spreads, ())


def tables_of(builder="mobilenet_v1", accuracies=None, **more):
  """A record of these accuracies."""
  network = network_of(accuracies or by_hand(builder), **more)
  return WhitepaperTables(builder, (0, 1, 2), network, {}, ())


@pytest.mark.parametrize("builder", PAPER.families)
def test_the_published_numbers_agree_with_themselves(builder):
  verdicts = claims.verdicts(builder, by_hand(builder))
  assert [v.claim for v in verdicts] == list(PAPER.claims)
  for v in verdicts:
    if v.theirs is None:
      assert v.word == ""
      continue
    # Seeds differ all alike, so a difference has no error but rounding.
    assert v.ours.value == pytest.approx(v.theirs) and v.ours.error < 1e-9
    assert v.word == "agrees", v


def test_what_the_paper_says_of_each_network():
  found = {
    builder: claims.verdicts(builder, by_hand(builder))
    for builder in PAPER.families
  }

  def those(text):
    return {
      builder
      for builder, verdicts in found.items()
      if text in {v.text for v in verdicts if v.theirs is not None}
    }

  every, with_table_6 = (
    set(PAPER.families),
    {b for b in PAPER.families if cases.published(b, W8A4) is not None},
  )
  assert those("collapses per layer") == {"mobilenet_v1", "mobilenet_v2"}
  assert those("per channel rescues") == {"mobilenet_v1", "mobilenet_v2"}
  assert those("symmetric loses a point or more") == {
    *("mobilenet_v1", "nasnet_mobile")
  }
  assert those("8-bit activations are nearly free") == every
  assert those("training leaves a gap per layer") == {"resnet152_v2"}
  assert those("4-bit weights need no training") == {
    *("resnet50_v2", "resnet152_v2")
  }
  assert those("W4A8 is better than W8A4") == with_table_6
  assert with_table_6 == every - {"resnet50_v2", "resnet152", "resnet152_v2"}


def test_a_collapse_that_does_not_show_does_not_agree():
  accuracies = by_hand()
  accuracies[LAYER_8] = (0.69, 0.70, 0.705)
  first, second, *_ = claims.verdicts("mobilenet_v1", accuracies)
  assert first.claim.right == LAYER_8 and first.word == "does not agree"
  assert first.text == "does not collapse per layer"
  assert first.theirs == pytest.approx(0.708)
  assert second.text == "per channel has nothing to rescue"
  answer = tables_of(accuracies=accuracies).answer
  assert answer.startswith(
    "Of 12 findings of the whitepaper, 10 show on net, 2"
  )
  assert "no counterpart" in tables_of(builder="vgg9").answer
  del accuracies[LAYER_8]
  found = claims.verdicts("mobilenet_v1", accuracies)
  assert len(found) == len(PAPER.claims) - 2


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
    v = claims.verdict(claim, apart, above)
    assert v.is_above is is_above
    words = {True: "agrees", False: "does not agree", None: "undecided"}
    assert v.word == words[is_above]
    opposite = {True: "does not agree", False: "agrees", None: "undecided"}
    word = claims.verdict(claim, apart, below).word
    assert word == opposite[is_above]
    assert claims.verdict(claim, apart, None).word == ""


def test_undecided_claims_tell_how_many_seeds_are_above():
  v = claims.verdict(CLAIM, [0.86, 0.0, 0.86], 0.7)
  assert v.is_above is None and v.word == "undecided"
  assert v.text == "more in 2 of 3 seeds"


def test_one_seed_decides_nothing_and_equal_seeds_do():
  assert claims.verdict(CLAIM, [0.5], 0.5).is_above is None
  equal = CLAIM._replace(bound=0.25)
  assert claims.verdict(equal, [0.25, 0.25], 0.5).is_above is False
  assert claims.verdict(equal, [0.5, 0.5], 0.5).is_above is True


def test_tables_lose_within_seeds():
  accuracies = by_hand() | {"float": (0.9, 0.7, 0.8)}
  run = tables_of(accuracies=accuracies)
  table = page.table_of(PAPER.tables[-1], [run])
  ours, lost, theirs, theirs_lost = table.rows
  assert ours[0] == "net" and theirs[1:] == pytest.approx([70.9, 48, 64, 65])
  assert ours[2].value == pytest.approx(48)
  apart = 100 * np.array([0.47 - 0.9, 0.48 - 0.7, 0.49 - 0.8])
  assert lost[2].value == pytest.approx(np.mean(apart))
  assert lost[2].error == pytest.approx(np.std(apart, ddof=1) / math.sqrt(3))
  assert theirs_lost[2] == pytest.approx(48 - 70.9)
  # What is not published has no row.
  alone = dataclasses.replace(run, builder="vgg9")
  assert len(page.table_of(PAPER.tables[-1], [alone]).rows) == 2


def test_a_page_without_widths_names_the_layer_that_fails(tmp_path):
  accuracies = by_hand() | {"float": (0.01, 0.02, 0.03)}
  page.write(tables_of(accuracies=accuracies), Run(), tmp_path)
  html = (tmp_path / "report.html").read_text()
  assert "+63.00" in html  # of table 6, against a float network that failed
  assert "836.0" in html and "88%" in html and "<svg" not in html


def test_smaller_networks_lose_more_where_all_seeds_say_so(tmp_path):
  def run(net, builder, parameters, lost):
    accuracies = by_hand(builder) | {
      "float": (0.9,) * 3,
      W4A8: tuple(0.9 - x for x in lost),
    }
    return tables_of(builder, accuracies, net=net, parameters=parameters)

  big = run("big", "resnet8", 900, (0.01, 0.02, 0.03))
  small = run("small", "mobilenet_v2", 100, (0.11, 0.12, 0.13))
  odd = run("odd", "vgg9", 500, (0.0, 0.05, 0.1))
  first, second, third = collect.pairs([big, small, odd])
  assert first.claim.title.startswith("lost by small - by odd")
  assert first.theirs is None and first.word == ""
  assert second.ours.value == pytest.approx(0.1) and second.word == "agrees"
  assert second.theirs == pytest.approx(0.719 - 0.62 - 0.752 + 0.732)
  assert third.claim.above == "odd loses more" and third.is_above is None
  table = collect.claims_table([big, small, odd])
  assert len(table.rows) == len(PAPER.claims) and len(table.columns) == 4

  # Read from workdirs, which must be of different networks and equal seeds
  about = Run(settings={"experiment": "whitepaper"})
  other = dataclasses.replace(small, seeds=(0, 1, 4))
  for name, record in (("big", big), ("small", small), ("other", other)):
    (tmp_path / name).mkdir()
    experiment.save(tmp_path / name, record, about)
  read = lambda *names: collect.read([tmp_path / name for name in names])
  assert read("big", "small") == [big, small]
  with pytest.raises(ValueError, match="each of them once"):
    read("big", "big")
  with pytest.raises(ValueError, match="the same for all"):
    read("big", "other")
  with pytest.raises(ValueError, match="cannot be read"):
    read("nowhere")


def test_the_narrowest_network_is_held_against_the_widest():
  def network(lost):
    in_float = (0.9, 0.8, 0.7)
    found = tuple(a - x for a, x in zip(in_float, lost, strict=True))
    return network_of({"float": in_float, W4A8: found})

  widths = {
    0.5: network([0.05, 0.06, 0.07]),
    1.0: network([0.01, 0.02, 0.03]),
    0.25: network([0.31, 0.32, 0.33]),
  }
  v = dataclasses.replace(tables_of(), widths=widths).verdicts[-1]
  assert "width 0.25 - by width 1," in v.claim.title
  assert v.ours.value == pytest.approx(0.3) and v.is_above
  assert v.text == "width 0.25 loses more" and v.word == ""


def test_training_that_diverges_counts_as_chance_and_is_told(
  tmp_path, monkeypatch, capsys
):
  def diverges(tuner, name, *_):
    raise Diverged(f"{name}: the loss of step 3 is not finite.")

  judged = SimpleNamespace(test=SimpleNamespace(accuracy=0.5))
  monkeypatch.setattr(
    Lab, "float_network", lambda lab, *_: (variables(lab.net), judged)
  )
  monkeypatch.setattr(pipeline.FineTuner, "train", diverges)
  given = tiny_whitepaper.get_config()
  given.seeds = (7,)
  settings, lab = lab_cases.checked(given)
  lab.open(tmp_path)
  monkeypatch.setattr(cases, "CASES", (W4A8,))
  results = pipeline.run(settings, lab)
  name = f"seed7-{W4A8}"
  assert results.network.accuracies == {"float": (0.5,), W4A8: (0.1,)}
  assert results.network.diverged == (name,)
  assert "Counted as chance" in capsys.readouterr().out
  (text,) = (t for t in results.assumptions if "diverged" in t)
  assert text.count(name) == 1  # the network is one of its widths, too


WRONG = [
  ("seeds", (1, 1), "seeds.*different"),
  ("seeds", [[1, 2]], "seeds.*different"),
  ("widths", (0.5, -1.0), "widths.*positive"),
  ("widths", (0.5, 0.5), "widths.*different positive"),
  ("widths", (1e9,), "net.arguments.*features"),
  ("qat.freeze_share", 1.5, "freeze_share.*0 to 1"),
  ("qat.steps", 0, "qat.steps"),
  ("qat.steps", 10**30, "qat.steps is 1000.*1 to 10"),
  ("calibration_images", 10**30, "calibration_images is 1000.*1 to 10,000"),
  ("net.arguments", dict(), "widths.*has no width"),
]


@pytest.mark.parametrize("name, value, message", WRONG)
def test_wrong_settings_are_named(name, value, message):
  given = tiny_whitepaper.get_config()
  with given.ignore_type():
    given.update_from_flattened_dict({name: value})
  with pytest.raises(ConfigError, match=message) as caught:
    lab_cases.checked(given)
  assert "\n" not in str(caught.value)


def test_words_of_the_config():
  assert digits_whitepaper.get_config("resnet8").qat.steps == 150
  with pytest.raises(ConfigError, match="'resnet9' after .*inception_v3"):
    digits_whitepaper.get_config("resnet9")


def test_networks_free_all_activations_but_the_image():
  settings, lab = lab_cases.checked(tiny_whitepaper.get_config())
  (net,) = config.by_width(settings).values()
  assert net.fixed_bits == {"input.out": 8} != lab.net.fixed_bits
  assert pipeline._assignment(net, "ptq-w8a4-symmetric-channel") == {
    "input.out": 8,
    "conv.weight": 8,
    "conv.out": 4,
    "dw.weight": 8,
    "dw.out": 4,  # signed
    "classifier.weight": 8,
  }


def test_a_run_fills_every_table_and_resumes(cache, tmp_path):
  first = tmp_path / "first"
  status, output = experiment_runs.run(cache, first, config=CONFIG)
  assert status == 0, output
  result = json.loads((first / "result.json").read_text())
  names = {FLOAT, *CASES}
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
    assert int(row["weight_bytes"]) == weight_bytes(row["case"]), row

  html = experiment_runs.page_again(first)
  for table in PAPER.tables:
    assert f"Table {table.number}: {table.title}" in html
    assert f"Table {table.number}: " in output
  assert html.count("<svg") == 2  # accuracies, and losses in training
  assert "<title>width 0.5, QAT W4A8: " in html

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
  (read,) = collect.read([second])
  assert read.seeds == (0, 3) and set(read.network.accuracies) == names


def weight_bytes(case):
  """Of the tiny network of width 0.5, by hand."""
  bits = int(case.split("-")[1].split("a")[0][1:]) if "-" in case else 32
  return (72 + 72 + 80) * bits // 8
