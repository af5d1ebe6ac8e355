"""The latency of every layer at every precision, and of whole networks.

Layer latencies add up, so hardware is evaluated once per (layer, precision)
into a `LatencyTable`. Scoring an assignment is then a lookup and a sum, whether
the table was simulated or measured on a board.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from hwsim.scoring import aligned
from hwsim.workload import Layer, Workload

BITS = (2, 4, 8)
OutputBits = int | Literal["site"]
_CACHED = 1 << 13  # candidates whose bits and codes stay in cache


class Ladder(NamedTuple):
  """The precisions that hardware has; by default those of PULP clusters.

  Attributes:
    activations: bits of inputs and outputs, ascending.
    weights: bits of weights, ascending.
  """

  activations: tuple[int, ...] = BITS
  weights: tuple[int, ...] = BITS

  def of(self, site: str) -> tuple[int, ...]:
    """The precisions that the tensor of a site may have."""
    return self.weights if site.endswith(".weight") else self.activations

  def at_least(self, precision: Mapping[str, int]) -> dict[str, int]:
    """An assignment with every tensor at its next precision that there is.

    Raises:
      ValueError: a tensor has more bits than the hardware.
    """
    raised = {}
    for site, bits in precision.items():
      rungs = [rung for rung in self.of(site) if rung >= bits]
      if not rungs:
        raise ValueError(f"{site!r} is {bits} bits, {_expected(self.of(site))}")
      raised[site] = rungs[0]
    return raised


PULP_LADDER = Ladder()


@dataclasses.dataclass(frozen=True, eq=False)
class LatencyTable:
  """Clock cycles of `L` layers by precision.

  Axes `A`, `W` and `O` are the bits of inputs, weights and output, in the order
  of the ladder. A layer without weights is constant along `W`; one whose output
  is not quantized (32-bit logits) is constant along `O`. The two inputs of an
  `add` are at the same bits; where an assignment gives them different ones, the
  wider counts (the networks here fix both at 8).

  Attributes:
    target: name of the hardware.
    layers: the `L` layers, whose geometry is the key in files.
    quantized: per layer, whether its output is quantized.
    cycles: int64[L, A, W, O], read-only.
    provenance: per layer, "simulated" or "measured".
    ladder: precisions of the hardware.
  """

  target: str
  layers: tuple[Layer, ...]
  quantized: tuple[bool, ...]
  cycles: np.ndarray
  provenance: tuple[str, ...]
  ladder: Ladder = PULP_LADDER

  def __post_init__(self):
    # A copy: what is frozen here must not be frozen for its maker
    cycles = np.array(self.cycles)
    shape = len(self.layers), *shape_of(self.ladder)
    if cycles.dtype != np.int64 or cycles.shape != shape:
      raise ValueError(
        f"latency table: cycles is {cycles.dtype}"
        f"{cycles.shape}, expected int64{shape}"
      )
    for field in ("quantized", "provenance"):
      if len(getattr(self, field)) != len(self.layers):
        raise ValueError(
          f"latency table: {field} has "
          f"{len(getattr(self, field))} entries for "
          f"{len(self.layers)} layers"
        )

    # Sums over layers are only as sound as each entry
    low = cycles.reshape(len(self.layers), -1).min(axis=1, initial=0)
    if low.min(initial=0) < 0:
      name = self.layers[int(np.argmin(low))].name
      raise ValueError(
        f"latency table: layer {name!r} has {low.min()} cycles, "
        "expected no negative ones"
      )
    for i, layer in enumerate(self.layers):
      for axis, varies in ((1, layer.has_weights), (2, self.quantized[i])):
        if not varies and np.ptp(cycles[i], axis=axis).any():
          raise ValueError(
            f"latency table: layer {layer.name!r} has no tensor for axis "
            f"{'AWO'[axis]}, expected cycles that are constant along it"
          )

    cycles.setflags(write=False)
    object.__setattr__(self, "cycles", cycles)

  def for_output_bits(self, bits: int = 8) -> np.ndarray:
    """Cycles int64[L, A, W] with every quantized output at `bits`.

    The published dictionaries hold this view at 8 bits: a layer is benchmarked
    alone with 8-bit outputs (quantlib generate_bench_spec.py:129-133).
    """
    at = _index(bits, "output bits", self.ladder.activations)
    return self.cycles[..., at]


def shape_of(ladder: Ladder) -> tuple[int, int, int]:
  """Lengths of the axes `A`, `W` and `O` of a table."""
  count = len(ladder.activations)
  return count, len(ladder.weights), count


def layer_cycles(
  table: LatencyTable,
  workload: Workload,
  precision: Mapping[str, int],
  output_bits: OutputBits = 8,
) -> np.ndarray:
  """Cycles int64[L] of every layer of a workload under one assignment.

  Args:
    table: latency table of the layers of `workload`.
    workload: names the precision sites.
    precision: bits of every free site, on the table's ladder; fixed ones may be
      left out.
    output_bits: bits of every quantized output (8 is the published setting), or
      "site": the bits of the layer's own output site.

  Raises:
    ValueError: a site is missing, has other bits than it must, or the table is
      of other layers.
  """
  bits = list(workload.site_bits(precision).values())
  codes = encode(
    workload, np.array([bits]), output_bits=output_bits, ladder=table.ladder
  )
  costs = flat_costs(table, workload, output_bits)
  return costs[np.arange(len(workload.layers)), codes[0]]


def total_cycles(
  table: LatencyTable,
  workload: Workload,
  precision: Mapping[str, int],
  output_bits: OutputBits = 8,
) -> int:
  """Cycles of the whole network under one assignment, exactly."""
  return int(layer_cycles(table, workload, precision, output_bits).sum())


def encode(
  workload: Workload,
  bits: np.ndarray,
  sites: Sequence[str] | None = None,
  output_bits: OutputBits = 8,
  ladder: Ladder = PULP_LADDER,
) -> np.ndarray:
  """Which entry of the table each layer of each candidate takes: uint8[P, L].

  A code is W a + w, or W O a + O w + o with `output_bits="site"`, where a, w
  and o are positions on the ladder and W and O how many there are; 0 where a
  layer has no such tensor.

  Args:
    workload: `L` layers.
    bits: int[P, S], on the ladder, of `P` candidates.
    sites: names of the `S` columns; default `workload.sites`. Fixed sites may
      be left out.
    output_bits: as in `layer_cycles`.
    ladder: that of the table.
  """
  sites = workload.sites if sites is None else tuple(sites)
  bits = np.asarray(bits)
  if bits.ndim != 2 or bits.shape[1] != len(sites):
    raise ValueError(
      f"bits has shape {bits.shape}, expected [P, {len(sites)}] "
      "for as many sites"
    )
  if output_bits != "site":
    _index(output_bits, "output bits", ladder.activations)

  # As many candidates at a time as stay in cache
  codes = aligned((len(bits), len(workload.layers)))
  for start in range(0, len(bits), _CACHED):
    chunk = slice(start, start + _CACHED)
    codes[chunk] = _encode(workload, bits[chunk], sites, output_bits, ladder).T
  return codes


def _encode(workload, bits, sites, output_bits, ladder):
  """Codes uint8[L, P] of as many candidates as stay in cache."""
  place = {
    site: _positions(column, site, ladder.of(site))
    for site, column in zip(sites, bits.T, strict=True)
  }
  for site, fixed in workload.fixed_bits:
    at = _index(fixed, site, ladder.of(site))
    given = place.setdefault(site, np.array(at, np.uint8))
    if np.any(given != at):
      raise ValueError(
        f"site {site!r} is fixed at {fixed} bits in workload "
        f"{workload.name!r}, got other bits for it"
      )
  missing = [site for site in workload.sites if site not in place]
  if missing:
    raise ValueError(f"no bits for sites {missing} of {workload.name!r}")
  codes = np.zeros((len(workload.layers), len(bits)), np.uint8)
  for i, layer in enumerate(workload.layers):
    for site in workload.input_sites[i]:
      np.maximum(codes[i], place[site], out=codes[i])
    codes[i] *= len(ladder.weights)
    if layer.has_weights:
      codes[i] += place[workload.weight_site(layer)]
    if output_bits == "site":
      codes[i] *= len(ladder.activations)
      if workload.output_sites[i] is not None:
        codes[i] += place[workload.output_sites[i]]
  return codes


def flat_costs(
  table: LatencyTable, workload: Workload, output_bits: OutputBits = 8
) -> np.ndarray:
  """The table with one entry per code: int64[L, 9] of PULP, 27 with "site"."""
  if [layer.geometry for layer in table.layers] != [
    layer.geometry for layer in workload.layers
  ]:
    raise ValueError(
      f"the table of {table.target!r} has other layers than workload "
      f"{workload.name!r}; make one for it with latency_table"
    )
  cycles = (
    table.cycles
    if output_bits == "site"
    else table.for_output_bits(output_bits)
  )
  return cycles.reshape(len(table.layers), -1)


def _index(bits: int, what: str, rungs: tuple[int, ...]) -> int:
  if bits not in rungs:
    raise ValueError(f"{what}: {bits!r} bits, {_expected(rungs)}")
  return rungs.index(bits)


def _expected(rungs):
  return f"expected one of {rungs}"


def _positions(bits, site, rungs):
  """Bits -> positions on a ladder, uint8, with an error that names the site."""
  place = np.full(max(rungs) + 2, 255, np.uint8)
  place[list(rungs)] = range(len(rungs))
  found = place.take(bits, mode="clip")
  wrong = (found == 255) | (bits < 0)
  if wrong.any():
    _index(bits[np.argmax(wrong)].item(), f"site {site!r}", rungs)
  return found
