"""Assignments: the precision of every tensor of a network.

An assignment is a plain mapping {site: bits}, complete for a network, the one
form that fine-tuning, `hwsim` and deployment take and that is stored as JSON.
"""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fbq.nets.graph import Net
from hwsim import reading
from hwsim.latency_table import PULP_LADDER, Ladder
from hwsim.workload import Workload

BITS = (2, 4, 8)  # of PULP clusters, and of what chooses by gates
_LONGEST = 100  # letters of a name that is compared with others

Precision = Mapping[str, int]


def uniform(net: Net, bits: int) -> dict[str, int]:
  """`bits` at every free site, the given precision at the fixed ones."""
  return {site: net.fixed_bits.get(site, bits) for site in net.workload.sites}


def check_assignment(
  net: Net,
  precision: Precision,
  where: str = "assignment",
  ladder: Ladder = PULP_LADDER,
) -> None:
  """Raises ValueError if `precision` is not a legal assignment of `net`.

  Args:
    net: the network.
    precision: bits of every site.
    where: what the message names first.
    ladder: precisions of the hardware.
  """
  sites = net.workload.sites
  for site, bits in precision.items():
    if site not in sites:
      raise ValueError(
        f"{where}: {net.name} has no tensor {reading.shown(site)}"
        f"{_did_you_mean(site, sites)}"
      )
    fixed = net.fixed_bits.get(site)
    if fixed is not None and bits != fixed:
      raise ValueError(
        f"{where}: {site!r} is {reading.shown(bits)} bits, but {net.name} "
        f"fixes it at {fixed}"
      )
    rungs = ladder.of(site)
    if not isinstance(bits, (int, np.integer)) or bits not in rungs:
      raise ValueError(
        f"{where}: {site!r} is {reading.shown(bits)} bits, expected one of "
        f"{rungs}"
      )
  missing = [site for site in sites if site not in precision]
  if missing:
    raise ValueError(
      f"{where}: no precision for {missing[:5]} of {net.name} "
      f"({len(missing)} missing)"
    )


def apply_rules(
  net: Net,
  precision: Precision,
  rules: Sequence[tuple[str, int]],
  ladder: Ladder = PULP_LADDER,
) -> dict[str, int]:
  """`precision` with the sites of `ruled` set as the rules say."""
  return {**precision, **ruled(net, rules, ladder)}


def ruled(
  net: Net, rules: Sequence[tuple[str, int]], ladder: Ladder = PULP_LADDER
) -> dict[str, int]:
  """{site: bits} of the free sites that rules match.

  Args:
    net: the network.
    rules: (regular expression, bits) pairs; an expression must match a whole
      site name, and later rules win.
    ladder: precisions of the hardware.

  Raises:
    ValueError: impossible bits, or a rule that matches no free site.
  """
  result: dict[str, int] = {}
  for pattern, bits in rules:
    matches = matching(net.workload, pattern)
    rungs = set.intersection(*(set(ladder.of(site)) for site in matches))
    if not isinstance(bits, (int, np.integer)) or bits not in rungs:
      raise ValueError(
        f"rule {pattern!r}: {bits!r} bits, expected one of "
        f"{tuple(sorted(rungs))}"
      )
    result.update(dict.fromkeys(matches, int(bits)))
  return result


def matching(workload: Workload, pattern: str) -> list[str]:
  """The free sites whose whole name a regular expression matches.

  Raises:
    ValueError: no regular expression, or one that matches no free site.
  """
  free = workload.free_sites
  try:
    matches = [site for site in free if re.fullmatch(pattern, site)]
  except re.error as error:
    raise ValueError(
      f"rule {pattern!r} is no regular expression: {error}"
    ) from error
  if not matches:
    raise ValueError(
      f"rule {pattern!r} matches no tensor of {workload.name} whose precision "
      f"is free{_did_you_mean(pattern, free)}"
    )
  return matches


def to_array(
  net: Net, precision: Precision, ladder: Ladder = PULP_LADDER
) -> np.ndarray:
  """int32 [S] in the order of `net.workload.sites`, for compiled code."""
  check_assignment(net, precision, ladder=ladder)
  return np.array([precision[s] for s in net.workload.sites], np.int32)


def to_json(
  net: Net, precision: Precision, ladder: Ladder = PULP_LADDER
) -> str:
  """Readable JSON of an assignment."""
  check_assignment(net, precision, ladder=ladder)
  ordered = {site: int(precision[site]) for site in net.workload.sites}
  return json.dumps({"net": net.name, "bits": ordered}, indent=1) + "\n"


def from_json(
  net: Net, path: str | Path, ladder: Ladder = PULP_LADDER
) -> dict[str, int]:
  """The assignment stored in a file by `to_json`.

  Raises:
    ValueError: not such a file, or an assignment of another network.
  """
  stored = reading.json_of(path)
  is_stored = isinstance(stored, dict) and stored.keys() == {"net", "bits"}
  if not is_stored or not isinstance(stored["bits"], dict):
    raise ValueError(
      f"{path} holds no assignment: {reading.shown(stored)}, expected "
      '{"net": name, "bits": {site: bits}}'
    )
  name, precision = stored["net"], stored["bits"]
  if name != net.name:
    raise ValueError(
      f"{path} is an assignment of {reading.shown(name)}, not of {net.name!r}"
    )
  check_assignment(net, precision, str(path), ladder)
  return precision


def _did_you_mean(name: str, known: Sequence[str]) -> str:
  close = difflib.get_close_matches(name[:_LONGEST], known, 3)
  if close:
    return f"; did you mean {' or '.join(map(repr, close))}?"
  return f"; it has {', '.join(known[:6])}, ... ({len(known)} in all)"
