"""Where activations lie in one block of memory: offsets that waste nothing.

Tensors that are alive at once must not overlap. The block need not be larger
than the most bytes that are alive at once, unless tensors would have to move in
between; a search over the ends of gaps finds such offsets if there are any.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Arena(NamedTuple):
  """A block of memory and the tensors in it.

  Attributes:
    bytes: size of the block.
    offsets: first byte of each tensor, by its key.
  """

  bytes: int
  offsets: Mapping[int, int]


def plan(sizes: Mapping[int, int], alive: Sequence[Sequence[int]]) -> Arena:
  """The smallest block that is found, with the offsets of all tensors.

  Args:
    sizes: bytes of each tensor, by its key.
    alive: keys of the tensors that are alive at each step, in their order.
  """
  peak = max(sum(sizes[key] for key in keys) for keys in alive)
  size = peak
  while (offsets := _place(sizes, alive, size)) is None:
    size += -(-peak // 64)  # no offsets without holes: a little more
  return Arena(size, offsets)


def _place(sizes, alive, size) -> dict[int, int] | None:
  """Offsets within `size` bytes, or None: depth first, one step after another.

  What is left to do depends on where living tensors lie, so a state that failed
  once is not tried again.
  """
  failed = set()

  def extend(step, placed):
    if step == len(alive):
      return placed
    living = {key: placed[key] for key in alive[step] if key in placed}
    new = [key for key in alive[step] if key not in placed]
    state = (step, tuple(sorted(living.items())))
    if state in failed:
      return None
    for found in _choices(sizes, living, new, size):
      if (done := extend(step + 1, placed | found)) is not None:
        return done
    failed.add(state)
    return None

  return extend(0, {})


def _choices(sizes, living, new, size):
  """Yields {key: offset} of all new tensors, at the ends of gaps."""
  if not new:
    yield {}
    return
  key, *rest = new
  taken = sorted((at, at + sizes[other]) for other, at in living.items())
  starts = [0, *(end for _, end in taken)]
  ends = [*(start for start, _ in taken), size]
  for start, end in zip(starts, ends, strict=True):
    if end - start < sizes[key]:
      continue
    for offset in sorted({start, end - sizes[key]}):
      for others in _choices(sizes, living | {key: offset}, rest, size):
        yield {key: offset} | others
