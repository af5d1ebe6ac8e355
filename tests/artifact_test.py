"""Files of an integer network: the same integers back, or a refusal."""

import json

import numpy as np
import pytest
from deploy_cases import MIX, ZOO, assignments, images, integers, variables

from fbq import precision
from fbq.deploy import artifact, integer, lowering, packing
from fbq.deploy.files import ArtifactError


def lowered(net=MIX, width=32, seed=0):
  (bits,) = assignments(net, 1, seed)
  return lowering.lower(net, variables(net), bits, width)


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize(
  "net", [MIX, ZOO["mobilenet_v2"]], ids=lambda n: n.name
)
def test_what_is_loaded_is_what_was_saved(net, width, tmp_path):
  network = lowered(net, width)
  artifact.save(network, tmp_path)
  found = artifact.load(tmp_path)
  assert found.net == network.net and found.width == width
  assert found.bits == network.bits
  for kind in ("layers", "steps", "affine", "reach", "codes"):
    ours, theirs = getattr(found, kind), getattr(network, kind)
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
      pairs = [(value, ours[name])]
      if kind == "layers":
        assert set(value) == set(ours[name])
        pairs = [(value[key], ours[name][key]) for key in value]
      for expected, array in pairs:
        np.testing.assert_array_equal(array, expected)
        assert np.asarray(array).dtype == np.asarray(expected).dtype
  codes = integer.quantize_images(images(net))
  ours, theirs = integers(found, codes)[0], integers(network, codes)[0]
  for name, value in theirs.items():
    np.testing.assert_array_equal(ours[name], value)
  # Saving what was loaded gives the same files.
  again = tmp_path / "again"
  artifact.save(found, again)
  for name in ("network.json", "weights.npz"):
    assert (again / name).read_bytes() == (tmp_path / name).read_bytes()


def test_a_loaded_network_runs_in_the_program_of_the_saved_one(tmp_path):
  network = lowered()
  artifact.save(network, tmp_path)
  codes = integer.quantize_images(images(MIX))
  expected = integer.integer_tensors(network, codes)
  compiled = integer._tensors._cache_size()
  found = integer.integer_tensors(artifact.load(tmp_path), codes)
  assert integer._tensors._cache_size() == compiled
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value)


def test_files_that_were_altered_or_cut_short_are_refused(tmp_path):
  artifact.save(lowered(), tmp_path)
  path = tmp_path / "weights.npz"
  whole = path.read_bytes()
  for damaged in (
    whole[:-10],
    whole[:200],
    b"",
    whole[:100] + b"x" + whole[101:],
  ):
    path.write_bytes(damaged)
    with pytest.raises(ArtifactError, match="weights.npz is not the"):
      artifact.load(tmp_path)
  path.unlink()
  with pytest.raises(ArtifactError, match="weights.npz cannot be read"):
    artifact.load(tmp_path)
  path.write_bytes(whole)
  manifest = tmp_path / "network.json"
  text = manifest.read_text()
  changed = json.loads(text)
  changed["layers"][0]["constants"]["shift"] -= 1
  for damaged, message in (
    (json.dumps(changed), "was altered"),
    (text[:300], "holds no network"),
    ("{}", "holds no network"),
    (text.replace('"version": 3', '"version": 1'), "of version 1, expected"),
  ):
    manifest.write_text(damaged)
    with pytest.raises(ArtifactError, match=message):
      artifact.load(tmp_path)
  manifest.write_text(text)
  artifact.load(tmp_path)


def test_sizes_are_those_of_the_arrays(tmp_path):
  network = lowering.lower(
    MIX, variables(MIX), precision.uniform(MIX, 8) | {"a.weight": 4}
  )
  sizes = artifact.save(network, tmp_path)["sizes"]
  with np.load(tmp_path / "weights.npz") as arrays:
    weights = [x for name, x in arrays.items() if name.endswith(".weight")]
    assert sizes["weight_bytes"] == sum(x.nbytes for x in weights)
    codes = packing.unpack(arrays["a.weight"], 4, 8 * 3 * 2 * 2, True)
    np.testing.assert_array_equal(
      codes.reshape(8, 3, 2, 2)[5], network.layers["a"]["weight"][..., 5]
    )
    constants = sum(
      x.nbytes for name, x in arrays.items() if name.endswith((".mul", ".add"))
    )
  assert sizes["constant_bytes"] == constants
  assert sizes["bias_bytes"] == 3 * 4
  total = sum(
    sizes[key] for key in sizes if key[:4] in ("weig", "cons", "bias")
  )
  assert sizes["total_bytes"] == total
  assert sizes["peak_activation_bytes"] == (9 * 8 + 5 * 4) * 8
