"""The export of block formats, of a run that was not trained but looks so."""

import csv
import json

import jax
import numpy as np
import own_points
import pytest

from configs import export as export_config
from fbq import block_formats
from fbq.config import ConfigError
from fbq.deploy import block_artifact
from fbq.lab import block_point, experiment, finished
from fbq.model import Model
from fbq.schemes.block_float import BlockFloat
from fbq.train.log import Log
from hwsim.bfp.formats import bitq_format
from tests.configs import tiny_bitq

NET = tiny_bitq.residual()
SCHEME = BlockFloat((1, 8))
TOPS = tuple(
  0 if site.endswith(".weight") else i % 3
  for i, site in enumerate(NET.workload.sites)
)


def random_variables(net):
  """Not negative, so that variances are none either."""
  random = np.random.default_rng(1)
  x = np.zeros((1, *net.input_shape), np.float32)
  shapes = jax.eval_shape(lambda: Model(net).init(jax.random.key(0), x, False))
  return jax.tree.map(lambda a: random.random(a.shape, np.float32), shapes)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """A finished run of an experiment that fbq does not know."""
  path = tmp_path_factory.mktemp("runs") / "source"
  formats = block_formats.uniform(NET, bitq_format(8, 4, 8))
  formats["stem.weight"] = bitq_format(8, 2, 1)
  found = own_points.OneNetwork(formats, TOPS, SCHEME)
  own_points.run_of_formats(path, found, random_variables(NET))
  return path


def configured(run, point="best"):
  return export_config.get_config(f"from={run},point={point}")


@pytest.fixture(scope="module")
def point(source):
  run = finished.read(source, Log(source / "metrics.jsonl"))
  return block_point.load(run, run.results.deployable("best"))


def test_the_trained_network_is_found_as_it_was_left(point):
  assert point.name == "Short" and point.accuracy == own_points.ACCURACY
  same = np.testing.assert_array_equal
  jax.tree.map(same, dict(point.variables), random_variables(point.net))
  assert point.scheme == SCHEME
  rows = np.tile([4, 4, 8], (len(TOPS), 1))
  rows[NET.workload.sites.index("stem.weight")] = 6, 2, 1
  same(point.data.formats, rows)
  same(point.data.tops, TOPS)
  assert len(point.images) == len(point.labels) == 360


def test_an_export_leaves_the_network_that_was_trained(source, point, tmp_path):
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
  assert result["reported_accuracy"] == own_points.ACCURACY
  assert result["sizes"] == block_artifact.sizes(network)

  # The page, and again from the record
  path = workdir / "report.html"
  report = path.read_text()
  assert f"All {ours.size:,} logits of 360 test images" in report
  assert f"{result['sizes']['total_bytes'] / 1000:.2f} kB" in report
  path.unlink()
  kind, results, run = experiment.load(workdir)
  kind.write(results, run, workdir)
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
  with pytest.raises(ConfigError, match="expected 'best' or 'Short'"):
    experiment.run(configured(source, "5 bits"), tmp_path / "export")
  assert not (tmp_path / "export").exists()
