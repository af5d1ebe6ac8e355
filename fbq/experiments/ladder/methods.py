"""A float network at any precisions, by recipes that do not train it."""

import dataclasses
import functools
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbq.files import write_atomically
from fbq.nets.graph import Net
from fbq.ptq import adaround, bias_correction, calibration, folding, rounding
from fbq.ptq import bench as bench_lib
from fbq.ptq.recipes import Recipe, grids
from fbq.schemes import gridded

METHODS = {
  "min_max": Recipe(weight_rule="min_max"),
  "least_squares": Recipe(
    weight_rule="least_squares", steps=("fold", "correct")
  ),
  "adaround": Recipe(weight_rule="least_squares", steps=("fold", "round")),
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
    rounding: settings of AdaRound.
    seed: seed of its batches.
    base: bits of every site in the network of 8-bit weights.
    folder: where rounded weights are kept, which take longest.
  """

  net: Net
  params: Mapping[str, Any]
  images: np.ndarray
  few: int
  batch: int
  rounding: adaround.Settings
  seed: int
  base: Precision
  folder: Path
  _grids: dict[tuple, Mapping] = dataclasses.field(default_factory=dict)
  _kernels: dict[str, dict] = dataclasses.field(default_factory=dict)

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

  def apply(self, method: str, bits: Precision) -> bench_lib.Quantized:
    """The network at these bits, its weights and biases found for them all."""
    params: Mapping[str, Any] = self.params
    data = self.grids(method, bits)
    if "round" in METHODS[method].steps:
      params = {**params, **self._rounded(method, bits)}
    if "correct" in METHODS[method].steps:
      corrected = bias_correction.correct(
        bench_lib.programs(self.net).model,
        {"params": params},
        self.variables,
        _batches(self.images[: self.few], self.batch),
        data,
      )
      params = corrected["params"]
    return bench_lib.Quantized(self.net, {"params": params}, data)

  def plain(self, method: str, bits: Precision) -> bench_lib.Quantized:
    """The same at once: weights of uniform networks, biases as they are."""
    params = dict(self.params)
    if "round" in METHODS[method].steps:
      for node in self.net.nodes:
        if node.has_weights:
          name, own = f"{node.name}_kernel", bits[f"{node.name}.weight"]
          params[name] = self._rounded(method, self.uniform(own))[name]
    return bench_lib.Quantized(
      self.net, {"params": params}, self.grids(method, bits)
    )

  def _rounded(self, method: str, bits: Precision) -> dict[str, np.ndarray]:
    """Kernels that AdaRound makes: each layer mends those before it."""
    widths = {b for site, b in bits.items() if site.endswith(".weight")}
    name = f"{method}-{min(widths)}"
    if dict(bits) != self.uniform(min(widths)):
      digest = hashlib.sha256(json.dumps(dict(bits)).encode())
      name = f"{method}-{digest.hexdigest()[:16]}"
    if name not in self._kernels:
      path = self.folder / f"{name}.npz"
      if not path.is_file():
        found = rounding.round_network(
          bench_lib.programs(self.net).tensors,
          *(self.net, self.params, self.grids(method, bits)),
          _batches(self.images[: self.few], self.batch),
          *(jax.random.key(self.seed), self.rounding),
        )
        raw = io.BytesIO()
        np.savez(raw, **{k: found[k] for k in found if k.endswith("_kernel")})
        write_atomically(path, raw.getvalue())
      with np.load(path) as stored:
        self._kernels[name] = dict(stored)
    return self._kernels[name]

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
