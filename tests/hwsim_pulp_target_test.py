"""Targets: by name, one's own, and with fields replaced."""

import dataclasses
import math

import pytest

from hwsim import targets
from hwsim.pulp import ISS_TARGETS, TARGETS, XPULPNN_V1, get_target


@pytest.mark.parametrize("target", TARGETS)
def test_targets_by_name(target):
  assert get_target(target.name) is target
  assert get_target(target) is target
  assert get_target(target, dict(l1_bytes=None, cores=None)) is target


@pytest.mark.parametrize(
  "which", ["xpulpnn_v1", dataclasses.replace(XPULPNN_V1, name="mine")]
)
def test_fields_are_replaced_and_named(which):
  overrides = dict(l1_bytes=128_000, frequency_hz=2e8, l2_bytes=None)
  found = get_target(which, overrides)
  name = getattr(which, "name", which)
  assert found.name == f"{name} (l1_bytes=128000, frequency_hz=200000000.0)"
  assert found.l1_budget_bytes == 128_000 - 3_800 - 7 * 3_600
  same = dict(name="xpulpnn_v1", l1_bytes=64_000, frequency_hz=100e6)
  assert dataclasses.replace(found, **same) == XPULPNN_V1


@pytest.mark.parametrize(
  "overrides, message",
  [
    (dict(cores=4), "cores is 4, expected 8: the work split"),
    (dict(l1_byte=1), "no field 'l1_byte'; did you mean 'l1_bytes'. It has"),
    (dict(name="x"), "has no field 'name'"),
    (dict(l1_bytes="big"), "l1_bytes is 'big', expected a whole number from 1"),
    (dict(l1_bytes=-1), "l1_bytes is -1, expected a whole number from 1 to"),
    (dict(l1_bytes=10**30), "l1_bytes is 10*, expected .* to 1e.12"),
    (dict(l1_bytes=64e3), "l1_bytes is 64000.0, expected a whole number"),
    (dict(barrier_cycles=True), "barrier_cycles is True"),
    (dict(frequency_hz=math.nan), "frequency_hz is nan, expected a number"),
    (dict(double_buffering=3), "double_buffering is 3, expected 1 or 2"),
    (dict(conv_library="XpulpV3"), "conv_library is 'XpulpV3', expected one"),
    (dict(l1_bytes=64), "sizes are in bytes: 64 kB is 64000"),
    (dict(l1_bytes=20_000), "l1_budget_bytes is .*; stacks or code fill it"),
  ],
)
def test_wrong_overrides_are_refused_in_one_line(overrides, message):
  with pytest.raises(ValueError, match=message) as error:
    get_target("xpulpnn_v1", overrides)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("which", ["gap9", "", None, 3])
def test_what_is_no_target_is_refused(which):
  with pytest.raises(ValueError, match="unknown target .*xpulpnn_v1.*own"):
    get_target(which)


def test_every_target_is_found_by_its_name_whatever_its_family():
  for target in (*TARGETS, *ISS_TARGETS):
    assert get_target(target.name) is target
    assert targets.get_target(target.name) is target
  for target in targets.TARGETS:
    assert targets.get_target(target.name) is target
