"""Spreads of channels made by hand."""

import numpy as np
import pytest

from fbq.nets import Net, Node
from fbq.ptq import spread

NET = Net(
  "two",
  (4, 4, 1),
  (
    Node("a", "conv", ("input",), 5, (3, 3), norm=True, activation="relu"),
    Node("pool", "avg_pool", ("a",), kernel=None),
    Node("fc", "linear", ("pool",), 3, bias=True, is_output=True),
  ),
)


def variables():
  """Channels of range 2, times 0.001, 1, 1, 2 and 400, over the root of 2."""
  kernel = np.zeros((3, 3, 1, 5), np.float32)
  kernel[0, 0], kernel[1, 2] = -0.5, 1.5
  factors = np.float32([1e-3, 1, 1, 2, 100 * 2**0.5])
  return {
    "params": {
      "a_kernel": kernel,
      "a_norm": {"scale": factors, "bias": np.zeros(5, np.float32)},
      "fc_kernel": np.ones((5, 3), np.float32),
      "fc_bias": np.zeros(3, np.float32),
    },
    "batch_stats": {
      "a_norm": {
        "mean": np.zeros(5, np.float32),
        "var": np.float32([2, 2, 2, 2, 0.25]) - np.float32(1e-5),
      }
    },
  }


def test_ranges_before_and_after_folding():
  (row,) = spread.spreads(NET, variables())
  assert (row.layer, row.op) == ("a", "conv")
  assert row.before == pytest.approx(1.0)
  assert row.after == pytest.approx(400.0, rel=1e-4)
  # The layer's range is 800 in 255 steps of 3.137, but for the root of 2: the
  # other channels have 0.002, 2, 2 and 4, of which the last is above one step.
  assert row.lost == pytest.approx(3 / 5)
  assert row.codes == pytest.approx(2 / (800 / 255) + 1, rel=1e-4)
  assert row.variance == pytest.approx(1 / 8, rel=1e-4)


def test_equal_channels_have_all_codes():
  given = variables()
  given["params"]["a_norm"]["scale"] = np.full(5, -3.0, np.float32)
  given["batch_stats"]["a_norm"]["var"] = np.ones(5, np.float32)
  (row,) = spread.spreads(NET, given)
  assert row.after == pytest.approx(1.0)
  assert row.codes == pytest.approx(256) and row.lost == 0.0
