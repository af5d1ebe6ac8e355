"""Ratios by hand, and the orders that the whitepaper's appendix shows."""

import itertools
import math

import numpy as np
import pytest

from fbq.nets import Net, Node
from fbq.ptq import sqnr
from fbq.quantizers import range_rules

NET = Net(
  "two",
  (4, 4, 3),
  (
    Node("a", "conv", ("input",), 6, (3, 3), activation="relu"),
    Node("pool", "avg_pool", ("a",), kernel=None),
    Node("fc", "linear", ("pool",), 5, is_output=True),
  ),
)
RANDOM = np.random.default_rng(0)
PARAMS = {
  # Channels of ranges from 0.02 to 8, one of them all positive.
  "a_kernel": RANDOM.normal(size=(3, 3, 3, 6))
  * np.float32([0.02, 0.1, 0.5, 1, 2, 8])
  + np.float32([0, 0, 2, 0, 0, 0]),
  "fc_kernel": RANDOM.normal(size=(6, 5)),
}


def test_decibels_by_hand():
  assert sqnr.decibels([3.0, 4.0], [3.0, 4.5]) == pytest.approx(20.0)
  assert sqnr.decibels([1.0, 2.0], [0.0, 0.0]) == pytest.approx(0.0)
  assert sqnr.decibels([1.0, 0.0], [1.0, 0.0]) == math.inf
  assert sqnr.decibels([0.0], [0.0]) == math.inf


def test_report_has_every_scheme_of_every_layer():
  rows = sqnr.report(NET, PARAMS)
  found = [row[:4] for row in rows]
  assert len(found) == len(set(found)) == 2 * 2 * 3 * 2
  ratio = {row[:4]: row.decibels for row in rows}
  for bits, form in itertools.product((4, 8), ("affine", "symmetric")):
    layer, channel = (ratio["a", bits, form, per] for per in (False, True))
    # The largest channel dominates the sum of a layer's power.
    assert channel > layer
  for form, per in itertools.product(("affine", "restricted"), (False, True)):
    # 6.02 dB a bit.
    gain = ratio["fc", 8, form, per] - ratio["fc", 4, form, per]
    assert gain == pytest.approx(4 * 6.02, abs=4)
  # A channel of one sign has half of its symmetric codes for nothing.
  one = {"a_kernel": np.abs(PARAMS["a_kernel"]), "fc_kernel": np.ones((6, 5))}
  ratio = {row[:4]: row.decibels for row in sqnr.report(NET, one)}
  gain = ratio["a", 8, "affine", True] - ratio["a", 8, "restricted", True]
  assert gain == pytest.approx(6.02, abs=1)


def test_ratio_of_a_layer_in_numpy():
  kernel = np.float32(PARAMS["a_kernel"])
  step = np.abs(kernel).max((0, 1, 2)) / np.float32(7)
  y = np.clip(np.rint(kernel / step), -7, 7) * step
  expected = 10 * np.log10((kernel**2).sum() / ((kernel - y) ** 2).sum())
  (found,) = (
    row.decibels
    for row in sqnr.report(NET, PARAMS, (4,), ("restricted",))
    if row.layer == "a" and row.per_channel
  )
  assert found == pytest.approx(expected, rel=1e-4)


def test_the_rule_of_ranges_is_the_callers():
  rule = lambda x: range_rules.least_squares(x, 3, "symmetric")
  args = NET, PARAMS, (3,), ("symmetric",)
  chosen, plain = sqnr.report(*args, rule), sqnr.report(*args)
  for a, b in zip(chosen, plain, strict=True):
    assert a.decibels >= b.decibels
  assert chosen != plain
