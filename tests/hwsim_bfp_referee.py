"""A loop nest walked tile by tile, with sets of elements: slow and literal."""

import itertools

from hwsim.bfp.movement import LOOPS


def walk(nest, tile, order):
  """Elements of input, weights and output fetched: (int, int, int).

  One tile of each tensor is resident; only elements that the last tile of the
  tensor did not hold are fetched.
  """
  size = dict(zip(LOOPS, nest.sizes, strict=True))
  step = dict(zip(LOOPS, tile, strict=True))
  held = [set(), set(), set()]
  fetched = [0, 0, 0]
  starts = [range(0, size[d], step[d]) for d in reversed(order)]
  for start in itertools.product(*starts):
    place = dict(zip(reversed(order), start, strict=True))
    span = {d: range(place[d], min(place[d] + step[d], size[d])) for d in LOOPS}
    rows = {nest.stride * y + i for y in span["h"] for i in span["r"]}
    columns = {nest.stride * x + i for x in span["w"] for i in span["s"]}
    needed = (
      (span["g"], span["n"], span["c"], rows, columns),
      (span["g"], span["k"], span["c"], span["r"], span["s"]),
      (span["g"], span["n"], span["k"], span["h"], span["w"]),
    )
    for t, axes in enumerate(needed):
      now = set(itertools.product(*axes))
      fetched[t] += len(now - held[t])
      held[t] = now
  return tuple(fetched)
