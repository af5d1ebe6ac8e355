"""Recipes of post-training quantization, and the grids that they say."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fbq.nets.graph import INPUT_SITE, Net
from fbq.quantizers import affine, histogram_rules, range_rules
from fbq.quantizers.histograms import Histogram
from fbq.quantizers.range_rules import Range
from fbq.schemes import gridded

WEIGHT_RULES = ("min_max", "percentile", "least_squares", "sawb")
# In the order in which they are done.
STEPS = ("fold", "equalize", "round", "correct")
_DONE = {
  "fold": "folded",
  "equalize": "equalized",
  "round": "AdaRound",
  "correct": "biases corrected",
}


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How a float network is quantized without training.

  The whitepaper's, by default: its symmetric weights are restricted ones.

  Attributes:
    weight_bits: 2 to 8, None to leave weights in float.
    activation_bits: bits of activations whose precision is free; those that the
      hardware fixes (`Net.fixed_bits`: image, adders, signed tensors) have
      theirs. None leaves all in float.
    weight_form: form of the grids of weights, one of `affine.FORMS` without
      "unsigned".
    signed_form: form of the grids of activations that can be negative; others
      are unsigned, as affine grids are that begin at 0.
    per_channel: whether each output channel of a kernel has a range, but for
      the classifier's, whose logits are compared with each other; else a kernel
      has one.
    weight_rule: rule for ranges of weights, one of `WEIGHT_RULES`; "sawb" for
      2 to 4 bits and layers as a whole.
    activation_rule: rule for ranges of activations, one of
      `histogram_rules.RULES`.
    steps: what is done besides, some of `STEPS` in their order.
  """

  weight_bits: int | None = 8
  activation_bits: int | None = 8
  weight_form: str = "restricted"
  signed_form: str = "affine"
  per_channel: bool = True
  weight_rule: str = "min_max"
  activation_rule: str = "min_max"
  steps: tuple[str, ...] = ("fold",)

  def __post_init__(self):
    for name, value, known in (
      ("weight_form", self.weight_form, affine.FORMS[:3]),
      ("signed_form", self.signed_form, affine.FORMS[:3]),
      ("weight_rule", self.weight_rule, WEIGHT_RULES),
      ("activation_rule", self.activation_rule, histogram_rules.RULES),
    ):
      if value not in known:
        raise ValueError(f"{name} is {value!r}, expected one of {known}")
    for name, bits in (
      ("weight_bits", self.weight_bits),
      ("activation_bits", self.activation_bits),
    ):
      if bits is not None and not 2 <= bits <= 8:
        raise ValueError(f"{name} is {bits!r}, expected 2 to 8, or None")
    bits = self.weight_bits
    if self.weight_rule == "sawb" and bits and (self.per_channel or bits > 4):
      raise ValueError(
        f"weight_rule is 'sawb', weight_bits {bits}, per_channel "
        f"{self.per_channel}, expected 2 to 4 bits and one range for a layer, "
        "which its coefficients are fitted to: for the 9 weights of a "
        "depthwise channel they give 0 to 4 times the largest. Take "
        "'least_squares' here"
      )
    order = [step for step in STEPS if step in self.steps]
    if list(self.steps) != order:
      raise ValueError(
        f"steps are {self.steps}, expected some of {STEPS} in this order"
      )
    if order and "fold" not in order:
      raise ValueError(
        f"steps are {self.steps}: {order[0]!r} needs folded batch norms; begin "
        "with 'fold'"
      )

  @property
  def widths(self) -> str:
    """For instance "W4A8"; "-" stands for float."""
    return f"W{self.weight_bits or '-'}A{self.activation_bits or '-'}"

  @property
  def name(self) -> str:
    """All of it in a few words."""
    words = [self.widths]
    if self.weight_bits:
      granularity = "per channel" if self.per_channel else "per layer"
      words.append(f"{self.weight_form} weights {granularity}")
      words.append(f"by {self.weight_rule}")
    if self.activation_bits:
      words.append(f"activations by {self.activation_rule}")
    words += [_DONE[step] for step in self.steps] or ["not folded"]
    return ", ".join(words).replace("_", " ").replace(", by", " by")


class RangeOptions(NamedTuple):
  """What the rules for ranges can be set to.

  Attributes:
    percent: percentage of "percentile".
    decay: decay of "moving_average", from one calibration batch to the next.
  """

  percent: float = 99.99
  decay: float = 0.99


DEFAULT = RangeOptions()


def grids(
  net: Net,
  params: Mapping[str, Any],
  histograms: Mapping[str, Histogram],
  recipe: Recipe,
  options: RangeOptions = DEFAULT,
) -> dict[str, gridded.SiteGrid]:
  """{site: SiteGrid}: what the scheme `Gridded` takes as data.

  Args:
    net: the network that is quantized, folded if the recipe says so.
    params: parameters of the model of `net`.
    histograms: what the activations of this network are like, from
      `calibration.calibrate`; none are needed for weights alone.
    recipe: recipe whose bits, forms and rules count; its steps are not looked
      at.
    options: settings of the rules.

  Raises:
    ValueError: a tensor that cannot have a range; names it.
  """
  # Tensors that the recipe leaves in float get no grid.
  found: dict[str, affine.Grid] = {}
  if recipe.weight_bits is not None:
    ranges = _weight_ranges(net, params, recipe, options)
    bits = dict.fromkeys(ranges, recipe.weight_bits)
    found |= _grids(ranges, bits, recipe.weight_form)

  # Activations have one bit-width each, the hardware's where it fixes one.
  if recipe.activation_bits is not None:
    bits = {
      site: net.fixed_bits.get(site, recipe.activation_bits)
      for site in net.is_signed
    }

    # Form by form, as one call makes all grids of a form: 1 ms for any number.
    for form in {"unsigned", recipe.signed_form}:
      ranges = {
        site: _activation_range(
          site, histograms[site], bits[site], form, recipe, options
        )
        for site in bits
        if _form(net, histograms, recipe, site) == form
      }
      if ranges:
        found |= _grids(ranges, bits, form)
  return gridded.data(net, found)


def _form(net: Net, histograms, recipe: Recipe, site: str) -> str:
  """An image that was normalized is negative in parts."""
  signed = net.is_signed[site]
  if site == INPUT_SITE:
    signed = histograms[site].low < 0
  return recipe.signed_form if signed else "unsigned"


def _activation_range(site, histogram, bits, form, recipe, options) -> Range:
  if site == INPUT_SITE and histogram.low >= 0 and histogram.high <= 1:
    return range_rules.widened(
      np.float64(0), np.float64(1)
    )  # pixels, exact in 8 bits
  return histogram_rules.range_of(
    histogram, recipe.activation_rule, bits, form, *options
  )


def _weight_ranges(net, params, recipe, options) -> dict[str, Range]:
  ranges = {}
  for node in net.nodes:
    if not node.has_weights:
      continue
    name = f"{node.name}_kernel"
    per_channel = recipe.per_channel and node.op != "linear"
    x = range_rules.columns(params[name], per_channel)
    try:
      ranges[f"{node.name}.weight"] = _weight_range(x, recipe, options)
    except ValueError as error:
      raise ValueError(f"params[{name!r}]: {error}") from error
  return ranges


def _weight_range(x, recipe: Recipe, options: RangeOptions) -> Range:
  bits, form = recipe.weight_bits or 8, recipe.weight_form
  if recipe.weight_rule == "percentile":
    return range_rules.percentile(x, options.percent, form != "affine")
  if recipe.weight_rule == "least_squares":
    return range_rules.least_squares(x, bits, form)
  if recipe.weight_rule == "sawb":
    return range_rules.sawb(x, bits, form)
  return range_rules.min_max(x)


def _grids(
  ranges: Mapping[str, Range], bits: Mapping[str, int], form: str
) -> dict[str, affine.Grid]:
  """{site: grid} of several sites, in one call: it takes 1 ms for any number.

  Args:
    ranges: {site: range [O] or []}.
    bits: {site: bits}.
    form: form of the grids, one of `affine.FORMS`.
  """
  sizes = {site: np.size(range_.low) for site, range_ in ranges.items()}
  flat = lambda parts: jnp.asarray(np.concatenate([*map(np.ravel, parts)]))
  grid = affine.grid(
    flat(range_.low for range_ in ranges.values()),
    flat(range_.high for range_ in ranges.values()),
    flat(np.full(size, bits[site], np.int32) for site, size in sizes.items()),
    form,
  )
  ends = np.cumsum([*sizes.values()])[:-1]
  total = sum(sizes.values())
  fields = [
    np.split(np.broadcast_to(np.asarray(field), total), ends) for field in grid
  ]
  return {
    site: affine.Grid(*(part.reshape(np.shape(ranges[site].low)) for part in g))
    for site, g in zip(ranges, zip(*fields, strict=True), strict=True)
  }
