"""Losses of every format of every tensor, told from a few and checked.

The plan of measurements that `format_losses` describes: some formats of every
tensor are measured, the others predicted from their noise, and predictions held
against pairs and whole networks that they have not seen.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from fbq.search import format_losses
from fbq.search.block_noise import Noise
from fbq.search.format_losses import FormatJudge, LossAgreement
from hwsim.bfp import BlockFormat

ByFormat = Mapping[str, Mapping[BlockFormat, float]]
Grids = Sequence[Sequence[BlockFormat]]
KINDS = ("weights", "activations")


def kind_of(site: str) -> str:
  """Which of `KINDS` a tensor is."""
  return KINDS[0] if site.endswith(".weight") else KINDS[1]


def total(losses: ByFormat, formats: Mapping[str, BlockFormat]) -> float:
  """The sum over the tensors of an assignment."""
  return float(sum(losses[site][f] for site, f in formats.items()))


def priced(losses: ByFormat, scales: Mapping[str, float]) -> ByFormat:
  """Losses of accuracy: nats times what a nat of the tensor's kind costs."""
  return {
    site: {f: scales[kind_of(site)] * nats for f, nats in by_format.items()}
    for site, by_format in losses.items()
  }


class FormatLosses(NamedTuple):
  """What every format of every tensor does.

  Attributes:
    divergence: {site: {format: predicted KL in nats}}, without training.
    noise: the same at the slope of small noise, see `second_order`.
    points: single tensors that were not used, predicted against measured.
    networks: sums over whole random assignments against measurements.
    passes: evaluations of the calibration set.
  """

  divergence: ByFormat
  noise: ByFormat
  points: LossAgreement
  networks: LossAgreement
  passes: int

  @classmethod
  def from_stored(cls, stored: Mapping[str, Any], grids: Grids) -> Self:
    """Losses from what `measure` gave for these grids."""

    def by_format(name):
      return {
        site: dict(zip(_formats(grids), numbers, strict=True))
        for site, numbers in stored[name].items()
      }

    return cls(
      by_format("divergence"),
      by_format("second_order"),
      format_losses.agreement(*stored["points"]),
      format_losses.agreement(*stored["networks"]),
      stored["passes"],
    )

  def of(self, formats: Mapping[str, BlockFormat]) -> float:
    """Predicted KL of an assignment without training."""
    return total(self.divergence, formats)

  def of_kind(self, formats: Mapping[str, BlockFormat], kind: str) -> float:
    """Sum of `noise` over "weights" or "activations"."""
    ours = {s: f for s, f in formats.items() if kind_of(s) == kind}
    return total(self.noise, ours)

  @property
  def text(self) -> str:
    """How well predictions held, in words."""
    points, networks = self.points, self.networks
    return (
      f"losses of formats: rank correlation {points.spearman:.3f} and half "
      f"within a factor of {points.factor:.2f} on {len(points.predicted)} "
      f"(tensor, format) pairs held out; {networks.spearman:.3f} and "
      f"{networks.factor:.2f} for sums over {len(networks.predicted)} random "
      "networks"
    )


def measure(
  judge: FormatJudge,
  grids: Grids,
  noises: Callable[[list], Mapping[str, Noise]],
  measured_formats: int,
  held_out: int,
  assignments: int,
  seed: int,
) -> dict[str, Any]:
  """What `FormatLosses.from_stored` takes, as values that JSON holds.

  Args:
    judge: judge of the float network.
    grids: formats of every word.
    noises: (list of (X, SE, block size)) -> noise by site.
    measured_formats: formats of each tensor that are measured.
    held_out: further pairs of tensor and format, to check predictions.
    assignments: random networks, to check sums over tensors.
    seed: seed of what is held out.
  """
  formats = _formats(grids)
  random = np.random.default_rng(seed)
  sites = judge.net.workload.sites
  one = lambda f: judge.rows_of(judge.net, dict.fromkeys(sites, f))[0]
  rows = [tuple(one(f).tolist()) for f in formats]
  noise = {site: n.squared for site, n in noises(rows).items()}
  reference = format_losses.reference(judge)

  # A few formats of every tensor, all others predicted from their noise
  chosen = {
    site: format_losses.anchors(noise[site], measured_formats) for site in sites
  }
  points = [(s, formats[i]) for s in sites for i in chosen[s]]
  measured = format_losses.measured(judge, reference, points)
  known = {
    site: {i: measured[site, formats[i]] for i in chosen[site]}
    for site in sites
  }
  predicted = {s: format_losses.fit(noise[s], known[s]) for s in sites}

  # Others that were not used, and whole networks: predictions must hold there
  rest = [
    (s, i)
    for s in sites
    for i in np.flatnonzero(noise[s] > 0)
    if i not in chosen[s]
  ]
  count = min(held_out, len(rest))
  picked = [rest[i] for i in random.choice(len(rest), count, replace=False)]
  checks = format_losses.measured(
    judge, reference, [(s, formats[i]) for s, i in picked]
  )
  whole = []
  for n in range(assignments):
    grid = grids[n % len(grids)]
    drawn = random.integers(len(grid), size=len(sites))
    whole.append({s: grid[i] for s, i in zip(sites, drawn, strict=True)})
  place = {f: i for i, f in enumerate(formats)}

  return {
    "formats": rows,
    "noise": {site: noise[site].tolist() for site in sites},
    "measured": {s: {str(i): k for i, k in known[s].items()} for s in sites},
    "divergence": {site: predicted[site].tolist() for site in sites},
    "second_order": {
      site: format_losses.second_order(noise[site], known[site]).tolist()
      for site in sites
    },
    "points": [
      [float(predicted[s][i]) for s, i in picked],
      [checks[s, formats[i]] for s, i in picked],
    ],
    "networks": [
      [
        float(sum(predicted[s][place[f]] for s, f in one.items()))
        for one in whole
      ],
      [format_losses.divergence(judge, reference, one) for one in whole],
    ],
    "passes": 1 + len(points) + len(picked) + len(whole),
  }


def _formats(grids):
  return list(dict.fromkeys(f for grid in grids for f in grid))
