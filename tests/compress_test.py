"""A network out of a file to a front: whole, stopped and gone on."""

import importlib
import itertools
import json

import jax
import numpy as np
import onnx_writer
import pytest
from subject_test import NET

from configs import export as export_config
from fbq import config as config_lib
from fbq import precision
from fbq.config import ConfigError
from fbq.experiments.compress import budgets, judging, stages
from fbq.experiments.compress.config import Compress
from fbq.lab import experiment, points, rounded_point, subject, trained_point
from fbq.lab.finished import read as read_finished
from fbq.lab.lab import Lab
from fbq.model import Model
from fbq.nets import Node
from fbq.ptq import calibration, one_pass
from fbq.schemes.fixed import Fixed
from fbq.search import problem


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """Folder of a network with a norm and one without, and of inputs."""
  folder = tmp_path_factory.mktemp("files")
  random = np.random.default_rng(0)
  nodes = (
    *NET.nodes[:1],
    Node("dw", "depthwise", ("a",), None, (3, 3), 1, 1, bias=True,
         activation="relu"),
    Node("pool", "avg_pool", ("dw",), kernel=None),
    NET.nodes[2],
  )  # fmt: skip
  net = type(NET)(NET.name, NET.input_shape, nodes)
  x = random.integers(0, 256, (64, *net.input_shape), np.uint8)
  variables = Model(net).init(
    jax.random.key(0), np.zeros((1, *net.input_shape), np.float32), False
  )
  file = onnx_writer.write(net, variables).SerializeToString()
  (folder / "net.onnx").write_bytes(file)
  logits = Model(net).apply(variables, x / np.float32(255), False)
  labels = np.argmax(np.asarray(logits), -1)
  np.savez(folder / "labelled.npz", x=x, y=labels)
  np.savez(folder / "inputs.npz", x=x)
  return folder


def given(files, inputs="inputs.npz", **more):
  config = importlib.import_module("configs.compress").get_config(
    f"model={files / 'net.onnx'}"
  )
  config.calibration = str(files / inputs)
  config.calibration_images, config.batch_size = 16, 8
  config.rounding_steps, config.points = 20, 3
  for name, value in more.items():
    config[name] = value
  return config


def settings_of(files, **more):
  settings = config_lib.of(Compress, given(files, **more))
  lab = Lab(settings)
  from fbq.experiments.compress import config

  config.check(settings, lab)
  return settings, lab


def kept(workdir):
  return {
    name: (workdir / name).read_bytes()
    for name in ("results.csv", "result.json", "sensitivities.json")
  }


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("whole")
  assert not experiment.run(given(files), workdir)
  return workdir


def test_a_run_ends_in_a_front_beside_uniform_networks(finished):
  result = json.loads((finished / "result.json").read_text())
  assert {"8/8", "4/4", "2/2"} <= set(result["points"])
  assert result["measure"] == "agreement" and not result["failed"]
  assert result["integers"]["same_class"] == result["integers"]["images"]
  eight = result["points"]["8/8"]
  assert eight["kl"] < result["points"]["2/2"]["kl"]
  assert (finished / "export" / "network.json").is_file()


def test_its_page_is_made_again_of_its_record_alone(finished):
  page = (finished / "report.html").read_text()
  kind, results, about = experiment.load(finished)
  kind.write(results, about, finished)
  assert (finished / "report.html").read_text() == page
  assert "no accuracy" in page and "in integers" in page.lower()


def test_a_run_that_was_stopped_ends_with_the_same(
  files, finished, tmp_path, monkeypatch
):
  """In the second layer's rounding, then at the second point."""
  makes, own = [0], stages.rounded_layers.layer_inputs.moments

  def dying(*arguments):
    makes[0] += 1
    if makes[0] == 5:
      raise KeyboardInterrupt
    return own(*arguments)

  monkeypatch.setattr(stages.rounded_layers.layer_inputs, "moments", dying)
  with pytest.raises(KeyboardInterrupt):
    experiment.run(given(files), tmp_path)
  assert [p.name for p in (tmp_path / "rounded").iterdir()] == ["conv1.npz"]

  points, correct = [0], one_pass.correct

  def also_dying(*arguments):
    points[0] += 1
    if points[0] == 2:
      raise KeyboardInterrupt
    return correct(*arguments)

  monkeypatch.setattr(one_pass, "correct", also_dying)
  with pytest.raises(KeyboardInterrupt):
    experiment.run(given(files), tmp_path)
  # Of three precisions of the first layer none was made again
  assert makes[0] == 4 + 1 + 2 * 3
  assert not experiment.run(given(files), tmp_path)
  assert kept(tmp_path) == kept(finished)


def test_other_inputs_of_the_same_name_are_refused(files, tmp_path):
  copy = tmp_path / "inputs.npz"
  copy.write_bytes((files / "inputs.npz").read_bytes())
  workdir = tmp_path / "run"
  settings, lab = settings_of(files, calibration=str(copy))
  lab.open(workdir)

  def begin():
    rounded_point.refuse_changed(lab.workdir, subject.of(settings))

  begin()
  with np.load(copy) as stored:
    x = stored["x"].copy()
  x[:, 0, 0] ^= 1
  np.savez(copy, x=x)
  with pytest.raises(ConfigError, match="begun with other inputs"):
    begin()


def test_a_run_is_exported_whole(finished, tmp_path, monkeypatch):
  """DORY, TFLite, ONNX and C of a point, and why there is no DORY elsewhere."""
  config = export_config.get_config(f"from={finished},point=8/8")
  assert experiment.run(config, tmp_path / "eight") == ""
  result = json.loads((tmp_path / "eight/result.json").read_text())
  told = json.loads((finished / "result.json").read_text())["points"]["8/8"]
  assert result["point"] == "8/8" and result["target"] == "xpulpnn_v1"
  assert result["dory"].startswith("written; form") and "failed" not in result
  for name in (
    "dory/network.onnx",
    "network.tflite",
    "qdq.onnx",
    "c/network.c",
  ):
    assert (tmp_path / "eight" / name).is_file()
  assert result["images"] == result["same_class"]["64"] == 24
  assert result["tflite"]["network.tflite"]["same_class"] >= 23

  # The variables are those that made the logits of the run
  run = read_finished(finished)
  point = trained_point.load(run, "8/8")
  bits = precision.to_array(run.lab.net, point.assignment)
  logits = Model(run.lab.net, Fixed()).apply(
    point.variables, point.images, False, bits
  )
  digest = points.digest(run.lab.net, point.assignment)
  with np.load(rounded_point.path_of(finished, digest)) as stored:
    np.testing.assert_allclose(logits, stored["logits1"], atol=1e-5)
  assert point.accuracy == pytest.approx(told["accuracy"])
  page = (tmp_path / "eight/report.html").read_text()
  assert "test agreement; the run reports" in page
  assert "network that was rounded" in page

  # Another network or other inputs under the same names are no source
  monkeypatch.setattr(
    subject.imported,
    "checked",
    lambda _, real=subject.imported.checked: changed(
      real(run.lab.settings.model)
    ),
  )
  with pytest.raises(ConfigError, match="begun with other network"):
    read_finished(finished)


def changed(found):
  params = dict(found.variables["params"])
  params["fc1_bias"] = params["fc1_bias"] + 1
  return found._replace(variables={**found.variables, "params": params})


def test_variables_are_kept_bit_for_bit():
  random = np.random.default_rng(0)
  bits = {"a.weight": 3, "fc.weight": 8, "a.out": 4}
  ranges = {
    "a.weight": random.uniform(0.1, 2, 5).astype(np.float32),
    "fc.weight": np.float32(0.7),
    "a.out": np.float32(6),
  }
  codes = {
    "a": random.integers(-4, 4, (3, 3, 2, 5)),
    "fc": random.integers(-128, 128, (5, 4)),
  }
  params = {
    f"{name}_kernel": x.astype(np.float32)
    * (ranges[f"{name}.weight"] / np.float32(2 ** (bits[f"{name}.weight"] - 1)))
    for name, x in codes.items()
  } | {"fc_bias": random.normal(size=4).astype(np.float32)}
  given = {
    "params": params,
    "batch_stats": {"a_norm": {"mean": np.ones(5), "var": np.full(5, 2.0)}},
    "ranges": ranges,
  }
  stored = rounded_point.packed(given, bits)
  assert stored["params/a_kernel"].dtype == np.int8
  np.testing.assert_array_equal(stored["params/fc_kernel"], codes["fc"])
  jax.tree.map(
    np.testing.assert_array_equal, rounded_point.unpacked(stored, bits), given
  )


def test_each_layer_is_rounded_once_for_all_points(
  files, tmp_path, monkeypatch
):
  solved, own = [], stages.rounded_layers.moment_rounding.round_columns

  def counted(*arguments):
    solved.append(arguments[3])
    return own(*arguments)

  monkeypatch.setattr(
    stages.rounded_layers.moment_rounding, "round_columns", counted
  )
  config = given(files, "labelled.npz", target="gap9_ne16", cost="flash")
  tmp_path, folder = tmp_path / "run", tmp_path
  assert not experiment.run(config, tmp_path)
  assert solved == [(2, 3, 4, 5, 6, 7, 8)] * 3  # layers with weights
  result = json.loads((tmp_path / "result.json").read_text())
  assert result["measure"] == "accuracy"
  assert result["float_accuracy"] == 1.0  # labels are the network's own

  # At most 2.5 passes for each choice that there is
  _, found, _ = experiment.load(tmp_path)
  choices = sum(len(by_bits) for by_bits in found.harm.values())
  stored = json.loads((tmp_path / "sensitivities.json").read_text())
  free = [by_bits for by_bits in found.harm.values() if len(by_bits) > 1]
  assert set(stored) == set(found.harm)
  assert found.passes == 1 + sum(len(by_bits) - 1 for by_bits in free)
  assert found.passes <= 2.5 * choices

  # Exported, the labels judge, and DORY is refused with the reason
  exported = export_config.get_config(f"from={tmp_path}")
  assert experiment.run(exported, folder / "export") == ""
  found = json.loads((folder / "export/result.json").read_text())
  assert found["point"] == result["recommended"]
  assert "DORY has no code for gap9_ne16" in found["dory"]
  assert not (folder / "export/dory").exists()
  assert "test accuracy" in (folder / "export/report.html").read_text()


@pytest.mark.parametrize("cost", ["cycles", "flash", "l2", "energy"])
def test_choices_are_the_best_of_all_under_each_budget(files, cost):
  # In so small a network nothing is faster than 8 bits on a PULP cluster
  of_time = cost in ("cycles", "energy")
  settings, lab = settings_of(
    files,
    cost=cost,
    target="gap9_ne16" if of_time else "xpulpnn_v1",
    milliwatts=50.0,
    bounds=(("conv1.weight", 4, 8),),
  )
  random = np.random.default_rng(0)
  values = {
    site: {b: -float(random.exponential() / b) for b in lab.ladder.of(site)}
    for site in lab.net.workload.sites
  }
  plan = budgets.plan(settings, lab, values)
  assert len(plan.budgets) == 3
  sites = lab.net.workload.free_sites
  every = [
    precision.uniform(lab.net, 8) | dict(zip(sites, bits, strict=True))
    for bits in itertools.product(*map(lab.ladder.of, sites))
    if dict(zip(sites, bits, strict=True))["conv1.weight"] >= 4
  ]
  scored = [problem.evaluate(plan.problem, one) for one in every]
  costs = np.array([one.costs[plan.cost][0] for one in scored])
  worth = np.array([one.value[0] for one in scored])
  assert min(plan.budgets.values()) == costs.min()
  for name, found in budgets.choose(plan).items():
    own = problem.evaluate(plan.problem, found)
    assert own.costs[plan.cost][0] <= plan.budgets[name]
    best = worth[costs <= plan.budgets[name]].max()
    assert own.value[0] == pytest.approx(best)


def test_energy_is_power_times_time(files):
  settings, lab = settings_of(
    files, milliwatts=50.0, limits=dict(microjoules=1000.0)
  )
  cycles = budgets.cycles_of(settings, lab, 10.0)
  assert cycles == pytest.approx(10e-6 / 50e-3 * lab.costs.target.frequency_hz)
  back = budgets.microjoules_of(settings, lab, cycles)
  assert back == pytest.approx(10, rel=1e-3)


@pytest.mark.parametrize(
  ("more", "message"),
  [
    (dict(cost="energy"), "config.milliwatts is 0.0, expected the mean power"),
    (dict(batch_size=5), "config.calibration_images is 16, expected a mult"),
    (dict(ranges="file"), "config.ranges is 'file', expected another rule"),
    (dict(budgets=(0.01,)), "config.budgets, limits and bounds: .* least ach"),
    (dict(points=1), "config.points is 1, expected a whole number, 2 to 100"),
    (
      dict(limits=dict(flash_bytes=1)),
      "bounds: flash_bytes <= 1 cannot be met",
    ),
    (dict(model=""), "config.model is '', expected the .onnx or .tflite"),
    (dict(model="/none/net.onnx"), "config.model: /none/net.onnx: there is no"),
    (dict(test="/none/x"), "config.test: /none/x is not there"),
    (dict(target="gap9"), "^config.target: target 'gap9' is not known"),
    (
      dict(normalization=((123.7,), (58.4,))),
      r"of images from 0 to 1: means of 0 to 1",
    ),
    (dict(calibration=""), "config.calibration is '', expected inputs"),
    (dict(calibration="/none/x"), "config.calibration: /none/x is not there"),
  ],
)
def test_what_cannot_work_takes_one_line_before_any_work(files, more, message):
  with pytest.raises(ConfigError, match=message) as error:
    settings_of(files, **more)
  assert "\n" not in str(error.value)


def test_ranges_of_a_file_are_all_of_them_in_codes():
  net = NET
  given = {"a.out": (0.0, 6.0)}
  found = calibration.ranges(net, {}, (4, 8), given=given)
  assert found == {"a.out": {4: np.float32(6), 8: np.float32(6)}}


def test_a_float_network_no_better_than_one_class_is_doubted():
  """With labels by accuracy, without by how often it says one class."""
  logits = np.eye(4)[np.arange(40) % 4]
  right = np.arange(40) % 4
  assert not judging.doubts(logits, right)
  assert not judging.doubts(logits, None)
  [wrong] = judging.doubts(logits, (right + 1) % 4)
  assert "is right for 0.0% of the inputs" in wrong
  constant = np.tile(np.eye(4)[0], (40, 1))
  [same] = judging.doubts(constant, None)
  assert "gives 100% of the inputs one class" in same
  assert judging.doubts(constant, right)  # 25 %, as any class always


def test_what_a_black_border_changes_is_told(files):
  pair = ((0.5,) * 3, (0.25,) * 3)
  settings, lab = settings_of(files, normalization=pair, border="black")
  found = subject.of(settings)
  assert not lab.net.image_zero
  net, variables = found.in_file
  x = found.test.images
  black, file = (
    np.asarray(Model(n).apply(v, x, False), np.float64)
    for n, v in ((found.net, found.variables), (net, variables))
  )
  p, q = (
    np.exp(z - np.logaddexp.reduce(z, -1, keepdims=True)) for z in (file, black)
  )
  kl = np.mean(np.sum(p * np.log(p / q), -1))
  same = np.mean(black.argmax(-1) == file.argmax(-1))
  [said] = judging.border(found, black)
  assert f"leaves {same:.1%} of the inputs" in said
  assert f"at {kl:.2g} nats" in said and "(128, 128, 128)" in said
  plain, _ = settings_of(files, normalization=pair)
  assert not judging.border(subject.of(plain), file)
