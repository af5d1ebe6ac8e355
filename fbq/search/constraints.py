"""What users demand of precisions: bounds, ties and memory, as plain data."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from fbq.precision import matching
from hwsim.latency_table import PULP_LADDER, Ladder
from hwsim.proxies import live_tensors
from hwsim.workload import Workload

_LOGIT_BITS = 32


def tie(
  workload: Workload, ties: Sequence[str | Sequence[str]]
) -> tuple[tuple[str, ...], ...]:
  """Groups of sites that share one precision; every site is in one.

  Ties that overlap join into one group. Groups are in the order of their first
  sites.

  Args:
    workload: workload whose sites are tied.
    ties: a regular expression ties the free sites whose whole names it matches,
      separately for each text that its (groups) have; a list ties its sites.

  Raises:
    ValueError: an expression ties no two sites, or a list names unknown ones.
  """
  # A forest over sites: ties that overlap join into one group. Roots are the
  # first sites in the order of the network, so that the result does not depend
  # on the order of the ties.
  leader = {site: site for site in workload.sites}

  def find(site):
    while leader[site] != site:
      site = leader[site]
    return site

  order = {site: i for i, site in enumerate(workload.sites)}
  for rule in ties:
    for group in _tied(workload, rule):
      roots = sorted({find(site) for site in group}, key=order.__getitem__)
      leader.update(dict.fromkeys(roots, roots[0]))
  groups: dict[str, list[str]] = {}
  for site in workload.sites:
    groups.setdefault(find(site), []).append(site)
  return tuple(map(tuple, groups.values()))


def _tied(workload, rule):
  if not isinstance(rule, str):
    unknown = [site for site in rule if site not in workload.sites]
    if unknown or len(rule) < 2:
      raise ValueError(
        f"tie {list(rule)}: expected two or more sites of {workload.name}"
        + (f", which has no {unknown}" if unknown else "")
      )
    return [list(rule)]
  by_text: dict[tuple[str | None, ...], list[str]] = {}
  for site in matching(workload, rule):
    found = re.fullmatch(rule, site)
    by_text.setdefault(found.groups() if found else (), []).append(site)
  if all(len(group) < 2 for group in by_text.values()):
    raise ValueError(
      f"tie {rule!r} ties nothing: it matches {sorted(by_text.values())[:5]}, "
      "expected two or more sites with the same text in its (groups)"
    )
  return list(by_text.values())


def allowed_bits(
  workload: Workload,
  groups: Sequence[Sequence[str]],
  bounds: Sequence[tuple[str, int, int]],
  ladder: Ladder = PULP_LADDER,
) -> tuple[tuple[int, ...], ...]:
  """Per group the bits all its sites may have, the most first.

  Args:
    workload: workload whose fixed sites have their one precision.
    groups: groups of sites that share a precision.
    bounds: (regular expression, least bits, most bits); later ones win.
    ladder: precisions of the hardware.

  Raises:
    ValueError: impossible bounds, an expression that matches no free site, or
      sites tied together that have no precision in common.
  """
  allowed = {site: ladder.of(site) for site in workload.sites}
  allowed |= {site: (bits,) for site, bits in workload.fixed_bits}

  # Later bounds win, so that a general one can be followed by exceptions.
  for pattern, least, most in bounds:
    for site in matching(workload, pattern):
      rungs = ladder.of(site)
      if least not in rungs or most not in rungs or least > most:
        raise ValueError(
          f"bounds {pattern!r}: {least} to {most} bits, expected two of "
          f"{rungs}, the smaller one first"
        )
      allowed[site] = tuple(b for b in rungs if least <= b <= most)

  # A group may have what all of its sites may. The most bits come first, as
  # searches take the first of equals.
  result = []
  for group in groups:
    common = set.intersection(*(set(allowed[site]) for site in group))
    if not common:
      raise ValueError(
        "no precision is allowed for all of these, which are tied together: "
        + ", ".join(f"{site} {list(allowed[site])}" for site in group)
      )
    result.append(tuple(sorted(common, reverse=True)))
  return tuple(result)


def live_bytes(
  workload: Workload, ladder: Ladder = PULP_LADDER
) -> tuple[Mapping[str, np.ndarray], ...]:
  """Per layer the bytes of the activations alive while it runs.

  {site: int64 [A] by the bits of the ladder}; under "" what does not depend on
  bits. `hwsim.proxies.peak_activation_bytes` takes the maximum of their sums.
  """
  result = []
  for alive in live_tensors(workload):
    total: dict[str, np.ndarray] = {}
    for elements, site in alive:
      rungs = ladder.activations
      bits = rungs if site else (_LOGIT_BITS,) * len(rungs)
      total[site or ""] = total.get(site or "", 0) + _bytes(elements, bits)
    if "" in total:
      total[""] = total[""][0]
    result.append(total)
  return tuple(result)


def _bytes(count, bits):
  return np.array([-(-count * b // 8) for b in bits], np.int64)
