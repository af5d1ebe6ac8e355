"""A design space: every number against one target at a time, and its errors."""

import csv
import dataclasses
import itertools
import json

import numpy as np
import pytest

from configs import design_space
from fbq import config as config_lib
from fbq import nets, precision
from fbq.config import ConfigError
from fbq.experiments.design_space import EXPERIMENT, pipeline, results
from fbq.experiments.design_space.config import DesignSpace
from fbq.lab import experiment
from fbq.lab.lab import Lab
from fbq.report import __main__ as report_again
from fbq.search import exact, problem, quantile
from fbq.search.free_bits import free_bits
from hwsim import ne16, targets
from hwsim.latency_table import total_cycles
from hwsim.pulp import XPULP_V2, doubt, get_target, latency_table, many

NET = nets.ds_cnn()
FIELDS = {
  "l1_bytes": (64_000, 40_000),
  "l2_bytes": (160_500, 180_000, 512_000),
  "conv_library": ("XpulpNN", "XpulpV2"),
}
DRAWS, QUANTILE = 12, 0.75


def config(**changes):
  made = design_space.get_config("ds_cnn,target=xpulp_v2")
  made.fields, made.draws, made.quantile = FIELDS, DRAWS, QUANTILE
  made.update(changes)
  return made


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A run that other assignments are given to, two of which are alike."""
  folder = tmp_path_factory.mktemp("space")
  given = folder / "precision"
  given.mkdir()
  for name, bits in (("mine", 8), ("other", 4)):
    text = precision.to_json(NET, precision.uniform(NET, bits))
    (given / f"{name}.json").write_text(text)
  experiment.run(config(precisions=str(given)), folder / "run")
  return folder / "run"


@pytest.fixture(scope="module")
def space(finished):
  return experiment.load(finished)[1]


def test_every_design_is_what_it_is_alone(space, finished):
  start = precision.uniform(NET, 4)
  order = list(space.fields)
  expected = itertools.product(*(space.fields[name] for name in order))
  assert [d.values for d in space.designs] == list(expected)
  for design in space.designs:
    overrides = dict(zip(order, design.values, strict=True))
    target = get_target(XPULP_V2, overrides)
    try:
      table = latency_table(NET.workload, target)
    except ValueError:
      assert design.best is None
      continue
    choice = problem.make(NET.workload, {"cycles": table.for_output_bits(8)})
    bits, _ = exact.least_latency(choice, start)
    assert design.best == total_cycles(table, NET.workload, bits)
    eight = precision.uniform(NET, 8)
    assert design.eight == total_cycles(table, NET.workload, eight)
    assert dict(zip(space.sites, design.bits, strict=True)) == {
      site: bits[site] for site in NET.workload.free_sites
    }
  assert 0 < len(space.running) < len(space.designs)

  with (finished / "results.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
  assert [row["cycles_best"] for row in rows] == [
    str(d.best or "") for d in space.designs
  ]
  assert all(row["bits:pw1.weight"] for row in rows if row["cycles_best"])


def test_frugal_designs_are_those_that_no_smaller_one_matches(space):
  """Against all pairs; kernels of other kinds are not compared."""
  order = list(space.fields)
  library = order.index("conv_library")

  def beaten(design):
    return any(
      other is not design
      and other.values[library] == design.values[library]
      and all(
        a <= b
        for i, (a, b) in enumerate(
          zip(other.values, design.values, strict=True)
        )
        if i != library
      )
      and other.best <= design.best
      for other in space.running
    )

  frugal = space.frugal
  assert frugal == [d for d in space.running if not beaten(d)]
  assert 0 < len(frugal) < len(space.running)


def test_fronts_are_exact_and_reach_is_read_off_them(space):
  target = get_target(XPULP_V2, {})
  table = latency_table(NET.workload, target)
  power = {
    s: {b: -(4.0**-b) for b in (2, 4, 8)} for s in NET.workload.free_sites
  }
  choice = problem.make(
    NET.workload, {"cycles": table.for_output_bits(8)}, power
  )
  [front] = [f for f in space.fronts if f.name == "xpulp_v2"]
  eight = total_cycles(table, NET.workload, precision.uniform(NET, 8))
  whole = exact.front(choice, eight // 500)
  assert front.cycles == tuple(whole.costs["cycles"].tolist())
  np.testing.assert_allclose(front.harm, -whole.value)
  for cycles, harm in zip(space.own.reach, space.levels.values(), strict=True):
    least = min(
      c
      for c, h in zip(front.cycles, front.harm, strict=True)
      if h <= harm * (1 + 1e-9)
    )
    assert cycles == least
  assert space.levels["8/8"] == pytest.approx(len(space.sites) / 4**8)


def test_intervals_are_those_of_one_draw_at_a_time(space):
  constants, _ = doubt.draws(XPULP_V2, DRAWS, 0)
  cycles = many.latency_tables(NET.workload, constants).cycles[..., -1]
  central = latency_table(NET.workload, XPULP_V2)
  start = precision.uniform(NET, 4)
  raised, _ = free_bits(NET.workload, central.for_output_bits(8), start)

  def total(bits):
    view = dataclasses.replace  # each draw as a table of its own
    tables = [
      view(central, cycles=np.repeat(c[..., None], 3, axis=-1)) for c in cycles
    ]
    return np.array([total_cycles(t, NET.workload, bits) for t in tables])

  found = {i.name: i for i in space.doubt.intervals}
  upper = dict(zip(found, space.doubt.uppers, strict=True))
  eight = total(precision.uniform(NET, 8))
  for name, bits in (("8/8", precision.uniform(NET, 8)), ("4/4+FB", raised)):
    own = np.sort(total(bits))
    assert found[name].low == own[0] and found[name].high == own[-1]
    assert upper[name] == own[8]  # the ninth of twelve
    assert found[name].median == own[5]
    changes = np.quantile(total(bits) / eight - 1, (0.5, 0.05, 0.95))
    assert found[name].change_median == pytest.approx(changes[0])
    assert found[name].change_low == pytest.approx(changes[1])
    assert found[name].change_high == pytest.approx(changes[2])
    assert found[name].central == total_cycles(central, NET.workload, bits)
  assert found["mine"].low == found["8/8"].low

  # How often the pass ends in the same bits
  by_draw = [free_bits(NET.workload, c, start)[0] for c in cycles]
  for choice in space.doubt.choices:
    same = np.mean(
      [bits[choice.site] == raised[choice.site] for bits in by_draw]
    )
    assert choice.same == pytest.approx(same)
    assert choice.bits == raised[choice.site]
    assert sum(share for _, share in choice.others) == pytest.approx(1 - same)

  # Careful passes promise no more than they keep; the exact one is the best
  best = min(most for name, most in upper.items() if name.startswith("4/4"))
  assert not space.doubt.exact_fails and not space.doubt.exact_gap
  assert upper["4/4 careful, exact"] == best
  careful = upper["4/4+FB, careful"]
  assert careful <= upper["4/4+FB"]
  assert careful <= quantile.upper(total(start), QUANTILE)


def test_the_page_says_where_and_why_the_target_is_not_in_the_middle(
  finished, space
):
  doubt = space.doubt
  outside = [i.name for i in doubt.intervals if not i.holds_central]
  assert outside and any(
    not i.low <= i.central <= i.high for i in doubt.intervals
  )
  said = doubt.why_outside
  assert said.endswith(f"for {', '.join(outside)}.")
  assert "dma_command_cycles (its low)" in said
  assert "l3_setup_cycles" not in said  # in the middle of its range
  assert (
    "dma_command_cycles (its low)" in (finished / "report.html").read_text()
  )

  inside = doubt.intervals[0]._replace(
    central=doubt.intervals[0].median, change=doubt.intervals[0].change_median
  )
  calm = doubt._replace(intervals=(inside,))
  assert "all within" in calm.why_outside


def test_ne16_has_designs_and_intervals_at_its_own_precisions(tmp_path):
  made = config(target="gap9_ne16", draws=6)
  made["fields"] = {
    "l1_bytes": (128_000, 28_000, 14_000),
    "norm_bits": (8, 32),
  }
  experiment.run(made, tmp_path / "run")
  space = experiment.load(tmp_path / "run")[1]
  four = {s: 4 if s.endswith(".weight") else 8 for s in NET.workload.free_sites}
  ran = 0
  for design in space.designs:
    overrides = dict(zip(space.fields, design.values, strict=True))
    target = targets.get_target("gap9_ne16", overrides)
    try:
      table = ne16.latency_table(NET.workload, target)
    except ValueError:
      assert design.best is None
      continue
    ran += 1
    choice = problem.make(
      NET.workload, {"cycles": table.for_output_bits(8)}, ladder=table.ladder
    )
    start = NET.fixed_bits | four
    bits, _ = exact.least_latency(choice, start)
    assert design.best == total_cycles(table, NET.workload, bits)
    eight = total_cycles(table, NET.workload, precision.uniform(NET, 8))
    assert design.eight == eight
  assert 0 < ran < len(space.designs)

  # Every draw as a table of its own
  table = ne16.latency_table(NET.workload, ne16.GAP9_NE16)
  constants, _ = ne16.doubt.draws(ne16.GAP9_NE16, 6, 0)
  drawn = ne16.many.latency_tables(NET.workload, constants).cycles
  each = sorted(
    total_cycles(dataclasses.replace(table, cycles=one), NET.workload, four)
    for one in drawn
  )
  [found] = [i for i in space.doubt.intervals if i.name == "8/4"]
  assert (found.low, found.median, found.high) == (each[0], each[2], each[-1])
  assert found.central == total_cycles(table, NET.workload, four)
  assert {w.name for w in space.doubt.worths} == {
    a.name for a in ne16.doubt.assumptions(ne16.GAP9_NE16)
  }
  assert [*space.levels] == ["8/8", "8/4", "8/2"]


def test_designs_that_are_all_alike_are_one_number(space):
  said = results.answer(space)[1]
  own = next(d for d in space.running if not space.differing(d))
  alike = dataclasses.replace(
    space, designs=tuple(own._replace(values=d.values) for d in space.designs)
  )
  told = results.answer(alike)[1]
  assert (
    told.startswith("It takes as many") and "same precisions are best" in told
  )
  assert said.startswith("Over the ") and " best on " in said


def test_orders_tell_equal_networks_once(space):
  names = {o.faster for o in space.doubt.orders}
  names |= {o.slower for o in space.doubt.orders}
  assert not {"mine", "8/8"} <= names and not {"other", "4/4"} <= names
  assert all(0 <= order.same <= 1 for order in space.doubt.orders)


def test_a_stopped_run_goes_on_and_ends_the_same(finished, tmp_path):
  """From one chunk of designs alone, whose numbers are taken as they are."""
  made = config()
  lab = Lab(config_lib.of(DesignSpace, made))
  EXPERIMENT.check(lab.settings, lab)
  lab.open(tmp_path / "run")
  (tmp_path / "run/designs").mkdir()
  file = "designs/00000.json"
  rows = json.loads((finished / file).read_text())
  rows[0]["best"] = 1
  (tmp_path / "run" / file).write_text(json.dumps(rows))
  settings = lab.settings.with_(draws=0)
  found = pipeline.run(settings, lab)
  assert found.designs[0].best == 1 and found.doubt is None
  assert [d._asdict() for d in found.designs[1:]] == [
    pipeline._design(row)._asdict() for row in rows[1:]
  ]


def test_the_page_is_made_again_from_the_record(finished, tmp_path):
  (tmp_path / "results.json").write_bytes(
    (finished / "results.json").read_bytes()
  )
  report_again.main([str(tmp_path)])
  for name in ("designs.svg", "fronts.svg", "worths.svg"):
    assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()
  page = (finished / "report.html").read_text()
  for text in ("Networks in order", "What each assumption is worth", "careful"):
    assert text in page


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(target="gap9_ne16"), "fields: .*no field 'conv_library'"),
    (
      dict(
        target="gap9_ne16",
        fields={"l1_bytes": (128_000,)},
        target_overrides={"engine": "analytic"},
      ),
      "draws: .*'analytic' engine",
    ),
    (dict(fields={"l1_byte": (1,)}), "fields: .*'l1_byte'.*did you mean"),
    (dict(fields={"l1_bytes": (1,)}), "fields: .*l1_budget_bytes"),
    (dict(fields={"l1_bytes": ()}), "fields is .*expected values of each"),
    (
      dict(fields={"tile_cycles": (5, 5)}),
      "fields.tile_cycles.*no value twice",
    ),
    (
      dict(fields={"tile_cycles": tuple(range(20_001))}),
      "fields is .*1 to 20,000 together",
    ),
    (dict(target="xpulp_v2_iss"), "draws: .*timing|draws: .*times kernels by"),
    (dict(sensitivities="none.json"), "sensitivities: .*none.json"),
    (dict(precisions="nowhere"), "precisions is 'nowhere'"),
    (dict(quantile=0.1), "quantile is 0.1"),
  ],
)
def test_what_cannot_work_is_said_first(changes, message):
  made = config()
  for name, value in changes.items():
    made[name] = value
  with pytest.raises(ConfigError, match=message):
    settings = config_lib.of(DesignSpace, made)
    EXPERIMENT.check(settings, Lab(settings))


def test_measured_harms_are_the_proxy(tmp_path):
  harm = {
    s: {str(b): {"kl": 1.0 / b, "mse": 0.0} for b in (2, 4, 8)}
    for s in NET.workload.free_sites
  }
  (tmp_path / "sensitivities.json").write_text(json.dumps(harm))
  path = str(tmp_path / "sensitivities.json")
  settings = config_lib.of(DesignSpace, config(sensitivities=path))
  from fbq.experiments.design_space.config import values_of

  found = values_of(settings, Lab(settings))
  assert found["pw1.weight"] == {2: -0.5, 4: -0.25, 8: -0.125}
  wrong = settings.with_(measure="loss")
  with pytest.raises(ConfigError, match="does not hold 'loss'"):
    values_of(wrong, Lab(wrong))
