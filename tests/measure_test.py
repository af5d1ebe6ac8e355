"""The measured loop: costs out of mixtures, exact choices, a whole run."""

import csv
import dataclasses
import itertools
import json
import pathlib
import runpy

import numpy as np
import pytest

REASON = "needs onnx and onnxruntime: pip install fbq[deploy]"
onnx = pytest.importorskip("onnx", reason=REASON)
pytest.importorskip("onnxruntime", reason=REASON)

from fbq import nets, precision  # noqa: E402
from fbq.config import ConfigError  # noqa: E402
from fbq.deploy import mixed_layers, onnx_mixed, onnx_timing  # noqa: E402
from fbq.deploy.mixed_layers import LADDER  # noqa: E402
from fbq.deploy.onnx_timing import Part, Timed, Whole  # noqa: E402
from fbq.experiments.measure import (  # noqa: E402
  choice,
  harm,
  inputs,
  mixtures,
  pipeline,
  table,
)
from fbq.experiments.measure.config import Measuring, check  # noqa: E402
from fbq.lab import experiment  # noqa: E402
from fbq.lab.lab import Lab  # noqa: E402
from fbq.nets import Node  # noqa: E402
from fbq.nets.graph import INPUT  # noqa: E402
from fbq.search import problem  # noqa: E402
from hwsim import latency_io  # noqa: E402

CONFIG = pathlib.Path(__file__).parents[1] / "configs/measure.py"
ROUNDS = 5
NODE_NS = 700.0
# Two branches that meet at an adder; no two layers are of one geometry
BRANCHES = nets.Net(
  "branches",
  (8, 8, 3),
  (
    Node("a", "conv", (INPUT,), 4, (3, 3), 1, 1, bias=True, activation="relu"),
    Node("b", "conv", ("a",), 4, (1, 1), bias=True),
    Node("sum", "add", ("a", "b"), activation="relu"),
    Node("pool", "avg_pool", ("sum",), kernel=None),
    Node("fc", "linear", ("pool",), 3, bias=True, is_output=True),
  ),
  fixes_adders=False,
)


def kernels(net, seed=0):
  """Known nanoseconds of every layer in every kind."""
  random = np.random.default_rng(seed)
  return {
    (node.name, kind): float(random.integers(20_000, 90_000))
    for node in net.nodes
    for kind in (4, 8, 32)
  }


def moves(net, seed=0):
  random = np.random.default_rng(seed + 1)
  return {
    (tensor, way): float(random.integers(2_000, 30_000))
    for tensor in net.shapes
    for way in (True, False)
  }


def kind_of(net, bits, node):
  if node.has_weights:
    return bits[f"{node.name}.weight"]
  reads = {bits[net.site_of[name]] for name in node.inputs}
  return 8 if reads == {8} else 32


def known_ns(net, bits, seed=0):
  """The time of an assignment, told differently: tensor by tensor."""
  layers, conversions = kernels(net, seed), moves(net, seed)
  total = sum(layers[n.name, kind_of(net, bits, n)] for n in net.nodes)
  integer = {n.name: kind_of(net, bits, n) == 8 for n in net.nodes}
  for tensor in net.shapes:
    if net.site_of[tensor] is None:
      continue
    lies = bits[net.site_of[tensor]] == 8
    if tensor != INPUT and integer[tensor] != lies:
      total += conversions[tensor, lies]
    for node in net.nodes:
      for name in node.inputs:
        if name == tensor and integer[node.name] != lies:
          total += conversions[tensor, integer[node.name]]
  return total


def fake_time(net, seed=0, noise=0.0, quiet=True):
  """A timer that knows what everything costs, in place of a machine.

  Every node of the runtime is half a microsecond or so more in a whole run.
  """
  random = np.random.default_rng(7)

  def times(models, net_, images, rounds, progress):
    del images, progress
    found = []
    for model in models:
      bits = model.bits
      parts, count = {}, {}
      jitter = lambda: 1 + noise * random.standard_normal(rounds)
      for node in net.nodes:
        part = Part("", node.name)
        own = kernels(net, seed)[node.name, kind_of(net, bits, node)]
        parts[part] = (own - NODE_NS) * jitter()
        count[part] = 1
      for tensor, layer, way in mixed_layers.conversions(net, bits):
        reader = layer if layer != tensor else "next"
        part = Part(tensor, reader)
        own = moves(net, seed)[tensor, way] - NODE_NS
        parts[part] = parts.get(part, 0) + own * jitter()
        count[part] = count.get(part, 0) + 1
      wall = known_ns(net, bits, seed) * jitter()
      busy = wall if quiet else 0.9 * wall
      whole = Whole(wall / (1 if quiet else 0.5), busy, 0.0 if quiet else 1.0)
      found.append(Timed(parts, count, whole))
    return found

  return times


@dataclasses.dataclass
class Model:
  """What the fake timer looks at."""

  bits: dict


def timed(net, count=12, **kind):
  tried = [
    *mixtures.uniform(net).values(),
    *mixtures.mixtures(net, count, 0),
  ]
  models = [Model(bits) for bits in tried]
  return tried, fake_time(net, **kind)(models, net, None, ROUNDS, None)


def every(net, weights=(4, 8, 32)):
  """All assignments of a small network."""
  free = net.workload.free_sites
  rungs = [weights if s.endswith("weight") else (8, 32) for s in free]
  for bits in itertools.product(*rungs):
    yield dict(net.fixed_bits) | dict(zip(free, bits, strict=True))


@pytest.fixture(scope="module")
def known():
  tried, found = timed(BRANCHES, 30)
  return tried, found, table.costs_of(BRANCHES, tried, found)


def test_what_everything_takes_is_found_from_mixtures(known):
  _, _, costs = known
  for what, time in kernels(BRANCHES).items():
    if BRANCHES.node[what[0]].has_weights or what[1] != 4:
      assert costs.kernels[what] == pytest.approx(time), what
  assert costs.node_ns == pytest.approx(NODE_NS)
  met = {
    (tensor, way)
    for bits in every(BRANCHES)
    for tensor, _, way in mixed_layers.conversions(BRANCHES, bits)
  }
  for what in met:
    assert costs.moves[what] == pytest.approx(moves(BRANCHES)[what]), what


def test_predictions_are_those_of_every_assignment(known):
  tried, found, costs = known
  for bits in every(BRANCHES):
    predicted = table.predicted_ns(BRANCHES, costs, bits)
    assert predicted == pytest.approx(known_ns(BRANCHES, bits))
  for predicted, measured in table.errors(BRANCHES, tried, found, 3):
    assert predicted == pytest.approx(measured)


def test_the_table_and_its_terms_add_up_to_the_prediction(known):
  """In whole nanoseconds, so to one for each layer and conversion."""
  _, _, costs = known
  latency = table.latency_table(BRANCHES, costs, "here")
  choosing = choice.problem_of(BRANCHES, costs, latency, harms_of(BRANCHES))
  for bits in every(BRANCHES):
    (total,) = problem.evaluate(choosing, bits).costs["cycles"]
    assert abs(total - known_ns(BRANCHES, bits)) <= 8


def harms_of(net, seed=2):
  """Random harms, less the more bits."""
  random = np.random.default_rng(seed)
  return {
    site: {
      bits: float(random.uniform()) * (32 - bits)
      for bits in ((4, 8, 32) if site.endswith("weight") else (8, 32))
    }
    for site in net.workload.free_sites
  }


@pytest.mark.parametrize("seed", range(4))
def test_choices_are_the_optimum_of_all_assignments(seed):
  net = BRANCHES
  tried, found = timed(net, 30, seed=seed)
  costs = table.costs_of(net, tried, found)
  latency = table.latency_table(net, costs, "here")
  harms = harms_of(net, seed)
  choosing = choice.problem_of(net, costs, latency, harms)
  found = choice.chosen(net, latency, choosing)
  times = {name: known_ns(net, bits, seed) for name, bits in found.items()}
  loss = lambda bits: sum(harms[site][bits[site]] for site in harms)

  # 4 bits stand in linear layers alone
  eights = list(every(net, (8, 32)))
  least = min(known_ns(net, bits, seed) for bits in eights)
  assert times[choice.FASTEST] == pytest.approx(least, abs=8)
  more = [*eights, *({**bits, "fc.weight": 4} for bits in eights)]
  least = min(known_ns(net, bits, seed) for bits in more)
  assert times[choice.FOUR] == pytest.approx(least, abs=8)
  assert times[choice.PASS] <= times[choice.INTEGERS]
  assert times[choice.FASTEST] <= times[choice.PASS] + 8

  budget = times[choice.INTEGERS]
  allowed = [b for b in more if known_ns(net, b, seed) <= budget + 8]
  precise = found[choice.PRECISE]
  assert times[choice.PRECISE] <= budget + 8
  assert loss(precise) == pytest.approx(min(map(loss, allowed)))


def test_a_file_of_it_is_a_whole_target(known, tmp_path):
  _, _, costs = known
  latency = table.latency_table(BRANCHES, costs, "here")
  latency_io.save(latency, tmp_path / "here.csv")
  found = latency_io.load(
    tmp_path / "here.csv", BRANCHES.workload, "site", LADDER
  )
  np.testing.assert_array_equal(found.cycles, latency.cycles)
  assert found.target == "here" and set(found.provenance) == {"measured"}


def test_noise_of_runs_widens_the_interval_and_a_busy_machine_is_told():
  net = BRANCHES
  widths = []
  for noise in (0.001, 0.05):
    tried, found = timed(net, noise=noise)
    asked = {"int8": precision.uniform(net, 8)}
    widths.append(table.half_widths(net, tried, found, asked, 0.0)["int8"])
  assert 0 < widths[0] < 0.2 * widths[1]
  _, busy = timed(net, quiet=False)
  assert not busy[0].whole.is_quiet
  np.testing.assert_array_equal(busy[0].whole.times_ns, busy[0].whole.busy_ns)


def test_two_measurements_of_a_network_are_compared():
  first, second = np.array([100.0] * 5), np.array([110.0] * 5)
  quiet = lambda times: Whole(times, times, 0.0)
  assert table.apart([(quiet(first), quiet(first))]) == 0
  pairs = [(quiet(second), quiet(first)), (quiet(first), quiet(first))]
  assert table.apart(pairs) == pytest.approx(0.1 / 2**0.5)


def test_mixtures_show_every_conversion_that_there_can_be():
  net = dataclasses.replace(nets.mobilenet_v2(0.1, 32, 10), fixes_adders=False)
  seen = set()
  for bits in mixtures.mixtures(net, 10, 0):
    precision.check_assignment(net, bits, ladder=LADDER)
    seen |= set(mixtures.one_way(net, bits))
  weighted = [n.name for n in net.nodes if n.has_weights and not n.is_output]
  wanted = {(name, way) for name in weighted for way in (True, False)}
  assert len(wanted & seen) >= 0.95 * len(wanted)


def test_runs_in_which_others_had_the_core_do_not_count():
  spans = [(100, 99), (300, 100), (101, 101), (102, 101), (400, 90)]
  assert onnx_timing._kept(spans, 3) == [0, 2, 3]
  assert onnx_timing._kept(spans, 4) == [0, 1, 2, 3]  # the best of the rest
  whole = onnx_timing._whole(spans, 3)
  assert whole.interrupted == pytest.approx(0.4) and whole.is_quiet


# ---- The whole of it


def config(**changes):
  made = runpy.run_path(str(CONFIG))["get_config"]("resnet8")
  made.update(rounds=2, mixtures=3, harm_images=2, **changes)
  made.net.arguments.update(width=0.25, resolution=16)
  return made


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("measure") / "run"
  assert experiment.run(config(), workdir) == ""
  return workdir


def test_a_run_leaves_networks_that_run_and_a_table(finished):
  names = {path.name for path in finished.iterdir()}
  assert {"report.html", "results.csv", "latency_table.csv"} <= names
  result = json.loads((finished / "result.json").read_text())
  rows = {row["name"]: row for row in result["networks"]}
  assert rows["all float"]["noise"] == 0 < rows["all int8"]["noise"] < 0.01
  assert all(row["measured_us"] > 0 for row in rows.values())
  models = sorted(finished.glob("*.onnx"))
  assert len(models) == len(rows)
  for path in models:
    onnx.checker.check_model(onnx.load(path), full_check=True)
  with (finished / "results.csv").open() as file:
    assert len(list(csv.reader(file))) == 1 + len(rows) + 2 + 14


def test_what_was_measured_is_not_measured_again(finished, tmp_path):
  """A run that is stopped goes on with the times that it has."""
  settings = Measuring(**config().to_dict())
  lab = Lab(settings)
  lab.open(tmp_path)
  for name in ("times.json", "harm.json", "whole.json"):
    (tmp_path / name).write_text((finished / name).read_text())

  def never(*_):
    raise AssertionError("measured again")

  again = pipeline.run(settings, lab, never, never)
  first = json.loads((finished / "results.json").read_text())["results"]
  assert [list(row) for row in again.networks] == first["networks"]


def test_harm_is_that_of_one_layer_or_tensor():
  net = BRANCHES
  given = inputs.variables(Measuring(**config().to_dict()), net)
  images = np.random.default_rng(0).uniform(size=(4, *net.input_shape))
  network = onnx_mixed.folded(net, given, images)
  found = harm.measure(network, onnx_mixed.as_bytes(images))
  assert set(found) == set(net.workload.free_sites)
  assert all(by[32] == 0 for by in found.values())
  assert found["fc.weight"][4] > found["fc.weight"][8] > 0
  assert 4 not in found["a.weight"]


def test_wrong_settings_are_told_before_anything_runs(tmp_path):
  for changes, message in (
    (dict(net=dict(builder="convnext", arguments={})), "cannot be measured"),
    (dict(images=str(tmp_path / "none.npy")), "none.npy"),
  ):
    settings = Measuring(**(config().to_dict() | changes))
    with pytest.raises(ConfigError, match=message):
      check(settings, Lab(settings))


@pytest.mark.parametrize("what", ["inputs", "hardware"])
def test_a_run_begun_with_others_is_refused(tmp_path, monkeypatch, what):
  """Pictures of the same name, or another machine, after a stop."""
  path = tmp_path / "x.npy"
  x = np.zeros((4, 16, 16, 3), np.uint8)
  np.save(path, x)
  given = config()
  given.images = str(path)

  def stopped(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(pipeline.inputs, "variables", stopped)
  for _ in range(2):  # the same again is no other
    with pytest.raises(KeyboardInterrupt):
      experiment.run(given, tmp_path / "run")
  if what == "inputs":
    x[0, 0, 0] = 1
    np.save(path, x)
  else:
    about = pipeline.machine.about() | {"cores": "1000"}
    monkeypatch.setattr(pipeline.machine, "about", lambda: about)
  with pytest.raises(ConfigError, match=f"begun with other {what}; use anoth"):
    experiment.run(given, tmp_path / "run")
