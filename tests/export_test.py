"""The export of a run that was not trained but looks so."""

import csv
import dataclasses
import json
import shutil

import experiment_runs
import idx_cases
import jax
import lab_cases
import numpy as np
import own_points
import pytest
from deploy_cases import variables

from configs import export as export_config
from fbq import precision
from fbq.config import ConfigError
from fbq.deploy import (
  artifact,
  c_code,
  dory_check,
  dory_target,
  faithful,
  integer,
  onnx_qdq,
  tflite_run,
)
from fbq.experiments.export import page
from fbq.experiments.export.pipeline import Attempts
from fbq.lab import experiment, finished, trained_point
from fbq.train.log import Log
from hwsim import ne16, proxies
from hwsim.latency_table import total_cycles
from hwsim.pulp import XPULP_V2, latency_table
from tests.configs import tiny

NAME = "4/4"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """A finished run of an experiment that fbq does not know."""
  path = tmp_path_factory.mktemp("runs") / "source"
  net = tiny.separable()
  bits = precision.uniform(net, 4) | {"stem.weight": 8}
  own_points.finished(path, NAME, bits, variables(net), "8/8")
  return path


@pytest.fixture(scope="module")
def dead(tmp_path_factory):
  """One with a layer that lets nothing through: 32 bits cannot hold it."""
  path = tmp_path_factory.mktemp("runs") / "dead"
  net = tiny.separable()
  found = variables(net)
  ranges = {**found["ranges"], "dw.out": np.float32(1e-8)}
  found = {**found, "ranges": ranges}
  own_points.finished(path, "8/8", precision.uniform(net, 8), found)
  return path


def configured(run, point="best", **changes):
  config = export_config.get_config(f"from={run},point={point}")
  config.update(changes)
  return config


def result_in(workdir):
  return json.loads((workdir / "result.json").read_text())


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("runs") / "export"
  assert experiment.run(configured(source), workdir) == ""
  return workdir


@pytest.fixture(scope="module")
def point(source):
  run = finished.read(source, Log(source / "metrics.jsonl"))
  return trained_point.load(run, "best")


def test_the_trained_network_is_found_as_it_was_left(point):
  assert point.name == NAME and point.accuracy == own_points.ACCURACY
  jax.tree.map(
    np.testing.assert_array_equal, dict(point.variables), variables(point.net)
  )
  assert len(point.images) == len(point.labels) == 360


def test_an_export_leaves_files_that_agree(point, exported):
  result, network = result_in(exported), artifact.load(exported)
  assert network.width == result["requantization_bits"] == 64
  bits = precision.to_array(point.net, point.assignment)
  codes = faithful.trained_codes(point.net, point.variables, bits, point.images)
  ours = np.argmax(integer.integer_apply(network, codes["input"]), -1)
  same = int(np.sum(ours == np.argmax(codes["classifier"], -1)))
  assert result["same_class"]["64"] == same >= 359
  assert result["images"] == 360 and "failed" not in result
  for layer in result["layers"].values():
    assert layer["proven_equal_channels"] == layer["channels"]
  assert (exported / "qdq.onnx").exists()
  assert (exported / "qdq_fast.onnx").exists()
  assert 300 <= result["onnx"]["fast_same_class"] <= 360
  assert result["onnx"]["same_class"] >= 358
  ran = "4 of 4 images equal" if shutil.which("cc") else "not compiled"
  assert result["c"]["checked"].startswith(ran)
  peak = result["sizes"]["peak_activation_bytes"]
  assert result["c"]["arena_bytes"] == peak
  assert (exported / "dory/network.onnx").exists()
  assert result["dory"].startswith("written; form")


@pytest.fixture(scope="module")
def on_ne16(tmp_path_factory):
  """A run on NE16 with weights of widths that do not divide a byte."""
  folder = tmp_path_factory.mktemp("runs")
  net = tiny.separable()
  weights = [s for s in net.workload.free_sites if s.endswith(".weight")]
  widths = dict(zip(weights, (3, 5, 6, 7), strict=True))
  bits = precision.uniform(net, 8) | widths
  own_points.finished(
    folder / "source", "mine", bits, variables(net), target="gap9_ne16"
  )
  made = configured(folder / "source", "mine")
  assert experiment.run(made, folder / "export") == ""
  return folder / "export", bits


def test_an_export_of_ne16_writes_all_but_dory_and_says_why(on_ne16):
  workdir, bits = on_ne16
  result, network = result_in(workdir), artifact.load(workdir)
  assert network.bits == bits and "failed" not in result
  assert result["target"] == "gap9_ne16" and result["refused"] == []
  assert result["dory"].startswith(
    "not written: DORY has no code for gap9_ne16"
  )
  assert not (workdir / "dory").exists() and result["dory_command"] == ""
  assert result["onnx"]["same_class"] >= 355
  if shutil.which("cc"):
    assert result["c"]["checked"].startswith("4 of 4 images equal")
  net = network.net
  stored = proxies.weight_bytes(net.workload, bits)
  assert result["sizes"]["weight_bytes"] == stored
  assert result["c"]["weight_bytes"] == stored

  # Cycles with the widest multipliers that NE16 has
  wide = dataclasses.replace(ne16.GAP9_NE16, norm_bits=32)
  table = ne16.latency_table(net.workload, wide)
  cycles = total_cycles(table, net.workload, bits, "site")
  assert result["cycles"] == {"32": cycles}
  report = (workdir / "report.html").read_text()
  assert f"{cycles:,}" in report and "DORY has no code for gap9_ne16" in report


def test_tflite_is_run_and_held_against_the_integers(point, exported):
  """Of 4-bit weights in both forms; the smaller one is the coarser."""
  found = result_in(exported)["tflite"]
  assert list(found) == ["network.tflite", "network_int4.tflite"]
  network = artifact.load(exported)
  codes = np.asarray(integer.quantize_images(point.images))
  ours = np.asarray(integer.integer_apply(network, codes)).argmax(-1)
  for name, numbers in found.items():
    data = tflite_run.load(exported / name)
    assert numbers["bytes"] == len(data)
    classes = tflite_run.run(tflite_run.session(data), codes).argmax(-1)
    assert np.sum(classes == ours) >= 350 and numbers["same_class"] >= 350
    assert 0.9 < numbers["equal"] / numbers["values"] <= 1
    assert numbers["equal_channels"] <= numbers["channels"] == 8 + 8 + 16 + 16
  wide, narrow = found.values()
  assert narrow["weight_bytes"] < wide["weight_bytes"]
  assert narrow["equal_channels"] <= wide["equal_channels"]
  report = (exported / "report.html").read_text()
  assert 'href="network_int4.tflite"' in report


def test_an_export_of_mnist_s_files_agrees_on_every_image(tmp_path):
  """With the trained network in float64, whose codes are proven to be equal."""
  idx_cases.write(tmp_path / "data", train=40, test=130)
  net = tiny.separable()
  source = tmp_path / "source"
  bits = precision.uniform(net, 8)
  data = dict(name="idx", directory=str(tmp_path / "data"))
  own_points.finished(source, "8/8", bits, variables(net), data=data)
  workdir = tmp_path / "export"
  assert experiment.run(configured(source), workdir) == ""
  result = result_in(workdir)
  assert result["images"] == result["same_exact_class"]["64"] == 130
  assert result["same_class"]["64"] >= 129  # a tie of float32
  assert list(result["tflite"]) == ["network.tflite"]
  report = (workdir / "report.html").read_text()
  assert "130 of 130 test images" in report and "in float64" in report


def test_the_hardware_is_the_run_s_for_files_command_and_cycles(
  point, exported
):
  """Cycles by the whole table, of constants of either width."""
  result = result_in(exported)
  config = json.loads((exported / "dory/config.json").read_text())
  assert config["code reserved space"] == XPULP_V2.code_reserved_bytes
  command = dory_target.invocation(XPULP_V2).command
  assert result["dory_command"] == command and result["target"] == "xpulp_v2"
  report = (exported / "report.html").read_text()
  assert command in report
  for width in (32, 64):
    target = dataclasses.replace(XPULP_V2, constant_bits=width)
    table = latency_table(point.net.workload, target)
    cycles = total_cycles(table, point.net.workload, point.assignment, "site")
    assert result["cycles"][str(width)] == cycles
    assert f"{cycles:,}" in report


def test_numbers_and_page_tell_every_layer(exported):
  with (exported / "results.csv").open() as file:
    rows = list(csv.DictReader(file))
  assert [r["layer"] for r in rows] == ["stem", "dw", "pw", "pool"] * 2
  widths = [r["requantization_bits"] for r in rows]
  assert widths == ["32"] * 4 + ["64"] * 4
  result = result_in(exported)
  for row in rows[4:]:
    layer = result["layers"][row["layer"]]
    assert int(row["equal_channels"]) == layer["proven_equal_channels"]
    assert int(row["off_by"]) == sum(layer["off_by"].values())
  assert rows[4]["weight_bits"] == "8" and rows[5]["weight_bits"] == "4"
  report = (exported / "report.html").read_text()
  assert f"{result['same_class']['64']} of 360" in report
  assert f"{result['sizes']['total_bytes'] / 1000:.2f} kB" in report
  assert 'href="dory/network.onnx"' in report and "not made" not in report
  assert f"{result['c']['weight_bytes']:,} bytes of weights" in report


def test_the_page_is_made_again_from_the_record_alone(exported):
  path = exported / "report.html"
  before = path.read_bytes()
  path.unlink()
  kind, results, run = experiment.load(exported)
  kind.write(results, run, exported)
  assert path.read_bytes() == before


def test_a_class_that_rounded_biases_turn_is_told(exported):
  """Where codes are proven, nothing else tells integers from float64."""
  _, results, _ = experiment.load(exported)
  assert "biases" not in page.statements(results)[1]
  written = dataclasses.replace(
    results.written, same_exact_class=results.images - 1
  )
  widths = {**results.widths, results.requantization_bits: written}
  told = page.statements(dataclasses.replace(results, widths=widths))
  assert told[0].startswith(f"{results.images - 1} of {results.images} ")
  assert told[1].startswith("Of 1 image ") and "biases" in told[1]


def test_a_finished_export_is_left_alone_and_belongs_to_its_run(
  source, exported
):
  before = (exported / "result.json").stat().st_mtime_ns
  assert experiment.run(configured(source), exported) == ""
  assert (exported / "result.json").stat().st_mtime_ns == before
  with pytest.raises(ConfigError, match="requantization_bits"):
    experiment.run(configured(source, requantization_bits=32), exported)
  results = source / "result.json"
  content = results.read_text()
  results.write_text(content + "\n")  # as if run again
  with pytest.raises(ConfigError, match="source_sha256"):
    experiment.run(configured(source), exported)
  results.write_text(content)


def test_what_cannot_be_exported_is_refused_by_name(
  source, tmp_path, monkeypatch
):
  for changes, message in (
    (dict(point="5/5"), "config.point is '5/5', expected 'best' or one of 4/4"),
    (dict(source=str(tmp_path)), r"config.source, .*config.json cannot be"),
    (dict(source="~nobody-of-this-name/x"), "config.json cannot be read"),
    (dict(source="\0"), "embedded null"),
    (dict(source="x" * 300), "name too long"),
    (dict(point="x" * 300), "config.point is 'xxx"),
    (dict(requantization_bits=16), "requantization_bits is 16"),
    (dict(golden_image=-1), "golden_image is -1"),
    (dict(golden_image=360), "golden_image is 360, expected below 360"),
    (dict(point="8/8"), "expected 'best' or one of"),  # no assignment stored
  ):
    workdir = tmp_path / "export"
    with pytest.raises(ConfigError, match=message):
      experiment.run(configured(source, **changes), workdir)
    assert not workdir.exists()
  with pytest.raises(ConfigError, match="'at=8' after the config's colon"):
    export_config.get_config("at=8")

  monkeypatch.setenv("HOME", str(source.parent))
  lab_cases.checked(configured(f"~/{source.name}"))


def test_a_run_that_ends_in_no_points_is_refused(exported, tmp_path):
  """Unfinished, without points, of no training, of another version."""
  lab = own_points.opened(tmp_path / "run")
  with pytest.raises(ConfigError, match="not finished"):
    lab_cases.checked(configured(lab.workdir))
  own_points.finish(lab)
  with pytest.raises(ConfigError, match="ends in no fine-tuned points"):
    lab_cases.checked(configured(lab.workdir))
  with pytest.raises(ConfigError, match="'export' leaves no network"):
    lab_cases.checked(configured(exported))
  (lab.workdir / "config.json").write_text("{}")
  with pytest.raises(ConfigError, match="another version of fbq"):
    lab_cases.checked(configured(lab.workdir))


# ---- One that fails leaves the others


def test_64_bits_are_exported_although_32_fail(cache, dead, tmp_path):
  failure = experiment.run(configured(dead), tmp_path)
  assert "\n" not in failure and str(tmp_path) in failure
  assert "32-bit integers: net 'separable-8': layer 'dw'" in failure
  result = result_in(tmp_path)
  assert list(result["failed"]) == ["32-bit integers", "DORY"]
  assert list(result["same_class"]) == ["64"] and len(result["layers"]) == 4
  assert artifact.load(tmp_path).width == 64
  assert "kernels clip the lowest 32 bits" in result["dory"]
  ((layer, why),) = result["refused"]
  assert layer == "dw" and "raise the range of dw.out" in why
  assert result["onnx"]["same_class"] == 360
  report = (tmp_path / "report.html").read_text()
  assert "32-bit integers: net &#39;separable-8&#39;" in report
  assert "Layers that xpulp_v2 does not run" in report and "dw.out" in report

  # Finished is finished, and the program says again that some failed.
  copy = shutil.copytree(tmp_path, tmp_path / "copy")  # this process locks it
  status, output = experiment_runs.run(
    cache,
    copy,
    config=f"configs/export.py:from={dead},point=best",
  )
  assert status == 1 and "Traceback" not in output
  last = output.splitlines()[-1]
  assert last == f"error: {failure}".replace(str(tmp_path), str(copy))


def test_what_needs_32_bits_fails_alone(dead, tmp_path):
  experiment.run(configured(dead, requantization_bits=32), tmp_path)
  result = result_in(tmp_path)
  failed = ["32-bit integers", "integer network", "DORY", "C"]
  assert list(result["failed"]) == failed
  assert "no 32-bit integers" in result["failed"]["integer network"]
  assert result["dory"].startswith("not written: there are no 32-bit")
  assert result["sizes"] == result["layers"] == {}
  assert not (tmp_path / "network.json").exists()
  assert not (tmp_path / "dory").exists()
  assert not (tmp_path / "c").exists()
  assert result["c"]["error"].startswith("not written: there are no 32-bit")
  assert result["onnx"]["same_class"] == 360
  assert (tmp_path / "qdq.onnx").exists()
  assert "There are no 32-bit" in (tmp_path / "report.html").read_text()


def test_files_that_do_not_hold_are_not_left(source, tmp_path, monkeypatch):
  def missing(*_):
    raise ModuleNotFoundError("No module named 'onnxruntime'")

  monkeypatch.setattr(dory_check, "problems", lambda _: ["layer 'dw' is odd"])
  monkeypatch.setattr(onnx_qdq, "session", missing)
  monkeypatch.setattr(artifact, "load", lambda _: 1 / 0)
  monkeypatch.setattr(c_code, "check", lambda _: 1 / 0)
  failure = experiment.run(configured(source), tmp_path)
  result = result_in(tmp_path)
  failed = ["integer network", "DORY", "C", "ONNX Runtime"]
  assert list(result["failed"]) == failed and failure.startswith("4 failed")
  assert "layer 'dw' is odd" in result["dory"]
  assert "pip install 'fbq[deploy]'" in result["onnx"]["error"]
  assert result["onnx"]["bytes"] > 0 and (tmp_path / "qdq.onnx").exists()
  for name in ("dory", "c", "network.json", "weights.npz"):
    assert not (tmp_path / name).exists()
  assert len(result["layers"]) == 4  # compared all the same


def test_a_full_disk_is_no_fault_of_a_part(tmp_path):
  def full():
    raise OSError(28, "No space left on device")

  attempt = Attempts(own_points.opened(tmp_path))
  with pytest.raises(OSError, match="No space left"):
    attempt("ONNX", full)
  assert attempt("ONNX", lambda: 3) == 3 and not attempt.failed
