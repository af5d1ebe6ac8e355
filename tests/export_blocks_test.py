"""The export of block formats, of a run that was not trained but looks so."""

import csv
import json

import bitq_cases
import numpy as np
import pytest

from configs import export as export_config
from fbq.config import ConfigError
from fbq.deploy import block_artifact
from fbq.lab import block_point, experiment, finished
from fbq.train.log import Log
from tests.configs import tiny_bitq


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """Workdir of a finished BitQ run."""
  path = tmp_path_factory.mktemp("runs") / "source"
  bitq_cases.untrained(path, tiny_bitq.get_config())
  return path


def configured(run, point="best"):
  return export_config.get_config(f"from={run},point={point}")


def test_an_export_leaves_the_network_that_was_trained(source, tmp_path):
  run = finished.read(source, Log(source / "metrics.jsonl"))
  point = block_point.load(run, run.results.deployable("best"))
  workdir = tmp_path / "export"
  assert experiment.run(configured(source), workdir) == ""
  network = block_artifact.load(workdir)
  trained = block_artifact.logits(
    point.net, point.scheme, point.variables, point.data, point.images
  )
  ours = np.asarray(network.logits(point.images))
  np.testing.assert_array_equal(ours, trained)
  assert len(np.unique(ours, axis=0)) > 1
  accuracy = np.mean(ours.argmax(-1) == np.asarray(point.labels))
  result = json.loads((workdir / "result.json").read_text())
  assert result["accuracy"] == pytest.approx(accuracy)
  assert result["reported_accuracy"] == point.accuracy
  assert result["sizes"] == block_artifact.sizes(network)

  # The page, and again from the record
  path = workdir / "report.html"
  report = path.read_text()
  assert f"All {ours.size:,} logits of 360 test images" in report
  assert f"{result['sizes']['total_bytes'] / 1000:.2f} kB" in report
  path.unlink()
  kind, results, about = experiment.load(workdir)
  kind.write(results, about, workdir)
  assert path.read_text() == report
  with (workdir / "results.csv").open() as file:
    rows = {row["tensor"]: row for row in csv.DictReader(file)}
  assert rows["stem.weight"]["element_bits"] == "6"
  assert rows["classifier"]["element_bits"] == ""  # in float32

  before = (workdir / "result.json").stat().st_mtime_ns
  assert experiment.run(configured(source), workdir) == ""  # left alone
  assert (workdir / "result.json").stat().st_mtime_ns == before
  with pytest.raises(ConfigError, match="point"):
    experiment.run(configured(source, "Short"), workdir)


def test_what_does_not_hold_is_told_and_not_left(source, tmp_path, monkeypatch):
  def damaged(network, directory):
    del directory
    raise ValueError("weights are odd")

  monkeypatch.setattr(block_artifact, "save", damaged)
  failure = experiment.run(configured(source), tmp_path)
  assert failure.endswith("block network: weights are odd")
  result = json.loads((tmp_path / "result.json").read_text())
  assert result["failed"] == {"block network": "weights are odd"}
  assert result["sizes"] == {} and not (tmp_path / "network.json").exists()
  assert "could not be written" in (tmp_path / "report.html").read_text()


def test_what_cannot_be_exported_is_refused_by_name(source, tmp_path):
  for point in ("5 bits", "MSFP-12"):  # unknown, published
    with pytest.raises(ConfigError, match="expected 'best', a word or one of"):
      experiment.run(configured(source, point), tmp_path / "export")
  assert not (tmp_path / "export").exists()
