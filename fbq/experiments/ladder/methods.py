"""A float network at any precisions, by recipes that do not train it."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbq.lab.kept import kept_arrays
from fbq.nets.graph import Net
from fbq.ptq import bench as bench_lib
from fbq.ptq import calibration, folding, one_pass, rounded_layers
from fbq.ptq.recipes import Recipe, grids
from fbq.ptq.rounded_layers import MOST_BITS, RoundedLayer
from fbq.quantizers import affine
from fbq.schemes import gridded

METHODS = {
  "min_max": Recipe(weight_rule="min_max"),
  "least_squares": Recipe(
    weight_rule="least_squares", steps=("fold", "correct")
  ),
  "adaround": Recipe(
    weight_rule="least_squares", steps=("fold", "round", "correct")
  ),
}
TITLES = {
  "min_max": "min/max",
  "least_squares": "least squares, biases corrected",
  "adaround": "AdaRound",
}
Precision = Mapping[str, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Workshop:
  """A folded float network and what its quantization needs, each made once.

  Attributes:
    net: network without batch norms.
    params: its parameters.
    images: [N, H, W, C] to calibrate by.
    few: images of them that biases and roundings are found by.
    batch: images at a time.
    steps: steps of AdaRound for each layer.
    ladder: bits of weights that layers are rounded at.
    base: bits of every site in the network of 8-bit weights.
    folder: where rounded layers are kept, which take longest.
  """

  net: Net
  params: Mapping[str, Any]
  images: np.ndarray
  few: int
  batch: int
  steps: int
  ladder: tuple[int, ...]
  base: Precision
  folder: Path
  _grids: dict[tuple, Mapping] = dataclasses.field(default_factory=dict)
  _at: dict[int, tuple] = dataclasses.field(default_factory=dict)

  @classmethod
  def of(cls, net: Net, variables: Mapping[str, Any], *rest) -> "Workshop":
    """Of a network with batch norms; `rest` are the attributes after params."""
    folded, without = folding.fold(net, variables)
    return cls(folded, without["params"], *rest)

  def uniform(self, bits: int) -> dict[str, int]:
    """The bits of every site where all weights have the same."""
    return {
      site: bits if site.endswith(".weight") else given
      for site, given in self.base.items()
    }

  @property
  def variables(self) -> dict[str, Any]:
    """What the float network computes with."""
    return {"params": self.params}

  @functools.cached_property
  def histograms(self):
    """Of every activation, over the calibration images."""
    observe = bench_lib.programs(self.net).observe
    batches = _batches(self.images, self.batch)
    return calibration.calibrate(observe, self.variables, batches)

  def grids(self, method: str, bits: Precision) -> dict[str, gridded.SiteGrid]:
    """The grid of every site at its bits, by the rules of a method."""
    recipe, sites = METHODS[method], self.net.workload.sites
    found = {}
    for site in sites:
      key = recipe.weight_rule, bits[site]
      if key not in self._grids:
        rung = dataclasses.replace(
          recipe, weight_bits=bits[site], activation_bits=bits[site]
        )
        self._grids[key] = grids(self.net, self.params, self.histograms, rung)
      found[site] = self._grids[key][site]
    return found

  def apply(
    self, method: str, bits: Precision, correct: bool = True
  ) -> bench_lib.Quantized:
    """The network at these bits, its weights found for each alone.

    Args:
      method: one of `METHODS`.
      bits: bits of every site.
      correct: whether biases are then set right for all of these bits, where
        the method does so.
    """
    steps = METHODS[method].steps
    params, data = dict(self.params), dict(self.grids(method, bits))
    if "round" in steps:
      for name in self.rounded:
        site = f"{name}.weight"
        weights, grid = self._rounded_at(bits[site])
        params |= weights[name]
        data[site] = grid[site]
    if correct and "correct" in steps:
      corrected = one_pass.correct(
        self.net,
        gridded.Gridded(),
        {"params": params},
        self.variables,
        jnp.asarray(self.images[: self.few]),
        data,
      )
      params = corrected["params"]
    return bench_lib.Quantized(self.net, {"params": params}, data)

  @functools.cached_property
  def rounded(self) -> dict[str, RoundedLayer]:
    """{layer: its weights at every precision}, one optimization for each."""
    ranges = calibration.ranges(
      self.net, self.histograms, (MOST_BITS,), "min_max"
    )
    return rounded_layers.round_layers(
      self.net,
      {**self.variables, "batch_stats": {}},
      ranges,
      self.ladder,
      _batches(self.images[: self.few], self.batch),
      self.steps,
      lambda name, make: RoundedLayer(
        **kept_arrays(self.folder / f"{name}.npz", lambda: make()._asdict())
      ),
    )

  def _rounded_at(self, bits: int):
    """({layer: its parameters}, {site: grid}) of all layers at some bits."""
    if bits not in self._at:
      made = rounded_layers.variables_at(
        self.net,
        {**self.variables, "batch_stats": {}},
        *(self.rounded, self.ladder, {}),
        {f"{name}.weight": bits for name in self.rounded},
      )
      own = {
        name: {
          key: x
          for key, x in made["params"].items()
          if key in (f"{name}_kernel", f"{name}_bias")
        }
        for name in self.rounded
      }
      found = {
        site: affine.grid(-range_, range_, jnp.int32(bits), "symmetric")
        for site, range_ in made["ranges"].items()
      }
      self._at[bits] = own, gridded.data(self.net, found)
    return self._at[bits]

  def logits(
    self, quantized: bench_lib.Quantized | None, images: np.ndarray
  ) -> np.ndarray:
    """float64 [N, classes] of a quantized network; None: of the float one."""
    net, variables, data = quantized or (
      self.net,
      self.variables,
      gridded.data(self.net, {}),
    )
    forward = bench_lib.programs(net).forward
    variables = jax.tree.map(np.asarray, dict(variables))
    parts = [
      np.asarray(forward(variables, x, data), np.float64)
      for x in _batches(images, self.batch)
    ]
    return np.concatenate(parts)[: len(images)]


def _batches(images: np.ndarray, batch: int) -> list[jax.Array]:
  """Batches of one size; the last is filled up with images from the first on.

  So what is observed twice is what is there: ranges stay as they are, and means
  are those of whole batches.
  """
  count = -(-len(images) // batch) * batch
  filled = np.resize(np.arange(len(images)), count)
  return [
    jnp.asarray(images[filled[i : i + batch]]) for i in range(0, count, batch)
  ]
