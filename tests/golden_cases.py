"""The authors' recorded numbers by case, and what equal to them means."""

import pathlib

import numpy as np

GOLDEN = pathlib.Path(__file__).parent / "golden"
QUANTLIB = np.load(GOLDEN / "quantlib_golden.npz")
BAYESIAN = np.load(GOLDEN / "bayesian_bits_golden.npz")


def case(archive, name):
  start = f"{name}/"
  return {
    key[len(start) :]: archive[key]
    for key in archive.files
    if key.startswith(start)
  }


def names(archive, *starts):
  found = {key.split("/")[0] for key in archive.files}
  return sorted(name for name in found if name.startswith(starts))


def close(actual, expected, rtol=1e-5):
  """Relative to the largest magnitude: gradients are sums of many terms."""
  expected = np.asarray(expected)
  np.testing.assert_allclose(
    actual, expected, rtol=rtol, atol=rtol * max(np.abs(expected).max(), 1e-6)
  )
