"""Latency tables as spreadsheets, editors and scripts write them."""

import json
import time

import numpy as np
import pytest
from hwsim_networks import chain

from hwsim import latency_io, reading
from hwsim.pulp import XPULPNN_V1, latency_table
from hwsim.workload import Layer

NET = chain(
  "net",
  [
    Layer("a", "conv", 3, 6, 8, 8, 3, 3, 1, (1, 1, 1, 1)),
    Layer("pool", "avg_pool", 6, 6, 8, 8, 8, 8),
    Layer("fc", "linear", 6, 10),
  ],
)
TABLE = latency_table(NET, XPULPNN_V1)


@pytest.fixture
def text(tmp_path):
  """A table as it is saved."""
  latency_io.save(TABLE, tmp_path / "saved.csv")
  return (tmp_path / "saved.csv").read_bytes().decode()


def of_rows(text, change):
  """`text` whose lines, headers too, went through `change` as lists."""
  rows = [line.split(",") for line in text.splitlines()]
  return "\r\n".join(",".join(change(i, r)) for i, r in enumerate(rows))


SAVED_AS = {
  "as it is": lambda t: t.encode(),
  "UTF-8 with a mark": lambda t: t.encode("utf-8-sig"),
  "UTF-16": lambda t: t.encode("utf-16"),
  "UTF-16 of the other order": lambda t: b"\xfe\xff" + t.encode("utf-16-be"),
  "UTF-32": lambda t: t.encode("utf-32"),
  "lines of Unix": lambda t: t.replace("\r\n", "\n").encode(),
  "lines of old Macs": lambda t: t.replace("\r\n", "\r").encode(),
  "no last line end": lambda t: t.strip().encode(),
  "semicolons": lambda t: t.replace(",", ";").encode(),
  "tabs": lambda t: t.replace(",", "\t").encode("utf-16"),
  "a line that says semicolons": lambda t: (
    "sep=;\r\n" + t.replace(",", ";")
  ).encode(),
  "trailing commas": lambda t: t.replace("\r\n", ",,\r\n").encode(),
  "trailing semicolons": lambda t: (
    t.replace(",", ";").replace("\r\n", ";\r\n").encode()
  ),
  "empty lines": lambda t: ("\r\n" + t + ",,,,\r\n\r\n").encode(),
  "quotes": lambda t: of_rows(t, lambda i, r: [f'"{x}"' for x in r]).encode(),
  "spaces": lambda t: of_rows(t, lambda i, r: [f" {x} " for x in r]).encode(),
  "fractions of zeros": lambda t: of_rows(
    t, lambda i, r: [f"{x}.0" if x.isdigit() and len(x) > 1 else x for x in r]
  ).encode(),
  "columns in another order": lambda t: of_rows(
    t, lambda i, r: r[::-1]
  ).encode(),
}


@pytest.mark.parametrize("name", SAVED_AS)
def test_the_same_table_is_read(name, text, tmp_path):
  path = tmp_path / "board.csv"
  path.write_bytes(SAVED_AS[name](text))
  for found in (latency_io.load(path, NET), latency_io.merge(TABLE, path)):
    np.testing.assert_array_equal(found.cycles, TABLE.cycles)
    assert found.target == "xpulpnn_v1"


@pytest.mark.parametrize(
  ("cycles", "message"),
  [
    ("2.000", "thousands"),
    ("20.000", "thousands"),
    ("1.234.567", "thousands"),
    ("20'000", "thousands"),
    ("20 000", "thousands"),
    ("20\u00a0000", "thousands"),
    ('"20,000"', "thousands"),
    ('"20,0"', "whole number"),
    ("20.5", "whole number"),
    ("1e4", "whole number"),
    ("1.2E+06", "whole number"),
    ("-20", "whole number"),
    ("+20", "whole number"),
    ("0", "whole number from 1"),
    ("0.0", "whole number from 1"),
    ("true", "whole number"),
    ("nan", "whole number"),
    ("inf", "whole number"),
    ("0x20", "whole number"),
    ("2_0", "whole number"),
    ("\u0662\u0660", "whole number"),
    ("\u00b2", "whole number"),
    ("9" * 17, "whole number"),
    ("9" * 5000, "whole number"),
    ("#DIV/0!", "whole number"),
  ],
)
def test_a_number_that_is_not_one_is_refused(cycles, message, text, tmp_path):
  path = tmp_path / "board.csv"
  place = latency_io.COLUMNS.index("latency_cycles")

  def put(i, row):
    if i == 3:
      row[place] = cycles
    return row

  path.write_text(of_rows(text, put), encoding="utf-8")
  with pytest.raises(
    ValueError, match=f"board.csv, line 4: latency_cycles is .*{message}"
  ) as error:
    latency_io.load(path, NET)
  assert len(str(error.value)) < 400


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "is empty"),
    (b"\r\n\r\n", "is empty"),
    (b"\xef\xbb\xbf", "is empty"),
    (b"sep=;\r\n", "is empty"),
    (",".join(latency_io.COLUMNS).encode(), "has a header and no rows"),
    (b"PK\x03\x04" + bytes(40), "no text in utf-8, it has zero bytes"),
    (b"\xff\xfe\x00", "no text in utf-16"),
    ("a,caf\u00e9\n1,2\n".encode("latin-1"), "no text in utf-8.*UTF-8"),
    (b"name,cycles\na,3\n", "unknown columns .*semicolons"),
    (b"op,op\nconv,conv\n", "column 'op' stands twice"),
    (b"op\nconv,7\n", "line 2: 2 cells for 1 columns"),
    (b"op,,target\nconv,7,mine\n", "line 2: 3 cells for 2 columns"),
    (b"op\nconv\n", "line 2: no value for .*latency_cycles"),
    (b"op\n" + b"x" * 200_000 + b"\n", "line 2: no table: field larger"),
  ],
)
def test_what_is_no_table_is_refused(content, message, tmp_path):
  path = tmp_path / "board.csv"
  path.write_bytes(content)
  with pytest.raises(ValueError, match=f"board.csv.*{message}") as error:
    latency_io.load(path, NET)
  assert len(str(error.value)) < 1200


def rows_of(tmp_path):
  latency_io.save(TABLE, tmp_path / "saved.json")
  return json.loads((tmp_path / "saved.json").read_text())


@pytest.mark.parametrize("value", [7, 7.0, "7", "7.0", 2**53])
def test_json_has_more_ways_to_write_a_number(value, tmp_path):
  rows = rows_of(tmp_path)
  rows[0]["latency_cycles"] = value
  path = tmp_path / "board.json"
  path.write_text(json.dumps(rows), encoding="utf-8-sig")
  assert latency_io.load(path, NET).cycles[0, 0, 0, 0] == int(float(value))


@pytest.mark.parametrize(
  ("name", "value"),
  [
    *(
      ("latency_cycles", value)
      for value in (
        *(0, True, False, [7], {"a": 7}, 7.5, -7, 1e300, 2**53 + 1, 10**400),
        *("2.000", "", None, "7 cycles"),
      )
    ),
    ("op", ["conv"]),
    ("op", 3),
    ("target", {}),
    ("target", "x" * 10_000),
    ("provenance", False),
    ("in_bits", True),
    ("in_bits", 3),
    ("weight_bits", ["-"]),
    ("in_channels", True),
    ("stride", 0),
    ("more", 1),
  ],
)
def test_types_of_json_that_are_no_such_value(name, value, tmp_path):
  rows = rows_of(tmp_path)
  rows[0][name] = value
  path = tmp_path / "board.json"
  path.write_text(json.dumps(rows))
  with pytest.raises(
    ValueError, match=f"board.json, line 2: .*{name}"
  ) as error:
    latency_io.load(path, NET)
  assert len(str(error.value)) < 900


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("[]", "expected a list of rows, one or more"),
    ('{"op": "conv"}', "expected a list of rows"),
    ("null", "expected a list of rows"),
    ('[{"op": "conv", "op": "add"}]', "the key 'op' stands twice"),
    ("[NaN]", "NaN is no number of JSON"),
    ("[" * 100_000, "no JSON: .*recursion"),
    ("[" + "9" * 5000 + "]", "no JSON"),
    ("[{]", "no JSON"),
  ],
)
def test_what_is_no_json_table_is_refused(content, message, tmp_path):
  path = tmp_path / "board.json"
  path.write_text(content)
  start = time.perf_counter()
  with pytest.raises(ValueError, match=f"board.json.*{message}"):
    latency_io.load(path, NET)
  assert time.perf_counter() - start < 2


def test_files_that_cannot_be_read_are_named(tmp_path):
  with pytest.raises(ValueError, match="none.csv cannot be read: .*No such"):
    latency_io.load(tmp_path / "none.csv", NET)
  (tmp_path / "folder.csv").mkdir()
  with pytest.raises(ValueError, match="folder.csv cannot be read: .*director"):
    latency_io.load(tmp_path / "folder.csv", NET)
  with pytest.raises(ValueError, match="cannot be read: .*null"):
    latency_io.load("a\0.csv", NET)


def test_a_home_directory_is_a_place_of_tables(text, tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  latency_io.save(TABLE, "~/board.csv")
  assert (tmp_path / "board.csv").read_bytes().decode() == text
  found = latency_io.load("~/board.csv", NET)
  np.testing.assert_array_equal(found.cycles, TABLE.cycles)


def test_the_home_of_nobody_is_no_traceback():
  with pytest.raises(ValueError, match="~nobody-of-this-name/board.csv cannot"):
    latency_io.load("~nobody-of-this-name/board.csv", NET)


def test_what_a_message_shows_is_short():
  assert reading.shown("a") == "'a'"
  assert len(reading.shown("a" * 10**6)) < 70
