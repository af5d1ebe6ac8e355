"""A float network on the bench: any recipe applied, its logits compared."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fbq.model import Model
from fbq.nets.graph import Net
from fbq.ptq import bias_correction, calibration, equalization, folding
from fbq.ptq import rounding as rounding_lib
from fbq.ptq.adaround import Settings
from fbq.ptq.recipes import DEFAULT, RangeOptions, Recipe, grids
from fbq.quantizers.histograms import Histogram
from fbq.schemes import gridded
from fbq.train.steps import compile_once

Array = jax.Array


class Quantized(NamedTuple):
  """A network after a recipe.

  Attributes:
    net: network, folded or as it was.
    variables: variables of the model of `net`; weights in float, but for those
      that AdaRound rounded.
    data: grids of all sites, for the scheme `Gridded`.
  """

  net: Net
  variables: Mapping[str, Any]
  data: Mapping[str, gridded.SiteGrid]


class Programs:
  """What is compiled for one network: once for all recipes and seeds."""

  def __init__(self, net: Net):
    self.net = net
    self.model = Model(net, gridded.Gridded())

  @functools.cached_property
  def forward(self) -> Callable[[Any, Array, Any], Array]:
    """(variables, images, data) -> logits, compiled once."""
    apply = self.model.apply
    return compile_once(lambda v, x, data: apply(v, x, False, data=data))

  @functools.cached_property
  def observe(self) -> calibration.Observe:
    """See `calibration.observer`."""
    return calibration.observer(self.net)

  @functools.cached_property
  def tensors(self) -> Callable:
    """See `rounding.tensors`."""
    return rounding_lib.tensors(self.net)


@functools.lru_cache(maxsize=4)
def programs(net: Net) -> Programs:
  """Programs of `net`, shared by all benches."""
  return Programs(net)


@dataclasses.dataclass(frozen=True, eq=False)
class Bench:
  """A trained network and what recipes need of it, each made once.

  Attributes:
    net: network in float, with its batch norms.
    variables: "params" and "batch_stats".
    batches: calibration images [B, H, W, C] each, all of one shape.
    options: settings of the rules for ranges.
    rounding: settings of AdaRound.
    key: key that AdaRound's batches are drawn with.
    few: batches that bias correction and AdaRound see: they run the network
      once for each layer.
  """

  net: Net
  variables: Mapping[str, Any]
  batches: Sequence[Array]
  options: RangeOptions = DEFAULT
  rounding: Settings = Settings()
  key: Array = dataclasses.field(default_factory=lambda: jax.random.key(0))
  few: int = 8
  _rounded: dict[Recipe, Any] = dataclasses.field(default_factory=dict)

  @functools.cached_property
  def folded(self) -> tuple[Net, Mapping[str, Any]]:
    """The network without batch norms, and its variables."""
    return folding.fold(self.net, self.variables)

  @functools.cached_property
  def equalized(self) -> Mapping[str, Any]:
    """Variables of the folded network, its layers equalized."""
    net, variables = self.folded
    return {"params": equalization.equalize(net, variables["params"])}

  @functools.cached_property
  def histograms(self) -> Mapping[str, Histogram]:
    """Histograms of activations, which folding does not change."""
    net, variables = self.folded
    return calibration.calibrate(programs(net).observe, variables, self.batches)

  @functools.cached_property
  def equalized_histograms(self) -> Mapping[str, Histogram]:
    """Histograms of activations of the equalized network."""
    observe = programs(self.folded[0]).observe
    return calibration.calibrate(observe, self.equalized, self.batches)

  def apply(self, recipe: Recipe) -> Quantized:
    """The network after `recipe`.

    Raises:
      ValueError: tensors that cannot have ranges, or that a step cannot do.
    """
    net, variables = self.net, self.variables

    # The order of `recipes.STEPS`. What several recipes need is made once.
    if "fold" in recipe.steps:
      net, variables = self.folded
    histograms = {}
    if "equalize" in recipe.steps:
      variables = self.equalized

    # Equalizing changes activations, so their ranges are counted anew; folding
    # changes none.
    if recipe.activation_bits is not None:
      histograms = (
        self.equalized_histograms
        if "equalize" in recipe.steps
        else self.histograms
      )

    # Ranges come from weights that are not rounded yet: rounding needs a grid.
    data = grids(net, variables["params"], histograms, recipe, self.options)
    quantized = Quantized(net, variables, data)

    # Biases last: they also take what rounding leaves of a mean error.
    if "round" in recipe.steps:
      params = self._round(recipe, quantized)
      quantized = quantized._replace(variables={"params": params})
    if "correct" in recipe.steps:
      corrected = bias_correction.correct(
        programs(net).model,
        quantized.variables,
        variables,
        self.batches[: self.few],
        data,
      )
      quantized = quantized._replace(variables=corrected)
    return quantized

  def _round(self, recipe: Recipe, quantized: Quantized) -> dict[str, Any]:
    """Rounded parameters, kept: they take a minute, and biases may be corrected
    or not."""
    steps = tuple(step for step in recipe.steps if step != "correct")
    recipe = dataclasses.replace(recipe, steps=steps)
    if recipe not in self._rounded:
      net, variables, data = quantized
      self._rounded[recipe] = rounding_lib.round_network(
        programs(net).tensors,
        *(net, variables["params"], data, self.batches[: self.few]),
        *(self.key, self.rounding),
      )
    return self._rounded[recipe]

  def logits(self, quantized: Quantized, images: Array, batch: int):
    """[N, classes] float64 of `images`, in batches of one size.

    Args:
      quantized: network after a recipe, from `apply`.
      images: [N, H, W, C]; `batch` divides N.
      batch: images at a time, the same for all calls: another number would be
        compiled anew.
    """
    if len(images) % batch:
      raise ValueError(
        f"{len(images)} images do not divide into batches of {batch}"
      )
    forward = programs(quantized.net).forward
    variables = jax.tree.map(np.asarray, dict(quantized.variables))
    parts = [
      forward(variables, images[i : i + batch], quantized.data)
      for i in range(0, len(images), batch)
    ]
    return np.concatenate([np.asarray(part, np.float64) for part in parts])

  def in_float(self) -> Quantized:
    """The folded network with every tensor left in float."""
    net, variables = self.folded
    return Quantized(net, variables, gridded.data(net, {}))
