"""What every record of a target must keep: numbers in range, memory left."""

import dataclasses
import numbers
from typing import Any, NoReturn

_MOST = 1e12  # so that cycles of a layer fit 64 bits
_MAY_BE_NOTHING = ("_cycles", "reserved_bytes")


def check_numbers(target: Any) -> None:
  """Raises ValueError unless the numbers of a frozen record are in range.

  Those of cycles and of reserved bytes may be 0. Bools are no numbers.

  Args:
    target: dataclass with a name, whose other numbers are annotated as `int`,
      which must be whole, or as `float`.
  """
  for field in dataclasses.fields(target):
    if field.type not in (int, float):
      continue
    value: Any = getattr(target, field.name)
    kind = numbers.Integral if field.type is int else numbers.Real
    least = 1 if field.type is int else 1e-9
    if field.name.endswith(_MAY_BE_NOTHING):
      least = 0
    is_number = issubclass(type(value), kind) and type(value) is not bool
    if not (is_number and least <= value <= _MOST):
      whole = "whole " if field.type is int else ""
      expected = f"a {whole}number from {least} to {_MOST:.0e}"
      refuse(target, field.name, value, expected)


def check_budgets(target: Any) -> None:
  """Raises ValueError if stacks or code leave no byte of L1 or L2."""
  for budget in ("l1_budget_bytes", "l2_budget_bytes"):
    if getattr(target, budget) < 1:
      raise ValueError(
        f"target {target.name!r}: {budget} is {getattr(target, budget)}; "
        "stacks or code fill it (sizes are in bytes: 64 kB is 64000)"
      )


def refuse(target: Any, field: str, value: object, expected: str) -> NoReturn:
  """Raises ValueError that names a field of a target."""
  raise ValueError(
    f"target {target.name!r}: {field} is {value!r}, expected {expected}"
  )
