"""What is assumed of hardware, within which range, and by whom.

An assumption is written for one draw, so that it may be mapped; which there are
is said by the doubt.py of a family of targets.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Assumption(NamedTuple):
  """One thing that is assumed, or several that go together.

  Attributes:
    name: name of a field of `Target`, or of what is assumed.
    center: value of the target itself, within the range.
    low, high: ends of the range, in which every value is as likely.
    source: where the range comes from.
    apply: (constants, value) -> constants with that value; a value is a number,
      or an array [9] where every pair of input and weight bits has its own.
    step: what drawn values are a multiple of; 0 for none.
    size: how many values are drawn, independently.
  """

  name: str
  center: float
  low: float
  high: float
  source: str
  apply: Callable[[Any, Any], Any]
  step: float = 0.0
  size: int = 1

  @property
  def end(self) -> str:
    """The end of the range that the target stands at: "low", "high" or ""."""
    if self.center == self.low:
      return "low"
    return "high" if self.center == self.high else ""

  @property
  def has_slope(self) -> bool:
    """Whether cycles have a derivative: memories only decide how to cut."""
    return not self.name.endswith("_bytes")


def drawn(
  found: Sequence[Assumption], count: int, seed: int
) -> dict[str, np.ndarray]:
  """{name: `count` values [count] or [count, size] within its range}."""
  random = np.random.default_rng(seed)
  values = {}
  for each in found:
    shape = (count,) if each.size == 1 else (count, each.size)
    own = random.uniform(each.low, each.high, shape)
    values[each.name] = (
      np.round(own / each.step) * each.step if each.step else own
    )
  return values


def ends_of(found: Sequence[Assumption]) -> dict[str, np.ndarray]:
  """{name: [2] or [2, size], the low and the high end of its range}."""
  pairs = [(each, np.array([each.low, each.high])) for each in found]
  return {
    each.name: pair if each.size == 1 else np.tile(pair[:, None], each.size)
    for each, pair in pairs
  }
