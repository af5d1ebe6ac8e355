"""Networks with numbers that cannot be are refused wherever they are read."""

import copy

import jax.numpy as jnp
import numpy as np
import pytest
from deploy_cases import MIX, variables

from fbq import block_formats, norms, precision
from fbq.deploy import block_artifact, lowering, trained
from fbq.deploy.files import ArtifactError, Kind, read, write
from fbq.ptq import equalization, folding
from fbq.schemes.block_float import BlockFloat, Data
from fbq.schemes.fixed import Fixed
from fbq.variables import check_numbers
from hwsim.bfp.formats import FP32

PLACES = {
  "weight": ("params", "a_kernel"),
  "bias": ("params", "fc_bias"),
  "gamma": ("params", "b_norm", "scale"),
  "beta": ("params", "c_norm", "bias"),
  "mean": ("batch_stats", "e_norm", "mean"),
  "variance": ("batch_stats", "a_norm", "var"),
}
BITS = precision.uniform(MIX, 8)


def spoilt(place, value):
  found = copy.deepcopy(variables(MIX))
  tree = found
  for part in PLACES[place]:
    tree = tree[part]
  tree.reshape(-1)[-1] = value
  return found


def encode(found):
  rows = block_formats.to_array(MIX, block_formats.uniform(MIX, FP32))
  data = Data(jnp.asarray(rows), jnp.zeros(len(rows), jnp.int32))
  return block_artifact.encode(MIX, found, data, BlockFloat((1,)))


def deploy(found):
  return trained.deployable(MIX, Fixed(), norms.ABSORB, found)


READERS = {
  "lower": lambda found: lowering.lower(MIX, found, BITS, 64),
  "deployable": deploy,
  "fold": lambda found: folding.fold(MIX, found),
  "encode": encode,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
  ("place", "value"),
  [
    *((place, np.nan) for place in PLACES),
    ("weight", np.inf),
    ("beta", -np.inf),
    ("variance", -1.0),
    ("variance", -1e-6),
  ],
)
def test_bad_numbers_are_refused_by_name(reader, place, value):
  name = PLACES[place][0] + "".join(rf"\['{p}'\]" for p in PLACES[place][1:])
  expected = "variances" if np.isfinite(value) else "finite"
  with pytest.raises(ValueError, match=f"{name} has .*{expected}"):
    READERS[reader](spoilt(place, value))


@pytest.mark.parametrize("reader", READERS)
def test_good_numbers_are_read(reader):
  """A negative mean, and a variance of 0, are good."""
  READERS[reader](spoilt("mean", -3.0))
  READERS[reader](spoilt("variance", 0.0))


def test_equalization_does_not_turn_in_circles_over_nan():
  net, folded = folding.fold(MIX, variables(MIX))
  params = dict(folded["params"], a_kernel=np.full((3, 2, 2, 8), np.nan))
  with pytest.raises(ValueError, match=r"params\['a_kernel'\] has nan in 96"):
    equalization.equalize(net, params)


def test_a_tree_without_statistics_is_checked():
  check_numbers({"params": {"a": np.zeros(2)}, "ranges": {"a": np.nan}})
  with pytest.raises(ValueError, match=r"params\['a'\]"):
    check_numbers({"params": {"a": jnp.float32([0, jnp.nan])}})


def test_files_with_bad_numbers_are_refused(tmp_path):
  kind = Kind("test", 1)
  write(tmp_path, kind, {}, {"a.slope": np.array([1.0, np.nan])})
  with pytest.raises(
    ArtifactError, match="a.slope has values that are not fin"
  ):
    read(tmp_path, kind, lambda manifest, arrays: arrays)
