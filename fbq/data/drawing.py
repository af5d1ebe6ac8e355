"""What makes drawn images hard to read: settings of any, and their checks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self


@dataclass(frozen=True)
class Drawing:
  """What images are drawn from; static and hashable.

  A class of them checks its fields when one is made.
  """

  @classmethod
  def from_config(cls, values: Mapping[str, Any]) -> Self:
    """The difficulty that differs from the default in the given fields.

    Raises:
      ValueError: a key is not a field, or a value is impossible.
    """
    names = [field.name for field in fields(cls)]
    unknown = sorted(set(values) - set(names))
    if unknown:
      raise ValueError(
        f"difficulty: unknown settings {unknown}, expected some of {names}"
      )
    return cls(**values)

  def _check_ranges(self, limits: Mapping[str, tuple[float, float]]) -> None:
    """Raises ValueError unless fields are (low, high) within their limits.

    Lists come out of configuration files; they become tuples, which hash.
    """
    for field, (least, most) in limits.items():
      given = getattr(self, field)
      pair = tuple(given) if isinstance(given, (list, tuple)) else (given,)
      if len(pair) != 2 or not all(map(_is_finite, pair)):
        raise ValueError(
          f"difficulty: {field} is {given!r}, expected two numbers (low, high)"
        )
      if not least <= pair[0] <= pair[1] <= most:
        raise ValueError(
          f"difficulty: {field} is {given!r}, expected "
          f"{least} <= low <= high <= {most}"
        )
      object.__setattr__(self, field, pair)

  def _check_whole(self, field: str) -> None:
    """Raises ValueError unless both ends of a range are whole numbers."""
    given = getattr(self, field)
    if not all(isinstance(end, int) for end in given):
      raise ValueError(
        f"difficulty: {field} is {given}, expected whole numbers"
      )

  def _check_grey(self, field: str) -> None:
    """Raises ValueError unless a field is a number in [0, 1]."""
    given = getattr(self, field)
    if not _is_finite(given) or not 0 <= given <= 1:
      raise ValueError(
        f"difficulty: {field} is {given!r}, expected a number in [0, 1]"
      )

  def _check_count(self, field: str) -> None:
    """Raises ValueError unless a field is a whole number from 0 to 64."""
    given = getattr(self, field)
    if not isinstance(given, int) or not 0 <= given <= 64:
      raise ValueError(
        f"difficulty: {field} is {given!r}, expected a whole number from 0 to "
        "64"
      )


def _is_finite(value) -> bool:
  return isinstance(value, (int, float)) and math.isfinite(value)
