"""How every point of a sweep stands, from its files alone."""

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

from launch.claims import Attempt, Claims
from launch.manifest import Point, read, text
from launch.workdir import Sweep

STATES = ("done", "running", "failed", "stopped", "missing", "removed")


class State(NamedTuple):
  """How one point stands.

  Attributes:
    state: one of STATES. 'stopped': it was begun and nobody runs it; 'missing':
      it was never begun; 'removed': the sweep file no longer gives it.
    detail: the last error line, or who runs it.
    attempts: times that it was begun.
  """

  point: Point
  state: str
  detail: str
  attempts: int


def states(sweep: Sweep, points: Sequence[Point], claims: Claims):
  """The `State` of every point."""
  return [_state(sweep, point, claims) for point in points]


def table(sweep: Sweep, claims: Claims, every: bool = False) -> str:
  """What `sweep status` prints.

  Args:
    every: a line for every point; otherwise for those that run, failed or were
      stopped.
  """
  points, problems = read(sweep.manifest)
  found = states(sweep, points, claims)
  counts = {name: 0 for name in STATES}
  for state in found:
    counts[state.state] += 1
  if problems:
    counts["damaged lines"] = len(problems)
  lines = [
    f"{sweep.workdir}: {len(points)} points: "
    + ", ".join(f"{n} {name}" for name, n in counts.items() if n)
  ]
  told = STATES if every else ("running", "failed", "stopped")
  for name in told:
    for point, state, detail, attempts in found:
      if state == name:
        chosen = " ".join(f"{k}={text(v)}" for k, v in point.overrides.items())
        begun = f" (begun {attempts} times)" if attempts > 1 else ""
        detail = f": {detail}" if detail else ""
        lines.append(f"  {state:8}{point.id}  {chosen}{begun}{detail}")
  return "\n".join(lines + problems)


def _state(sweep, point, claims):
  last = claims.last(point.id)
  attempts = last.number if last else 0
  if sweep.is_done(point):
    state, detail = "done", ""
  elif last is None:
    state, detail = "missing", ""
  elif last.outcome is None and not claims.is_free(last):
    state, detail = "running", _holder(last, claims)
  elif last.outcome is not None and last.outcome.get("outcome") == "failed":
    state, detail = "failed", last.outcome.get("error", "")
  else:
    state = "stopped"
    detail = (last.outcome or {}).get("error", "its worker was killed")
  if not point.in_sweep and state != "running":
    state = "removed"
  return State(point, state, detail, attempts)


def _holder(attempt: Attempt, claims: Claims) -> str:
  owner = attempt.owner
  told = f"{owner.get('host', '?')}, process {owner.get('pid', '?')}"
  with contextlib.suppress(OSError):  # a directory that can only be read
    age_s = claims.age_s(attempt)
    told += f", since {owner.get('started', '?')}, heard {age_s:.0f} s ago"
    if age_s >= owner.get("stale_s", claims.stale_s):
      told += ": stale, the next launch may take it over"
  return told
