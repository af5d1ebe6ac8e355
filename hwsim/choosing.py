"""A target by its name or one's own, with some fields replaced."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any


def chosen(
  which: Any, targets: Sequence[Any], overrides: Mapping[str, Any] | None
) -> Any:
  """The target of that name, or the one given, with some fields replaced.

  Args:
    which: name of one of `targets`, or another record of their kinds.
    targets: frozen records with a name.
    overrides: field -> value; None leaves the field. What is replaced stands
      in the name of the result.

  Raises:
    ValueError: no target of that name, no such field, or a value that the
      record refuses; the message has the choices.
  """
  by_name = {target.name: target for target in targets}
  target = by_name.get(which) if isinstance(which, str) else which
  if not isinstance(target, tuple({type(target) for target in targets})):
    raise ValueError(
      f"unknown target {which!r}; expected one of {list(by_name)}, or your own "
      "Target"
    )

  # A wrong field is told with the nearest that there is
  given = {k: v for k, v in (overrides or {}).items() if v is not None}
  fields = [f.name for f in dataclasses.fields(target) if f.name != "name"]
  for name in given:
    if name not in fields:
      close = difflib.get_close_matches(name, fields, 1)
      hint = f"; did you mean {close[0]!r}?" if close else "."
      raise ValueError(
        f"target {target.name!r} has no field {name!r}{hint} It has "
        f"{', '.join(fields)}."
      )
  if not given:
    return target
  said = ", ".join(f"{name}={value}" for name, value in given.items())
  return dataclasses.replace(target, name=f"{target.name} ({said})", **given)
