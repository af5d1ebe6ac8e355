"""Assignments of block formats: files, arrays, refusals."""

import json

import numpy as np
import pytest
from model_cases import NET

from fbq import block_formats
from hwsim.bfp.formats import FP32, bitq_format, block_format

EIGHT = block_formats.uniform(NET, bitq_format(8, 3, 16))


def mixed():
  found = dict(EIGHT)
  found["a.weight"] = block_format(4, 8, 54, spans_kernel=False)
  found["input.out"] = FP32
  return found


def test_a_file_gives_back_what_was_stored(tmp_path):
  path = tmp_path / "formats.json"
  path.write_text(block_formats.to_json(NET, mixed()))
  assert block_formats.from_json(NET, path) == mixed()
  stored = json.loads(path.read_text())["formats"]
  assert list(stored) == list(NET.workload.sites)
  assert stored["a.weight"]["spans_kernel"] is False


def test_rows_are_bits_exponent_and_size_in_the_order_of_sites():
  rows = block_formats.to_array(NET, mixed())
  assert rows.dtype == np.int32
  by_site = dict(zip(NET.workload.sites, rows.tolist(), strict=True))
  assert by_site.pop("input.out") == [25, 8, 1]
  assert by_site.pop("a.weight") == [4, 8, 54]
  assert set(map(tuple, by_site.values())) == {(5, 3, 16)}


@pytest.mark.parametrize(
  "change, message",
  [
    ({"x.out": FP32}, r"no tensors \['x.out'\]"),
    ({"a.out": None}, r"'a.out' is None, expected a block format"),
    ({"a.out": (5, 3, 16)}, "expected a block format"),
  ],
)
def test_wrong_assignments_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    block_formats.to_array(NET, {**EIGHT, **change})


def test_a_missing_site_is_named():
  lacking = {s: f for s, f in EIGHT.items() if s != "fc.weight"}
  with pytest.raises(ValueError, match=r"\['fc.weight'\] have no format"):
    block_formats.check_formats(NET, lacking)


@pytest.mark.parametrize(
  "text",
  ["[]", "{}", '{"net": "tiny"}', '{"net": "tiny", "formats": {"a": 3}}'],
)
def test_other_files_are_refused(tmp_path, text):
  path = tmp_path / "formats.json"
  path.write_text(text)
  with pytest.raises(ValueError, match="holds no block formats"):
    block_formats.from_json(NET, path)


def test_files_of_others_are_refused(tmp_path):
  path = tmp_path / "formats.json"
  text = block_formats.to_json(NET, EIGHT)
  path.write_text(text.replace('"tiny"', '"large"'))
  with pytest.raises(ValueError, match="assignment of 'large', not of 'tiny'"):
    block_formats.from_json(NET, path)
  for wrong in ("0", "true", "5.0", '"5"', "1" + "0" * 30, "[5]", "null"):
    path.write_text(
      text.replace('"element_bits": 5', f'"element_bits": {wrong}', 1)
    )
    with pytest.raises(ValueError, match="element_bits is .*expected a whole"):
      block_formats.from_json(NET, path)
  path.write_text("{")
  with pytest.raises(ValueError, match="formats.json: no JSON"):
    block_formats.from_json(NET, path)
