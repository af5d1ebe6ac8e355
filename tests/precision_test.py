"""Assignments: what is legal, rules, storage, and what is refused."""

import json

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from fbq import nets, precision

NET = nets.resnet8(width=0.25, resolution=8)
MOBILE = nets.mobilenet_v1(width=1 / 32, resolution=8)


def assignments(net):
  free = net.workload.free_sites
  return st.tuples(*[st.sampled_from(precision.BITS) for _ in free]).map(
    lambda bits: dict(net.fixed_bits) | dict(zip(free, bits, strict=True))
  )


def test_uniform_keeps_what_is_fixed():
  found = precision.uniform(NET, 2)
  precision.check_assignment(NET, found)
  assert set(found) == set(NET.workload.sites)
  for site, bits in found.items():
    assert bits == NET.fixed_bits.get(site, 2)
  assert list(found.values()).count(2) == len(NET.workload.free_sites)


def test_array_is_in_the_order_of_the_workload():
  given = precision.uniform(NET, 2) | {"classifier.weight": 4}
  array = precision.to_array(NET, dict(reversed(given.items())))
  assert array.dtype == np.int32
  assert array.tolist() == [given[s] for s in NET.workload.sites]


@hypothesis.given(given=assignments(NET))
@hypothesis.settings(max_examples=30, deadline=None)
def test_file_holds_the_assignment(tmp_path_factory, given):
  path = tmp_path_factory.mktemp("precision") / "x.json"
  path.write_text(precision.to_json(NET, given))
  found = precision.from_json(NET, path)
  assert found == given
  assert list(found) == list(NET.workload.sites)


def test_file_takes_numpy_integers():
  given = {s: np.int64(b) for s, b in precision.uniform(NET, 4).items()}
  stored = json.loads(precision.to_json(NET, given))
  assert stored == {"net": NET.name, "bits": precision.uniform(NET, 4)}


# ---- rules -------------------------------------------------------------------


def test_rules_set_what_they_match_and_later_ones_win():
  start = precision.uniform(MOBILE, 8)
  rules = [(r"(dw|pw)\d+\.weight", 4), (r"dw1\.weight", 2)]
  found = precision.apply_rules(MOBILE, start, rules)
  changed = {site: bits for site, bits in found.items() if bits != 8}
  expected = {f"{op}{i}.weight": 4 for op in ("dw", "pw") for i in range(1, 14)}
  assert changed == expected | {"dw1.weight": 2}
  assert start == precision.uniform(MOBILE, 8)  # not changed in place
  precision.check_assignment(MOBILE, found)


def test_rules_match_whole_names_and_leave_fixed_sites():
  start = precision.uniform(MOBILE, 8)
  found = precision.apply_rules(MOBILE, start, [(r"dw1\.out", 2), (".*out", 4)])
  assert found["dw1.out"] == 4 and found["input.out"] == 8
  with pytest.raises(ValueError, match="rule 'dw1' matches no tensor"):
    precision.apply_rules(MOBILE, start, [("dw1", 2)])


@hypothesis.given(
  given=assignments(MOBILE),
  rules=st.lists(
    st.tuples(
      st.sampled_from([".*", r"dw\d+\..*", r".*\.weight", r"pw1\.out"]),
      st.sampled_from(precision.BITS),
    ),
    max_size=3,
  ),
)
@hypothesis.settings(max_examples=30, deadline=None)
def test_rules_keep_assignments_legal_and_are_idempotent(given, rules):
  once = precision.apply_rules(MOBILE, given, rules)
  precision.check_assignment(MOBILE, once)
  assert precision.apply_rules(MOBILE, once, rules) == once


@pytest.mark.parametrize(
  "rule, message",
  [
    ((".*", 3), r"rule '\.\*': 3 bits, expected one of \(2, 4, 8\)"),
    (("(", 4), r"rule '\(' is no regular expression: "),
    ((r"input\.out", 4), r"matches no tensor of mobilenet_v1-0.03125-8 whose"),
    (("conv1.wieght", 4), r"did you mean 'conv1\.weight'"),
    (("zzz", 4), r"it has conv1\.weight, .*\.\.\. \(55 in all\)"),
  ],
)
def test_rules_that_are_refused(rule, message):
  with pytest.raises(ValueError, match=message):
    precision.apply_rules(MOBILE, precision.uniform(MOBILE, 8), [rule])


# ---- what is refused ---------------------------------------------------------


@pytest.mark.parametrize(
  "change, message",
  [
    ({"conv9.weight": 4}, r"has no tensor 'conv9\.weight'; did you mean"),
    ({"zzz": 4}, r"has no tensor 'zzz'; it has input\.out, conv1\.weight, "),
    ({"input.out": 4}, r"'input\.out' is 4 bits, but resnet8.* fixes it at 8"),
    ({"conv1.weight": 3}, r"'conv1\.weight' is 3 bits, expected one of"),
    ({"conv1.weight": None}, r"'conv1\.weight' is None bits, expected one"),
    ({"conv1.weight": 4.0}, r"'conv1\.weight' is 4\.0 bits, expected one"),
    ({"conv1.weight": [4]}, r"'conv1\.weight' is \[4\] bits, expected one"),
  ],
)
def test_illegal_assignments_are_refused(change, message):
  given = precision.uniform(NET, 8) | change
  with pytest.raises(ValueError, match="^assignment: .*" + message):
    precision.check_assignment(NET, given)
  with pytest.raises(ValueError, match=message):
    precision.to_array(NET, given)
  with pytest.raises(ValueError, match=message):
    precision.to_json(NET, given)


def test_missing_sites_are_named_and_counted():
  given = precision.uniform(NET, 8)
  with pytest.raises(ValueError, match=r"no precision for \['conv1.weight'\]"):
    precision.check_assignment(
      NET, {s: given[s] for s in given if s != "conv1.weight"}
    )
  count = len(NET.workload.sites)
  with pytest.raises(ValueError, match=rf"\({count} missing\)"):
    precision.check_assignment(NET, {})


@pytest.mark.parametrize(
  "text, message",
  [
    ("{", "x.json: no JSON"),
    ("[1, 2]", r"x.json holds no assignment: \[1, 2\], expec"),
    ('{"net": "resnet8-0.25-8"}', "x.json holds no assignment: {'net': 'res"),
    ('{"net": "resnet8-0.25-8", "bits": [8]}', "x.json holds no assignment"),
    ('{"net": "resnet8-0.25-8", "bits": "8"}', "x.json holds no assignm"),
    ('{"net": "vgg", "bits": {}}', "is an assignment of 'vgg', not of 'resn"),
    ('{"net": "resnet8-0.25-8", "bits": {}}', r"x.json: no precision for \["),
    (
      '{"net": "resnet8-0.25-8", "bits": {"conv1.weight": "4"}}',
      r"x.json: 'conv1\.weight' is '4' bits, expected",
    ),
    ('{"net": "resnet8-0.25-8", "bits": [["conv1.weight", 4]]}', "holds no as"),
    (
      '{"net": "resnet8-0.25-8", "bits": {"a": 4, "a": 8}}',
      "x.json: no JSON: the key 'a' stands twice",
    ),
    ('{"net": "vgg", "bits": {}, "more": 1}', "x.json holds no assignment"),
    (
      '{"net": "resnet8-0.25-8", "bits": {"' + "x" * 10**6 + '": 4}}',
      "has no tensor 'x+ [.]{3}; it has input.out",
    ),
  ],
)
def test_files_that_are_refused(tmp_path, text, message):
  path = tmp_path / "x.json"
  path.write_text(text)
  with pytest.raises(ValueError, match=message):
    precision.from_json(NET, path)
