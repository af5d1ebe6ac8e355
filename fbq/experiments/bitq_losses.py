"""Losses of block formats in an experiment: measured, predicted, checked."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fbq.experiments.bitq_settings import Word
from fbq.report.tables import write_atomically
from fbq.search import format_losses
from fbq.search.block_noise import Noise
from fbq.search.format_losses import FormatJudge, LossAgreement
from hwsim.bfp.formats import BlockFormat

ByFormat = Mapping[str, Mapping[BlockFormat, float]]


def kind_of(site: str) -> str:
  """ "weights" or "activations"."""
  return "weights" if site.endswith(".weight") else "activations"


class Losses(NamedTuple):
  """What every format of every tensor does.

  Attributes:
    divergence: {site: {format: predicted KL in nats}}, without training.
    noise: the same at the slope of small noise, see `second_order`.
    points: single tensors that were not used, predicted against measured.
    networks: sums over whole random assignments against measurements.
    passes: of the calibration set.
  """

  divergence: ByFormat
  noise: ByFormat
  points: LossAgreement
  networks: LossAgreement
  passes: int

  def of(self, formats: Mapping[str, BlockFormat]) -> float:
    """Predicted KL of an assignment: the sum over its tensors."""
    return float(sum(self.divergence[s][f] for s, f in formats.items()))

  def of_kind(self, formats: Mapping[str, BlockFormat], kind: str) -> float:
    """Sum of `noise` over "weights" or "activations"."""
    return float(
      sum(self.noise[s][f] for s, f in formats.items() if kind_of(s) == kind)
    )

  def trained(self, scales: Mapping[str, float]) -> ByFormat:
    """Accuracy lost after training, by site and format.

    Args:
      scales: accuracy for a nat of each kind.
    """
    return {
      site: {f: scales[kind_of(site)] * nats for f, nats in by_format.items()}
      for site, by_format in self.noise.items()
    }

  @property
  def text(self) -> str:
    points, networks = self.points, self.networks
    return (
      f"losses of formats: rank correlation {points.spearman:.3f} and half "
      f"within a factor of {points.factor:.2f} on {len(points.predicted)} "
      f"(tensor, format) pairs held out; {networks.spearman:.3f} and "
      f"{networks.factor:.2f} for sums over {len(networks.predicted)} random "
      "networks"
    )


def losses_of(
  path: Path,
  judge: FormatJudge,
  words: Sequence[Word],
  noises: Callable[[list], Mapping[str, Noise]],
  plan,
  seed: int,
) -> Losses:
  """The losses of all formats of all words; kept in a file.

  Args:
    path: where they are, or are put.
    judge: of the float network.
    words: whose formats are tried.
    noises: of a list of (X, SE, block size).
    plan: the setting "losses".
    seed: of what is held out.
  """
  formats = list(dict.fromkeys(f for word in words for f in word.grid))
  sites = judge.net.workload.sites
  if not path.exists():
    stored = _measure(judge, formats, words, noises, plan, seed)
    write_atomically(path, (json.dumps(stored) + "\n").encode())
  stored = json.loads(path.read_text())
  by_format = lambda name: {
    site: dict(zip(formats, stored[name][site], strict=True)) for site in sites
  }
  return Losses(
    by_format("divergence"),
    by_format("second_order"),
    format_losses.agreement(*stored["points"]),
    format_losses.agreement(*stored["networks"]),
    stored["passes"],
  )


def _measure(judge, formats, words, noises, plan, seed):
  random = np.random.default_rng(seed)
  sites = judge.net.workload.sites
  rows = [(f.element_bits, f.exponent_bits, f.block_size) for f in formats]
  noise = {site: n.squared for site, n in noises(rows).items()}
  reference = format_losses.reference(judge)

  # A few formats of every tensor, all others predicted from their noise.
  chosen = {
    site: format_losses.anchors(noise[site], plan.measured_formats)
    for site in sites
  }
  points = [(s, formats[i]) for s in sites for i in chosen[s]]
  known = format_losses.measured(judge, reference, points)
  predicted = {
    site: format_losses.fit(
      noise[site], {i: known[site, formats[i]] for i in chosen[site]}
    )
    for site in sites
  }

  # Others that were not used, and whole networks.
  rest = [
    (s, i)
    for s in sites
    for i in np.flatnonzero(noise[s] > 0)
    if i not in chosen[s]
  ]
  count = min(plan.held_out, len(rest))
  picked = [rest[i] for i in random.choice(len(rest), count, replace=False)]
  checks = format_losses.measured(
    judge, reference, [(s, formats[i]) for s, i in picked]
  )
  whole = []
  for n in range(plan.assignments):
    grid = words[n % len(words)].grid
    drawn = random.integers(len(grid), size=len(sites))
    whole.append({s: grid[i] for s, i in zip(sites, drawn, strict=True)})
  place = {f: i for i, f in enumerate(formats)}
  return {
    "formats": rows,
    "noise": {site: noise[site].tolist() for site in sites},
    "measured": {
      site: {str(i): known[site, formats[i]] for i in chosen[site]}
      for site in sites
    },
    "divergence": {site: predicted[site].tolist() for site in sites},
    "second_order": {
      site: format_losses.second_order(
        noise[site], {i: known[site, formats[i]] for i in chosen[site]}
      ).tolist()
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
