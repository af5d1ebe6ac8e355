"""Files of people's tools, as text: spreadsheets, editors, scripts.

A byte order mark and UTF-16, semicolons or tabs in place of commas, trailing
commas, empty lines and either kind of line end are read as they are meant. What
could mean two things is refused, as is a key that stands twice.
"""

import codecs
import csv
import io
import json
import os
import pathlib
import re
from collections.abc import Collection
from typing import Any

# The longer ones first: UTF-32's mark begins with UTF-16's.
_MARKS = (
  (codecs.BOM_UTF32_LE, "utf-32"),
  (codecs.BOM_UTF32_BE, "utf-32"),
  (codecs.BOM_UTF8, "utf-8-sig"),
  (codecs.BOM_UTF16_LE, "utf-16"),
  (codecs.BOM_UTF16_BE, "utf-16"),
)
_SEPARATORS = ",;\t"
_LARGEST = 2**53  # sums of a thousand of them fit in 64 bits


def user_path(path: str | os.PathLike) -> pathlib.Path:
  """The path that a user wrote; `~` is the home directory."""
  return pathlib.Path(os.path.expanduser(path))


def text_of(path: str | os.PathLike) -> str:
  """The text of a file: UTF-8, or what its byte order mark says.

  Raises:
    ValueError: it cannot be read, or is no text.
  """
  path = user_path(path)
  try:
    content = path.read_bytes()
  except (OSError, ValueError) as error:
    raise ValueError(f"{path} cannot be read: {error}") from error
  found = (name for mark, name in _MARKS if content.startswith(mark))
  encoding = next(found, "utf-8")
  try:
    text = content.decode(encoding)
  except ValueError as error:
    raise ValueError(
      f"{path} is no text in {encoding}: {error}; save it with the encoding "
      "UTF-8"
    ) from error
  if "\0" in text:
    raise ValueError(
      f"{path} is no text in {encoding}, it has zero bytes: save it with the "
      "encoding UTF-8"
    )
  return text


def json_of(path: str | os.PathLike) -> Any:
  """What a JSON file holds.

  Raises:
    ValueError: no JSON, a key that stands twice, or numbers that JSON has not.
  """
  text = text_of(path)
  try:
    return json.loads(
      text, object_pairs_hook=_single_keys, parse_constant=_no_constant
    )
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{path}: no JSON: {error}") from error


def csv_of(
  path: str | os.PathLike, columns: Collection[str]
) -> list[tuple[int, dict[str, str]]]:
  """(line, {column: text}) of every row of a table with a header.

  Args:
    path: a table separated by commas, semicolons or tabs.
    columns: names that the header may have.

  Raises:
    ValueError: no table, or a row that does not fit its header.
  """
  lines = list(io.StringIO(text_of(path), newline=""))
  filled = (i for i, line in enumerate(lines) if line.strip(",; \t\r\n"))
  first = next(filled, None)
  if first is None:
    raise ValueError(f"{path} is empty, expected a header and rows")

  # A spreadsheet may say on a line of its own how it separates.
  separator = None
  if said := re.fullmatch(r'"?sep=([,;\t])"?[,;\t]*\s*', lines[first]):
    separator, first = said[1], first + 1
  if separator is None and first < len(lines):
    separator = max(_SEPARATORS, key=lines[first].count)

  reader = csv.reader(lines[first:], delimiter=separator or ",")
  try:
    rows = [
      (first + reader.line_num, [cell.strip() for cell in row])
      for row in reader
      if any(cell.strip() for cell in row)
    ]
  except csv.Error as error:
    where = first + reader.line_num
    raise ValueError(f"{path}, line {where}: no table: {error}") from error
  if not rows:
    raise ValueError(f"{path} is empty, expected a header and rows")
  (_, header), *rows = rows
  _check_header(path, header, columns)
  if not rows:
    raise ValueError(f"{path} has a header and no rows")
  return [(line, _cells(path, line, header, row)) for line, row in rows]


def shown(value: Any, most: int = 60) -> str:
  """A value as a message can show it: one line of about `most` letters."""
  text = repr(value)
  return text if len(text) <= most else f"{text[:most]} ..."


def whole(value: Any, least: int = 0) -> int:
  """The whole number that a cell of a table or a JSON value is.

  Args:
    value: text, or what JSON has.
    least: smallest number that it may be.

  Raises:
    ValueError: anything else, or what could be two numbers.
  """
  expected = f"expected a whole number from {least} to 2^53"
  said = shown(value)
  grouped = r"[0-9]{1,3}([.,'\s][0-9]{3})+"
  if isinstance(value, str) and re.fullmatch(grouped, value):
    raise ValueError(
      f"{said}, in which a separator of thousands looks like one of decimals, "
      f"{expected}: write it in digits alone"
    )
  number = None
  if isinstance(value, str) and re.fullmatch(r"[0-9]{1,16}(\.0+)?", value):
    number = int(value.partition(".")[0])
  elif isinstance(value, float) and value.is_integer():
    number = int(value)
  elif isinstance(value, int) and not isinstance(value, bool):
    number = value
  if number is None or not least <= number <= _LARGEST:
    raise ValueError(f"{said}, {expected}")
  return number


def _single_keys(pairs):
  found = dict(pairs)
  if len(found) < len(pairs):
    keys = [key for key, _ in pairs]
    twice = next(key for key in keys if keys.count(key) > 1)
    raise ValueError(f"the key {shown(twice)} stands twice")
  return found


def _no_constant(text):
  raise ValueError(f"{text} is no number of JSON")


def _check_header(path, header, columns):
  names = [name for name in header if name]
  if unknown := [name for name in names if name not in columns]:
    raise ValueError(
      f"{path}: unknown columns {shown(unknown)}, expected "
      f"{', '.join(columns)}, separated by commas, semicolons or tabs"
    )
  if twice := [name for name in names if names.count(name) > 1]:
    raise ValueError(f"{path}: the column {twice[0]!r} stands twice")


def _cells(path, line, header, row):
  """{column: text} of a row; cells beyond the header must be empty."""
  beyond = row[len(header) :]
  beyond += [x for name, x in zip(header, row, strict=False) if not name]
  if any(beyond):
    raise ValueError(
      f"{path}, line {line}: {len(row)} cells for {sum(map(bool, header))} "
      "columns; is there a separator inside of a number?"
    )
  return {name: cell for name, cell in zip(header, row, strict=False) if name}
