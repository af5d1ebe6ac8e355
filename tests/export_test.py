"""The export experiment on a run that was not trained but looks so."""

import json

import jax
import numpy as np
import pytest
from deploy_cases import variables
from ml_collections import ConfigDict

from configs import export as export_config
from fbq import nets, precision
from fbq.deploy import artifact, faithful, integer
from fbq.experiments import export, settings, task, trained_point
from fbq.experiments.stages import Lab, digest
from fbq.model import Model
from fbq.schemes.fixed import Fixed
from fbq.train.checkpoints import Checkpoints
from fbq.train.log import Log, Stopwatch
from tests.configs import tiny

NAME = "4/4"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """A workdir with what an export reads of a finished run."""
  path = tmp_path_factory.mktemp("runs") / "source"
  (path / "precision").mkdir(parents=True)
  config = tiny.get_config()
  claim = json.loads(json.dumps(config.to_dict()))
  net = nets.build(config.net.builder, **config.net.arguments)
  bits = precision.uniform(net, 4) | {"stem.weight": 8}
  (path / "config.json").write_text(json.dumps(claim))
  (path / "precision/4-4.json").write_text(precision.to_json(net, bits))
  results = {"recommended": NAME, "points": {NAME: {}, "8/8": {}}}
  (path / "result.json").write_text(json.dumps(results))
  name = f"fine-tune-{digest(net, bits)}"
  fingerprint = settings.fingerprint(claim)
  data = task.build(config, net)
  log = Log(path / "metrics.jsonl")
  lab = Lab(config, net, data, path, fingerprint, log, Stopwatch())
  trainer = lab.trainer(
    "fine_tuning",
    Model(net, Fixed()),
    ("params", "ranges"),
    range_learning_rate=config.fine_tuning.range_learning_rate,
  )
  checkpoints = Checkpoints(
    path / "checkpoints" / name, f"{fingerprint}:{name}"
  )
  state = trainer.start(variables(net))
  checkpoints.save(trainer.steps, state, {"test_accuracy": 0.5})
  checkpoints.close()
  return path


def configured(run, **changes):
  config = export_config.get_config(f"from={run},point=best")
  config.update(ConfigDict(changes))
  return config


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("runs") / "export"
  export.run(configured(source), workdir)
  return workdir


def test_the_trained_network_is_found_as_it_was_left(source):
  found = trained_point.find(source, "best")
  point = trained_point.load(found, Log(source / "metrics.jsonl"))
  assert point.name == NAME and point.accuracy == 0.5
  jax.tree.map(
    np.testing.assert_array_equal, dict(point.variables), variables(point.net)
  )
  assert len(point.images) == len(point.labels) == 360


def test_an_export_leaves_files_that_agree(source, exported):
  result = json.loads((exported / "result.json").read_text())
  network = artifact.load(exported)
  assert network.width == result["requantization_bits"] == 64
  found = trained_point.find(source, NAME)
  point = trained_point.load(found, Log(source / "metrics.jsonl"))
  bits = precision.to_array(point.net, point.assignment)
  codes = faithful.trained_codes(point.net, point.variables, bits, point.images)
  ours = np.argmax(integer.integer_apply(network, codes["input"]), -1)
  same = int(np.sum(ours == np.argmax(codes["classifier"], -1)))
  assert result["same_class"]["64"] == same >= 359
  assert result["images"] == 360
  for layer in result["layers"].values():
    assert layer["proven_equal_channels"] == layer["channels"]
  report = (exported / "report.md").read_text()
  assert f"{same} of 360" in report
  sizes = result["sizes"]
  assert f"{sizes['total_bytes'] / 1000:.2f} kB" in report
  if "same_class" in result["onnx"]:
    assert (exported / "qdq.onnx").exists()
    assert result["onnx"]["same_class"] >= 358
    assert (exported / "dory/network.onnx").exists()
    assert result["dory"].startswith("written; form")


def test_a_finished_export_is_left_alone_and_belongs_to_its_run(
  source, exported
):
  before = (exported / "result.json").stat().st_mtime_ns
  export.run(configured(source), exported)
  assert (exported / "result.json").stat().st_mtime_ns == before
  with pytest.raises(settings.ConfigError, match="requantization_bits"):
    export.run(configured(source, requantization_bits=32), exported)


def test_what_cannot_be_exported_is_refused_by_name(source, tmp_path):
  for changes, message in (
    (dict(point="5/5"), "config.point is '5/5', expected 'best' or one of 4/4"),
    (dict(source=str(tmp_path)), "is no finished run"),
    (dict(requantization_bits=16), "requantization_bits is 16"),
    (dict(golden_image=-1), "golden_image is -1"),
    (dict(point="8/8"), "expected 'best' or one of"),  # no assignment stored
  ):
    workdir = tmp_path / "export"
    with pytest.raises(settings.ConfigError, match=message):
      export.run(configured(source, **changes), workdir)
    assert not workdir.exists()
  with pytest.raises(ValueError, match="'at=8': expected from="):
    export_config.get_config("at=8")
