"""Assignments of block formats: {site: format}, for compiled code and files.

What `fbq.precision` is for bits. Formats are those of `hwsim.bfp.formats`,
which price them; every site of a network has one, none is fixed.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fbq.nets.graph import Net
from hwsim import reading
from hwsim.bfp.formats import FP32, BlockFormat, block_format

Formats = Mapping[str, BlockFormat]


def uniform(net: Net, format_: BlockFormat) -> dict[str, BlockFormat]:
  """One format for every site."""
  return dict.fromkeys(net.workload.sites, format_)


def check_formats(
  net: Net, formats: Formats, where: str = "assignment"
) -> None:
  """Raises ValueError unless every site of `net` has a format, and no other."""
  sites = net.workload.sites
  unknown = [site for site in formats if site not in sites]
  missing = [site for site in sites if site not in formats]
  if unknown or missing:
    raise ValueError(
      f"{where}: {net.name} has no tensors {unknown[:5]}, and {missing[:5]} "
      f"have no format ({len(unknown)} and {len(missing)} in all)"
    )
  for site, format_ in formats.items():
    if not isinstance(format_, BlockFormat):
      raise ValueError(
        f"{where}: {site!r} is {format_!r}, expected a block format"
      )


def to_array(net: Net, formats: Formats) -> np.ndarray:
  """int32 [S, 3] in the order of `net.workload.sites`: X, SE, block size.

  FP32, which shares no exponent, becomes 25 bits with an exponent each, which
  hold every FP32 number. Of longer exponents 8 bits do the same.

  Raises:
    ValueError: a site has no format, or one of microscaling elements, which
      `fbq.schemes.microscaling` takes.
  """
  check_formats(net, formats)
  rows = []
  for site in net.workload.sites:
    if formats[site].element:
      raise ValueError(
        f"{net.name}: {site!r} has elements {formats[site].element}, expected "
        "block floating point"
      )
    element, exponent, size, *_ = formats[site]
    rows.append(
      (25, 8, 1) if formats[site] == FP32 else (element, min(exponent, 8), size)
    )
  return np.array(rows, np.int32)


def to_json(net: Net, formats: Formats) -> str:
  """Readable JSON of an assignment."""
  check_formats(net, formats)
  stored = {site: formats[site]._asdict() for site in net.workload.sites}
  return json.dumps({"net": net.name, "formats": stored}, indent=1) + "\n"


def from_json(net: Net, path: str | Path) -> dict[str, BlockFormat]:
  """The assignment stored in a file by `to_json`.

  Raises:
    ValueError: not such a file, or an assignment of another network.
  """
  stored = reading.json_of(path)
  try:
    name = stored["net"]
    formats = {s: block_format(**f) for s, f in stored["formats"].items()}
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f"{path} holds no block formats: {reading.shown(error, 300)}"
    ) from error
  if name != net.name:
    raise ValueError(
      f"{path} is an assignment of {reading.shown(name)}, not of {net.name!r}"
    )
  check_formats(net, formats, str(path))
  return formats
