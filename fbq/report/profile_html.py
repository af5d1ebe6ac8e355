"""The page of a latency profile: one self-contained file."""

import os
from collections.abc import Mapping

from fbq.report import page, profile_text, tables
from fbq.report.profile import PARTS, UNIFORM, Profile
from fbq.report.profile_effects import bits


def write(
  path: str | os.PathLike,
  profile: Profile,
  pictures: Mapping[str, bytes],
  seconds: Mapping[str, float],
) -> None:
  """Writes the page to `path`, whole or not at all.

  Args:
    pictures: PNGs by name, of `profile_plots.pictures`.
    seconds: wall time of each stage.
  """
  text = render(profile, pictures, seconds)
  tables.write_atomically(path, text.encode())


def render(
  profile: Profile,
  pictures: Mapping[str, bytes],
  seconds: Mapping[str, float],
) -> str:
  """The page as HTML; every text that comes from a record is escaped."""
  rows = zip(
    *(profile.uniform[profile.target, name] for name in UNIFORM), strict=True
  )
  return page.render(
    "profile.html",
    report=profile,
    answer=profile_text.answer(profile),
    statements=profile_text.statements(profile),
    short=profile_text.short,
    pictures=pictures,
    seconds=seconds,
    uniform=UNIFORM,
    layers=list(rows),
    best=_best(profile),
    parts=PARTS,
    bits=bits,
    gains=_together(profile.gains),
  )


def _together(gains):
  """(names of layers, gain) with the layers that have equal ones in one."""
  names: dict[object, list[str]] = {}
  first = {}
  for gain in gains:
    both = (cost._replace(layer="") for cost in (gain.before, gain.after))
    key = gain.start, *both, gain.why
    names.setdefault(key, []).append(gain.before.layer)
    first.setdefault(key, gain)
  return [(", ".join(names[key]), gain) for key, gain in first.items()]


def _best(profile):
  """Layer -> its fastest cost on the profile's target; ties to more bits.

  Of precisions that the input of the layer can have: a layer that reads a
  tensor of fixed bits keeps them.
  """
  fixed = {}
  for name in UNIFORM:
    for cost in profile.uniform[profile.target, name]:
      fixed.setdefault(cost.layer, set()).add(cost.in_bits)
  best = {}
  for cost in profile.costs:
    if cost.target != profile.target or cost.in_bits not in fixed[cost.layer]:
      continue
    if cost.layer not in best or cost.cycles <= best[cost.layer].cycles:
      best[cost.layer] = cost
  return best
