"""A network of block formats of a run that was not trained but looks so."""

import bitq_cases
import jax
import numpy as np
import pytest

from fbq.config import ConfigError
from fbq.lab import block_point, finished
from fbq.train.log import Log
from tests.configs import tiny_bitq


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """(finished run, variables of its only network)."""
  path = tmp_path_factory.mktemp("runs") / "source"
  variables = bitq_cases.untrained(path, tiny_bitq.get_config())
  return finished.read(path, Log(path / "metrics.jsonl")), variables


def test_a_network_is_found_as_it_was_left(source):
  run, variables = source
  point = block_point.load(run, run.results.deployable("best"))
  assert isinstance(run.results, block_point.BlockResults)
  assert point.name == "Short a" and point.accuracy == 0.5
  same = np.testing.assert_array_equal
  jax.tree.map(same, dict(point.variables), variables)
  assert point.scheme == run.results.grid
  sites = point.net.workload.sites
  rows = np.tile([4, 4, 8], (len(sites), 1))
  rows[sites.index("stem.weight")] = 6, 2, 1
  same(point.data.formats, rows)
  same(point.data.tops, np.arange(len(sites)))
  assert len(point.images) == len(point.labels) == 360


def test_a_word_stands_for_what_is_recommended_for_it(source):
  run, _ = source
  assert run.results.deployable("Short") == run.results.deployable("Short a")
  assert run.results.deployable("Long").name == "Long a"


@pytest.mark.parametrize("point", ["5 bits", "MSFP-12"])  # unknown, published
def test_what_cannot_be_deployed_is_refused_by_name(source, point):
  with pytest.raises(
    ConfigError, match="expected 'best', a word or one of FP32, Long a, Short a"
  ):
    source[0].results.deployable(point)


def test_what_is_missing_is_named(source, tmp_path):
  run, _ = source
  with pytest.raises(ConfigError, match="qat-grid-b is missing"):
    block_point.load(run, run.results.deployable("Long"))
  with pytest.raises(ConfigError, match="config.source.*(results|config).json"):
    finished.read(tmp_path, Log(tmp_path / "metrics.jsonl"))
