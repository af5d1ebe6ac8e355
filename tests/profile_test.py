"""The latency profile: files, numbers, messages, causes."""

import ast
import csv
import dataclasses
import json
import pathlib
import re
import runpy

import numpy as np
import pytest
from pulp_calls import Tiles, core_cycles, kernel_cycles

from fbq import config as config_lib
from fbq import nets
from fbq.config import ConfigError
from fbq.experiments.profile import EXPERIMENT, pipeline, published
from fbq.experiments.profile.config import Profiling, compared, has_ranges
from fbq.experiments.profile.plateaus import plateaus
from fbq.lab import causes, experiment
from fbq.lab.lab import Lab
from fbq.report import __main__ as report_again
from hwsim import latency_io, ne16
from hwsim.ne16.kernels import mode_of
from hwsim.pulp import (
  TARGETS,
  XPULP_V2,
  XPULPNN_V1,
  XPULPNN_V1_ISS,
  simulate,
)
from hwsim.pulp.roofline import least_bytes, peak_macs_per_cycle
from hwsim.workload import Layer

CONFIG = pathlib.Path(__file__).parents[1] / "configs/profile_pulp.py"
get_config = runpy.run_path(str(CONFIG))["get_config"]
FILES = {
  "config.json",
  "latency_table.csv",
  "results.csv",
  "results.json",
  "result.json",
  "report.html",
  "layers.svg",
  "shares.svg",
  "roofline.svg",
}


MINE = dataclasses.replace(XPULPNN_V1, name="mine", tile_cycles=0)


def config(arguments="net=ds_cnn", **changes):
  made = get_config(arguments)
  made.l2_sweep_bytes, made.draws = (0, 40_000), 0
  made.update(changes)
  return made


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("profile") / "run"
  experiment.run(config(), workdir)
  return workdir


def test_writes_every_file(finished):
  assert {path.name for path in finished.iterdir()} == FILES | {".lock"}
  for path in finished.glob("*.svg"):
    assert path.read_text().startswith("<svg")


def test_pages_and_pictures_are_made_again_from_the_record_alone(
  finished, tmp_path
):
  (tmp_path / "results.json").write_bytes(
    (finished / "results.json").read_bytes()
  )
  report_again.main([str(tmp_path)])
  for path in finished.glob("*.svg"):
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()

  pages = [
    (path / "report.html").read_text().partition("The run</h2>")[0]
    for path in (tmp_path, finished)
  ]
  assert pages[0] == pages[1]


def test_results_equal_the_simulator(finished):
  """Every row against `simulate` called by hand, and no row is missing."""
  net = nets.ds_cnn()
  layers = {layer.name: layer for layer in net.workload.layers}
  targets = {target.name: target for target in TARGETS}
  with (finished / "results.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
  for row in rows:
    weight_bits = 8 if row["weight_bits"] == "-" else int(row["weight_bits"])
    bits = int(row["in_bits"]), weight_bits, int(row["out_bits"])
    cycles = simulate(layers[row["layer"]], *bits, targets[row["target"]])
    names = ("cycles", "compute", "dma", "overhead", "l3", "waiting")
    assert cycles == tuple(int(row[name]) for name in names), row
    assert int(row["macs"]) == layers[row["layer"]].macs
  weighted, pools = 9, 1  # with quantized outputs; and the classifier
  assert len(rows) == 3 * (weighted * 27 + pools * 9 + 9)


def test_the_table_is_one_that_searches_read(finished):
  workload = nets.ds_cnn().workload
  table = latency_io.load(finished / "latency_table.csv", workload)
  assert table.target == "xpulpnn_v1"
  assert table.cycles[0, 2, 2, 2] == (
    simulate(workload.layers[0], 8, 8, 8, XPULPNN_V1).total
  )


def test_result_adds_up(finished):
  result = json.loads((finished / "result.json").read_text())
  workload = nets.ds_cnn().workload
  eight = sum(
    simulate(layer, 8, 8, 8 if site is not None else 32, XPULPNN_V1).total
    for layer, site in zip(workload.layers, workload.output_sites, strict=True)
  )
  networks = {(n["target"], n["name"]): n for n in result["networks"]}
  assert networks["xpulpnn_v1", "8/8"]["cycles"] == eight
  for target in TARGETS:
    for start in ("4/4", "2/2"):
      before, after = (
        networks[target.name, name]["cycles"] for name in (start, start + "+FB")
      )
      assert after <= before
  default = [b for b in result["l2_budgets"] if b["is_default"]]
  assert default[0]["bytes"] == 352_000 and default[0]["8/8"] == eight
  numbers = [s["numbers"] for s in result["statements"]]
  assert numbers[0]["xpulpnn_v1 pointwise"] > 1.5
  assert numbers[1]["xpulpnn_v1 depthwise"] < numbers[1]["xpulpnn_v1 pointwise"]
  assert numbers[2]["4/4 layers"] > 0


def test_the_page_shows_the_pictures_and_links_the_files(finished):
  page = (finished / "report.html").read_text()
  for path in finished.glob("*.svg"):
    assert path.read_text() in page
  links = set(re.findall(r'href="([^"#]*)"', page))
  assert links == {p.name for p in finished.glob("*")} - {
    *("report.html", "result.json", ".lock")
  }
  for text in ("ds_cnn-1-49x10", "xpulpnn_v2", "unpacking", "Roofline"):
    assert text in page
  assert "Published figures" not in page  # of another network


def test_every_bar_of_every_layer_tells_its_cycles(finished):
  layers = (finished / "layers.svg").read_text()
  with (finished / "results.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
  narrow = [
    row
    for row in rows
    if (row["in_bits"], row["weight_bits"]) == ("8", "4")
    and row["out_bits"] in ("8", "32")
  ]
  assert len(narrow) == 3 * 10
  for row in narrow:
    said = f"{row['layer']} at 8/4: {int(row['cycles']):,} cycles"
    assert f"<title>{said}, " in layers, said
  # Three uniform networks of 11 layers and the narrow weights, three targets.
  assert layers.count("<title>") == 3 * (3 * 11 + 10)


def test_a_finished_workdir_is_left_alone(finished, capsys):
  def times():
    return {path: path.stat().st_mtime_ns for path in finished.iterdir()}

  before = times()
  experiment.run(config(), finished)
  assert "is finished" in capsys.readouterr().out
  assert times() == before


def test_a_workdir_of_another_run_is_refused(finished, tmp_path):
  with pytest.raises(ConfigError, match="another configuration"):
    experiment.run(config("net=resnet8"), finished)
  (tmp_path / "notes.txt").write_text("mine")
  with pytest.raises(ConfigError, match="not empty"):
    experiment.run(config(), tmp_path)


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ("net=lenet", "'net=lenet' after the config's colon.*ds_cnn"),
    ("width=2", "'width=2' after the config's colon.*net: .*target=TEXT"),
    ("lenet", "'lenet' after the config's colon"),
  ],
)
def test_words_of_the_config_are_checked(words, message):
  with pytest.raises(ConfigError, match=message):
    get_config(words)


def test_an_unknown_target_is_refused():
  with pytest.raises(ConfigError, match="target 'arm' is not known.*xpulp_v2"):
    check(config("target=arm"))


def test_default_config_is_the_published_setting():
  made = get_config()
  assert made.net.to_dict() == {
    "builder": "mobilenet_v1",
    "arguments": {"width": 0.75, "resolution": 224, "classes": 1000},
  }
  assert made.target == "xpulpnn_v1"


def settings(made):
  return config_lib.of(Profiling, made)


def check(made):
  found = settings(made)
  EXPERIMENT.check(found, Lab(found))


@pytest.mark.parametrize("net", ["vgg9", "resnet18", "resnet50"])
def test_too_large_nets_say_which_overrides_they_need(net, tmp_path):
  """And the overrides that the message names are enough."""
  with pytest.raises(ConfigError, match="fits no") as error:
    experiment.run(config(f"net={net}"), tmp_path / "run")
  assert not (tmp_path / "run").exists()
  said = re.search(r'--config.target_overrides="(.*)"', str(error.value))
  enough = config(f"net={net}", target_overrides=ast.literal_eval(said[1]))
  check(enough)
  target, _ = compared(settings(enough))
  assert target.l1_bytes in (128_000, 256_000)
  assert re.match(r"xpulpnn_v1 \(l1_bytes=\d+", target.name)


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    (dict(cores=4), "target_overrides: .*cores is 4, expected 8"),
    (dict(l1_byte=1), "no field 'l1_byte'.*did you mean 'l1_bytes'"),
    (dict(l1_bytes="big"), "l1_bytes is 'big'"),
  ],
)
def test_overrides_are_checked(overrides, message):
  with pytest.raises(ConfigError, match=message):
    check(config(target_overrides=overrides))


def test_a_target_of_ones_own_is_compared_with_the_others():
  """Named by its module, which is not one of fbq's."""
  target, targets = compared(settings(config(target="profile_test:MINE")))
  assert target == MINE and targets == [*TARGETS, MINE]


def test_wrong_net_arguments_name_the_setting():
  wrong = config("net=resnet8")
  wrong.net.arguments = dict(depth=3)
  with pytest.raises(ConfigError, match="depth.*resnet8. takes width"):
    check(wrong)


def test_published_figures_of_mobilenet_v1():
  """The whole network of `fbq.nets`, pooling included."""
  rows = pipeline.wholes(nets.mobilenet_v1(0.75), XPULPNN_V1)
  changes = {(row.target, row.name): row.change for row in rows}
  for name, change in zip(
    ("4/4", "4/4+FB"), published.PUBLISHED["xpulpnn_v1"], strict=True
  ):
    assert changes["xpulpnn_v1", name] == pytest.approx(change, abs=0.05)


def whole(op, in_channels, out_channels, size):
  layer = Layer("x", op, in_channels, out_channels, size, size)
  values = (out_channels, size, size, size, size, 0, 0, 0, 0)
  return layer, Tiles(*(np.array([value]) for value in values))


@pytest.mark.parametrize("op", ["conv", "depthwise", "add", "avg_pool"])
def test_the_slowest_core_sets_the_kernels_cycles(op):
  layer, tiles = whole(op, 24, 24, 12)
  each = core_cycles(layer, tiles, 4, 4, 4, XPULPNN_V1)
  assert each.shape == (1, 8)
  assert kernel_cycles(layer, tiles, 4, 4, 4, XPULPNN_V1) == each.max()


def test_waiting_of_a_depthwise_layer_by_hand():
  """24 channels in groups of 4 are 6 groups: two of eight cores have none."""
  layer, tiles = whole("depthwise", 24, 24, 8)
  each = core_cycles(layer, tiles, 2, 2, 2, XPULPNN_V1)[0]
  assert (each[:6] == each[0]).all() and (each[6:] < each[0]).all()
  cycles = simulate(layer, 2, 2, 2, XPULPNN_V1)
  assert cycles.waiting == round((each[0] - each[7]) * 2 / 8)


def gain(layer, before, after, target=XPULPNN_V1):
  both = [pipeline.cost(layer, (*bits, 8), target) for bits in (before, after)]
  assert both[1].cycles < both[0].cycles
  for row in both:
    assert sum(row.parts.values()) == row.cycles
  return causes.explain(layer, *both, target)


def test_causes_are_named():
  wide = Layer("pw", "conv", 64, 64, 16, 16)
  assert "weights narrower than inputs" in gain(wide, (8, 4), (8, 8))
  assert "no arithmetic below 8 bits" in gain(wide, (4, 4), (8, 8), XPULP_V2)
  # 24 inputs: one and a half inner iterations of 16 2-bit values.
  odd = Layer("pw", "conv", 24, 48, 32, 32)
  assert "24 inputs of a patch are no multiple of the 16" in (
    gain(odd, (2, 2), (4, 4))
  )
  narrow = Layer("dw", "depthwise", 24, 24, 112, 112, 3, 3, 1, (1,) * 4)
  assert "6 groups of 4 channels in a layer for 8 cores" in (
    gain(narrow, (2, 2), (8, 8))
  )


def test_a_raise_is_told_in_words_on_every_target():
  """Causes of what was simulated, whatever family the target is of."""
  narrow = Layer("dw", "depthwise", 24, 24, 112, 112, 3, 3, 1, (1,) * 4)
  pair = [
    causes.simulated(narrow, (bits, bits, 8), XPULPNN_V1) for bits in (2, 8)
  ]
  assert pair[0].cycles == simulate(narrow, 2, 2, 8, XPULPNN_V1).total
  said = causes.why(narrow, *pair, XPULPNN_V1)
  assert "6 groups of 4 channels in a layer for 8 cores" in said
  said = causes.why(narrow, pair[1], pair[0], XPULPNN_V1)
  assert said.startswith(
    f"costs this layer {pair[0].cycles - pair[1].cycles:,} cycles"
  )
  wide = Layer("pw", "conv", 64, 64, 16, 16)
  more, less = (
    causes.simulated(wide, (8, bits, 8), ne16.TARGETS[0]) for bits in (8, 2)
  )
  said = causes.why(wide, more, less, ne16.TARGETS[0])
  assert (
    more.cycles > less.cycles and "transfers that are not hidden (-" in said
  )


def test_peaks_are_those_of_the_inner_loops():
  """docs/facts/pulp.md 2.1: 32 MAC in 9 instructions, 64, 128, on 8 cores."""
  for bits, macs in ((8, 32), (4, 64), (2, 128)):
    peak = peak_macs_per_cycle("conv", bits, bits, XPULPNN_V1)
    assert peak == pytest.approx(8 * macs / 9, rel=0.04)
  assert peak_macs_per_cycle("depthwise", 8, 8, XPULPNN_V1) < 1.5
  with pytest.raises(ValueError, match="'add'"):
    peak_macs_per_cycle("add", 8, 8, XPULPNN_V1)


def test_least_bytes_by_hand():
  layer = Layer("pw", "conv", 3, 5, 2, 2)
  # 12 inputs of 4 bits, 15 weights of 2, 20 outputs of 8
  assert least_bytes(layer, 4, 2, 8) == 6 + 4 + 20
  assert least_bytes(Layer("a", "add", 3, 3, 2, 2), 8, 8, 8) == 24 + 12


def test_variants_of_what_is_published_disagreeing_first():
  """Simulated ones from the networks themselves, measured ones as in facts."""
  net = nets.mobilenet_v1(0.25, 32)
  asked = []

  def cycles(target):
    asked.append(target)
    return pipeline._cycles(net, target)

  rows = published.variants(cycles)
  worst = [max(map(abs, row.off)) for row in rows]
  assert worst == sorted(worst, reverse=True)
  assert len(rows) == len(asked) / 2 + 3

  # pulp-nn is the baseline's alone
  library = dataclasses.replace(XPULP_V2, conv_library="pulp-nn")
  eight, four = (
    sum(cost.cycles for cost in pipeline.networks(net, target)[name])
    for target, name in ((library, "8/8"), (XPULP_V2, "4/4+FB"))
  )
  [row] = [r for r in rows if r.what == "8/8 by pulp-nn, as DORY takes it"]
  assert row.free == pytest.approx(four / eight - 1)

  row = next(r for r in rows if r.what == "layers run in GVSOC")
  theirs = published.PUBLISHED[row.target]
  assert row.off == pytest.approx(
    (100 * (row.four - theirs[0]), 100 * (row.free - theirs[1]))
  )
  budgets = {t.l2_budget_bytes for t in asked}
  assert budgets == {352_000, 354_048}


def test_budgets_of_l2_are_those_of_one_target_at_a_time():
  net = nets.ds_cnn()
  sizes = (1_000, 60_000, 352_000)
  found = pipeline._budgets(net, XPULPNN_V1, sizes)
  assert found[1_000] == {}
  for size in sizes[1:]:
    changed = dataclasses.replace(
      XPULPNN_V1, code_reserved_bytes=512_000 - size
    )
    wholes = pipeline.wholes(net, changed)
    assert found[size] == {whole.name: whole.cycles for whole in wholes}


def test_plateaus_join_neighbours_whose_changes_are_alike():
  def cycles(four):
    return {"8/8": 1_000, "4/4": four} if four else {}

  each = (0, 0, 700, 704, 706, 699, 650)
  rows = plateaus({10 * i: cycles(four) for i, four in enumerate(each)})
  ends = [(row.first, row.last) for row in rows]
  assert ends == [(0, 10), (20, 30), (40, 40), (50, 50), (60, 60)]
  assert rows[0].changes == {} and rows[0].eight == ()
  assert rows[1].changes["4/4"] == pytest.approx(-0.298)
  assert rows[1].has(25) and not rows[1].has(35)


@pytest.fixture(scope="module")
def on_ne16(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("profile") / "ne16"
  made = config(
    "net=ds_cnn,target=gap9_ne16", l2_sweep_bytes=(-1_300_000, 0), draws=7
  )
  experiment.run(made, workdir)
  return workdir


def test_ne16_is_profiled_alone_at_its_own_precisions(on_ne16):
  workload = nets.ds_cnn().workload
  layers = {layer.name: layer for layer in workload.layers}
  with (on_ne16 / "results.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
  assert {row["target"] for row in rows} == {"gap9_ne16"}
  weighted = 10
  assert len(rows) == 7 * weighted + 1
  for row in rows:
    weight_bits = 8 if row["weight_bits"] == "-" else int(row["weight_bits"])
    bits = int(row["in_bits"]), weight_bits, int(row["out_bits"])
    found = ne16.simulate(layers[row["layer"]], *bits, ne16.GAP9_NE16)
    assert found.total == int(row["cycles"]) and bits[0] == 8
    mode = mode_of(layers[row["layer"]])
    assert row["engine"] == ("cores" if mode is None else f"NE16 {mode}")

  result = json.loads((on_ne16 / "result.json").read_text())
  names = [network["name"] for network in result["networks"]]
  assert names == ["8/8", "8/4", "8/4+FB", "8/2", "8/2+FB"]
  table = ne16.latency_table(workload, ne16.GAP9_NE16)
  assert result["networks"][0]["cycles"] == table.cycles[:, 0, -1, 0].sum()
  assert result["networks"][3]["cycles"] == table.cycles[:, 0, 0, 0].sum()
  assert len(result["l2_budgets"]) == 2


def test_ne16_is_told_with_its_interval(on_ne16):
  result = json.loads((on_ne16 / "result.json").read_text())
  intervals = {each["name"]: each for each in result["intervals"]}
  assert [*intervals] == ["8/8", "8/4", "8/4+FB", "8/2", "8/2+FB"]
  workload = nets.ds_cnn().workload
  constants, _ = ne16.doubt.draws(ne16.GAP9_NE16, 7, 0)
  drawn = ne16.many.latency_tables(workload, constants).cycles
  eight = sorted(drawn[:, :, 0, -1, 0].sum(axis=1).tolist())
  two = drawn[:, :, 0, 0, 0].sum(axis=1)
  found = intervals["8/8"]
  assert [found["low"], found["median"], found["high"]] == [
    *(eight[0], eight[3], eight[-1])
  ]
  assert intervals["8/2"]["change_median"] == pytest.approx(
    np.median(two / drawn[:, :, 0, -1, 0].sum(axis=1) - 1)
  )
  for name, each in intervals.items():
    [own] = [n for n in result["networks"] if n["name"] == name]
    assert each["central"] == own["cycles"]
  page = (on_ne16 / "report.html").read_text()
  assert "Within all that is assumed of gap9_ne16" in page
  assert "job_setup_cycles (its low)" in page


def test_a_target_without_ranges_has_no_intervals():
  assert has_ranges(XPULPNN_V1)
  assert not has_ranges(XPULPNN_V1_ISS)
  analytic = dataclasses.replace(ne16.GAP9_NE16, engine="analytic")
  assert not has_ranges(analytic)


def test_the_page_of_ne16_tells_what_its_facts_say(on_ne16):
  page = (on_ne16 / "report.html").read_text()
  for text in (
    "1x1 jobs read all bits",
    "NE16 depthwise",
    "runs on",
    "Roofline",
  ):
    assert text in page
  assert "Free Bits slides" not in page
  result = json.loads((on_ne16 / "result.json").read_text())
  numbers = [each["numbers"] for each in result["statements"]]
  assert numbers[0]["NE16 depthwise compute"] < 0.7
  assert numbers[1]["NE16 1x1 compute"] == 1.0
  assert 0 < numbers[2]["share of 8/8"] < 1 and numbers[2]["cores cycles"] == 1
