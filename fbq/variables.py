"""Whether the numbers of a network can be those of a network."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

KINDS = ("params", "batch_stats")


def check_numbers(variables: Mapping[str, Any]) -> None:
  """Raises ValueError unless every number is finite and no variance negative.

  Args:
    variables: variables of a model; those of `KINDS` are looked at, as ranges
      have to be positive too, which is for those who read them to check.
  """
  for path, leaf in _leaves({k: variables.get(k, {}) for k in KINDS}):
    values = np.asarray(leaf)
    name = path[0] + "".join(f"[{part!r}]" for part in path[1:])
    bad, what = ~np.isfinite(values), "finite numbers"
    if not bad.any() and path[0] == "batch_stats" and path[-1] == "var":
      bad, what = values < 0, "variances of 0 or more"
    if bad.any():
      raise ValueError(
        f"{name} has {values[bad].flat[0]} in {np.sum(bad):,} of "
        f"{values.size:,} places, expected {what}: train or load the network "
        "again"
      )


def _leaves(tree, path=()) -> Iterator[tuple[tuple[str, ...], Any]]:
  for key, value in tree.items():
    if isinstance(value, Mapping):
      yield from _leaves(value, (*path, key))
    else:
      yield (*path, key), value
