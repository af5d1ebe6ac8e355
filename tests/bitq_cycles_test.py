"""Formats chosen by latency: the exact optimum on a cluster with MX units."""

import csv
import dataclasses
import itertools

import experiment_runs
import lab_cases
import numpy as np
import pytest
from hwsim_mx_test import E2M1, E4M3, WORKLOAD, form
from hypothesis import given, settings
from hypothesis import strategies as st

from fbq import block_formats
from fbq.config import ConfigError
from fbq.lab import experiment
from fbq.search import bitq
from hwsim import mx
from hwsim.bfp import movement_table
from hwsim.bfp.scoring import encode, score
from tests.configs import tiny_bitq

E2M3 = form("E2M3", 6)  # fewer bits than E4M3, and no unit takes it
FORMATS = E4M3, E2M3, E2M1
CONFIG = "tests/configs/tiny_bitq.py:cycles"
MX = tiny_bitq.WORDS["cycles"]["MX"]
OWN = dataclasses.replace(
  mx.MXDOTP, name="own", unit=(("E2M3", 16),), unit_joules=(("E2M3", 1e-12),)
)


def losses(seed=0):
  """Any loss of any format: the one of fewer bits may lose less."""
  random = np.random.default_rng(seed)
  return {
    site: {f: float(random.choice([0, 0.01, 0.02])) for f in FORMATS}
    for site in WORKLOAD.sites
  }


@pytest.mark.parametrize("target", mx.TARGETS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_optimum_by_cycles_is_that_of_brute_force(target, seed):
  """Over all 3^7 choices, though cycles fall where bits rise."""
  lost = losses(seed)
  table = mx.cycle_table(WORKLOAD, FORMATS, target)
  choice = bitq.make(WORKLOAD, lost, table)
  alphas = [0.0, 0.02, 0.1, 1.0]
  found = bitq.optima(choice, alphas)

  sites = WORKLOAD.sites
  every = np.array(list(itertools.product(range(3), repeat=len(sites))))
  cycles = score(table, encode(table, WORKLOAD, every))
  loss = np.zeros(len(every))
  for column, site in zip(every.T, sites, strict=True):
    loss += np.array([lost[site][f] for f in FORMATS])[column]
  for alpha, objective, formats in zip(
    alphas, found.objective, found.formats, strict=True
  ):
    eq_1 = loss + alpha * cycles / choice.largest
    assert np.isclose(objective, eq_1.min(), rtol=1e-12, atol=0)
    chosen = [FORMATS.index(formats[site]) for site in sites]
    place = np.flatnonzero((every == chosen).all(1))[0]
    assert np.isclose(eq_1[place], eq_1.min(), rtol=1e-12, atol=0)
    assert mx.network_cycles(WORKLOAD, formats, target) == cycles[place]


def test_a_format_of_more_bits_stays_where_the_unit_takes_it():
  """E2M3 has fewer bits than E4M3 and loses less, and takes 14 times longer."""
  lost = {s: {E4M3: 0.001, E2M3: 0.0} for s in WORKLOAD.sites}
  by_traffic, by_cycles = (
    bitq.optima(bitq.make(WORKLOAD, lost, table), [1.0]).formats[0]
    for table in (
      movement_table(WORKLOAD, FORMATS[:2], 4 * mx.MXDOTP.memory_bytes),
      mx.cycle_table(WORKLOAD, FORMATS[:2], mx.MXDOTP),
    )
  )
  assert set(by_traffic.values()) == {E2M3}
  assert by_cycles["a.weight"] == by_cycles["input.out"] == E4M3


def test_latency_and_traffic_choose_differently():
  """MXDOTP has no unit for MXFP4, which moves the least."""
  formats, alphas = (E4M3, E2M1), [1.0]
  lost = {
    site: {f: of[f] if f == E2M1 else 0.0 for f in formats}
    for site, of in losses().items()
  }
  by_traffic, by_cycles = (
    bitq.optima(bitq.make(WORKLOAD, lost, table), alphas).formats[0]
    for table in (
      movement_table(WORKLOAD, formats, 4 * mx.MXDOTP.memory_bytes),
      mx.cycle_table(WORKLOAD, formats, mx.MXDOTP),
    )
  )
  assert set(by_traffic.values()) == {E2M1}
  assert by_cycles["a.weight"] == by_cycles["input.out"] == E4M3


@pytest.fixture(scope="module")
def done(cache, tmp_path_factory):
  """Workdir of a finished run that weighs cycles."""
  path = tmp_path_factory.mktemp("cycles") / "run"
  status, output = experiment_runs.run(cache, path, config=CONFIG)
  assert status == 0, output
  return path


def test_a_run_weighs_cycles_in_all_that_it_chooses(done):
  """Eq. 1 by hand, of the formats that were stored and of their cycles."""
  _, found, _ = experiment.load(done)
  (study,), net = found.studies, tiny_bitq.residual()
  (word,) = study.words
  for network in study.networks:
    formats = network.formats
    cycles = mx.network_cycles(net.workload, formats, mx.VMXDOTP)
    assert network.cycles == cycles > 0
  stored = block_formats.from_json(net, done / "precision/seed0-MX-a.json")
  assert stored == study.by_name["MX a"].formats

  fp32 = study.by_name["FP32"]
  eq_1 = lambda n: (
    fp32.validation - n.validation + found.alpha * n.cycles / word.largest_bits
  )
  candidates = [study.by_name[name] for name in word.candidates]
  best = study.by_name[word.recommended]
  assert eq_1(best) == min(map(eq_1, candidates))
  taken = [
    study.by_name[o.network].cycles
    for o in sorted(word.optima, key=lambda o: o.alpha)
  ]
  assert taken == sorted(taken, reverse=True)


def test_cycles_are_told_in_the_table_and_on_the_page(done):
  with open(done / "results.csv", newline="") as file:
    rows = {row["name"]: row for row in csv.DictReader(file)}
  assert all(int(row["cycles"]) > 0 for row in rows.values())
  assert rows["MX uniform E5M2"]["format:stem.weight"] == "8+8/8 E5M2"
  page = experiment_runs.page_again(done)
  assert "cycles on vmxdotp" in page
  assert "Test accuracy over cycles" in page
  assert "configs/export.py" not in page  # no export packs these elements


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      {"words": tiny_bitq.WORDS["movement"]},
      "cost is 'cycles', expected 'movement': the unit of vmxdotp multiplies "
      "E4M3, E5M2, E2M1 in blocks of multiples of 8, none of which words.Long",
    ),
    ({"cycle_target": "xpulp"}, "config.cycle_target: .*one of mxdotp, vmxdo"),
    ({"cost": "joules"}, "config.cost is 'joules', expected one of 'movement'"),
    (
      {"words": {**tiny_bitq.WORDS["movement"], **tiny_bitq.WORDS["cycles"]}},
      "config.words is .*expected elements in blocks of one size in all of",
    ),
    (
      {"words": {"MX": {**MX, "block_sizes": (12,)}}},
      "blocks of multiples of 8, none of which words.MX has",
    ),
    (
      {"words": {"MX": {**MX, "exponent_bits": (5,)}}},
      r"words.MX is .*expected exponent_bits \(8,\) and a single block size",
    ),
    (
      {"words": {"MX": {**MX, "elements": ("E3M4",)}}},
      "words.MX.elements is .*expected different ones of E4M3",
    ),
    ({"losses": {"measured_formats": 4}}, "less than the 4 formats of words"),
  ],
)
def test_what_cannot_be_weighed_is_refused(change, message):
  config = tiny_bitq.get_config("cycles")
  plain = config.to_dict() | {
    k: {**config[k].to_dict(), **v} if k == "losses" else v
    for k, v in change.items()
  }
  with pytest.raises(ConfigError, match=message) as error:
    lab_cases.checked(type(config)(plain))
  assert "\n" not in str(error.value)


def test_a_cluster_of_ones_own_is_named_as_any_other():
  config = tiny_bitq.get_config("cycles")
  config.cycle_target = "bitq_cycles_test:OWN"
  found, _ = lab_cases.checked(config)
  assert found.cluster.unit == OWN.unit
