"""The export of a BitQ run that was not trained but looks so."""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import export as export_config
from fbq import block_formats
from fbq.deploy import block_artifact
from fbq.experiments import (
  bfp_baselines,
  bitq_settings,
  block_point,
  export,
  settings,
)
from fbq.experiments.bitq_training import digest
from fbq.experiments.stages import Lab, activations
from fbq.model import Model
from fbq.train.checkpoints import Checkpoints
from fbq.train.log import Log, Stopwatch
from hwsim.bfp.formats import bitq_format
from tests.configs import tiny_bitq

NAME = "Short a"


def random_variables(net, seed):
  """Not negative, so that variances are none either."""
  random = np.random.default_rng(seed)
  x = np.zeros((1, *net.input_shape), np.float32)
  shapes = jax.eval_shape(lambda: Model(net).init(jax.random.key(0), x, False))
  return jax.tree.map(lambda a: random.random(a.shape, np.float32), shapes)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """A workdir with what an export reads of a finished run."""
  path = tmp_path_factory.mktemp("runs") / "source"
  (path / "precision").mkdir(parents=True)
  claim = json.loads(json.dumps(tiny_bitq.get_config().to_dict()))
  config = ConfigDict(claim)
  checked = bitq_settings.check(config)
  net, log = checked.net, Log(path / "metrics.jsonl")
  formats = block_formats.uniform(net, bitq_format(8, 4, 8))
  formats["stem.weight"] = bitq_format(8, 2, 1)
  candidate = bfp_baselines.of_formats(net, NAME, "BitQ", 8, formats)
  (path / "config.json").write_text(json.dumps(claim))
  text = block_formats.to_json(net, formats)
  (path / "precision/Short-a.json").write_text(text)
  outcomes = dict.fromkeys([NAME, "Long a", "MSFP-12"], {})
  recommended = {"Short": NAME, "Long": "Long a"}
  results = {"recommended": recommended, "outcomes": outcomes}
  (path / "result.json").write_text(json.dumps(results))
  mark = settings.fingerprint(claim)
  lab = Lab(config, net, checked.task, path, mark, log, Stopwatch())
  qat = lab.trainer("qat", Model(net), ("params",))
  for seed, (name, trainer) in enumerate(
    {"float": lab.float_trainer, f"qat-grid-{digest(candidate)}": qat}.items()
  ):
    checkpoints = Checkpoints(path / "checkpoints" / name, f"{mark}:{name}")
    state = trainer.start(random_variables(net, seed))
    checkpoints.save(trainer.steps, state, {"test": 0.5})
    checkpoints.close()
  return path


def configured(run, point="best"):
  return export_config.get_config(f"from={run},point={point}")


@pytest.fixture(scope="module")
def point(source):
  found = block_point.find(source, "best")
  return block_point.load(found, Log(source / "metrics.jsonl"))


def test_the_trained_network_is_found_as_it_was_left(point):
  net = point.net
  assert point.name == NAME and point.accuracy == 0.5
  same = np.testing.assert_array_equal
  jax.tree.map(same, dict(point.variables), random_variables(net, 1))
  assert point.scheme == bfp_baselines.schemes((1, 8))["grid"]
  sites = net.workload.sites
  rows = np.tile([4, 4, 8], (len(sites), 1))
  rows[sites.index("stem.weight")] = 6, 2, 1
  same(point.data.formats, rows)
  assert len(point.images) == len(point.labels) == 360


def test_tops_are_those_of_the_float_network(source, point):
  """On the run's calibration images: the third of its keys."""
  config = tiny_bitq.get_config()
  checked = bitq_settings.check(config)
  log = Log(source / "metrics.jsonl")
  lab = Lab(config, *checked[:2], source, "", log, Stopwatch())
  key = jax.random.split(jax.random.key(config.seed), 5)[2]
  images, _ = lab.calibration_set(key)
  tensors = activations(point.net, random_variables(point.net, 0), images)
  tensors["input.out"] = np.asarray(images)
  for site, top in zip(
    point.net.workload.sites, np.asarray(point.data.tops), strict=True
  ):
    if site in tensors:
      x = tensors[site]
      x = np.abs(x) if point.net.is_signed[site] else np.maximum(x, 0)
      assert top == np.frexp(x.max())[1] - 1
  assert len(np.unique(point.data.tops)) > 2


def test_an_export_leaves_the_network_that_was_trained(source, point, tmp_path):
  workdir = tmp_path / "export"
  export.run(configured(source), workdir)
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
  assert result["sizes"] == block_artifact.sizes(network)
  report = (workdir / "report.md").read_text()
  assert f"All {ours.size} logits of 360 test images" in report
  assert f"{result['sizes']['total_bytes'] / 1000:.2f} kB" in report
  before = (workdir / "result.json").stat().st_mtime_ns
  export.run(configured(source), workdir)  # finished: left alone
  assert (workdir / "result.json").stat().st_mtime_ns == before
  with pytest.raises(settings.ConfigError, match="point"):
    export.run(configured(source, NAME), workdir)


def test_what_cannot_be_exported_is_refused_by_name(source, tmp_path):
  for point in ("5 bits", "MSFP-12", "Long"):  # unknown, published, no file
    with pytest.raises(
      settings.ConfigError, match="expected 'best', a word or one of Long a, S"
    ):
      export.run(configured(source, point), tmp_path / "export")
  assert not (tmp_path / "export").exists()
