"""Random mixtures of float and integer layers, in which all are met and timed.

A layer timed alone would start and end in the layout of a file, and find its
input in the cache; in a network it has its neighbours' layout. So layers are
timed where they are: in networks whose layers are float or integer at random.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from fbq import precision
from fbq.deploy import mixed_layers
from fbq.nets.graph import Net

_CANDIDATES = 20  # of which the one that shows most that is new is taken


def uniform(net: Net) -> dict[str, dict[str, int]]:
  """The uniform networks: integers, float, and float with 4-bit weights."""
  float_ = precision.uniform(net, mixed_layers.FLOAT)
  weights = [site for site in net.workload.sites if site.endswith(".weight")]
  return {
    "int8": precision.uniform(net, 8),
    "float": float_,
    "int4 weights": float_ | dict.fromkeys(weights, 4),
  }


def mixtures(net: Net, count: int, seed: int) -> list[dict[str, int]]:
  """`count` assignments that together convert every tensor both ways.

  Of random candidates the one is taken that shows most of what was shown least:
  conversions of a tensor in one direction alone, which can be told apart.
  """
  random = np.random.default_rng(seed)
  seen: dict[tuple, int] = {}
  found = []
  for _ in range(count):
    candidates = [_random(net, random) for _ in range(_CANDIDATES)]
    shown = [tuple(one_way(net, bits)) for bits in candidates]
    worth = [sum(0.1 ** seen.get(what, 0) for what in each) for each in shown]
    best = int(np.argmax(worth))
    found.append(candidates[best])
    for what in shown[best]:
      seen[what] = seen.get(what, 0) + 1
  return found


def one_way(net: Net, bits: Mapping[str, int]) -> dict[tuple[str, bool], int]:
  """{(tensor, whether to integers): conversions} of an assignment.

  Without tensors that are converted forth and back.
  """
  counts: dict[tuple[str, bool], int] = {}
  for tensor, _, to_integers in mixed_layers.conversions(net, bits):
    counts[tensor, to_integers] = counts.get((tensor, to_integers), 0) + 1
  return {
    (tensor, way): count
    for (tensor, way), count in counts.items()
    if (tensor, not way) not in counts
  }


def _random(net: Net, random: np.random.Generator) -> dict[str, int]:
  """Layers at random; tensors lie as a layer that makes or reads them wants."""
  bits = precision.uniform(net, 8)
  for node in net.nodes:
    if node.has_weights:
      bits[f"{node.name}.weight"] = int(random.choice((8, mixed_layers.FLOAT)))
  for site, wanted in _wanted(net, bits):
    if site not in net.fixed_bits:
      bits[site] = int(random.choice(sorted(wanted)))
  return bits


def _wanted(net, bits) -> Iterator[tuple[str, set[int]]]:
  """Activations, and the precisions in which their neighbours compute.

  A layer without weights takes whatever it gets.
  """
  wanted: dict[str, set[int]] = {}
  for node in net.nodes:
    sites = [net.site_of[name] for name in (*node.inputs, node.name)]
    both = {8, mixed_layers.FLOAT}
    own = {bits[f"{node.name}.weight"]} if node.has_weights else both
    for site in sites:
      if site is not None:
        wanted.setdefault(site, set()).update(own)
  yield from wanted.items()
