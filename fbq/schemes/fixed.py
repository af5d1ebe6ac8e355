"""Every tensor at given bits: what is fine-tuned and deployed."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from fbq.nets.graph import INPUT_SITE, Node
from fbq.quantizers import affine, extremes, qat_rules, shared_steps, uniform
from fbq.quantizers.qat_rules import Rule
from fbq.schemes import ranges
from fbq.schemes.scheme import Call

Array = jax.Array
WEIGHT_FORMS = ("symmetric", "restricted", "affine")
ACTIVATION_FORMS = ("symmetric", "affine")
QUANTIZED = ("both", "weights", "activations")


class Form(NamedTuple):
  """The grids of all tensors; by default those that PULP's kernels run.

  Attributes:
    weights: grids of weights, one of `WEIGHT_FORMS`; see `affine`.
    activations: grids of activations: "symmetric" where they are signed, else
      unsigned; or "affine", which differs from that where they are signed.
    per_channel: one grid for every output channel of a kernel, the classifier's
      excepted; else one for all.
    quantizes: which tensors are quantized, one of `QUANTIZED`; the others stay
      in floating point.
  """

  weights: str = "symmetric"
  activations: str = "symmetric"
  per_channel: bool = True
  quantizes: str = "both"


@dataclasses.dataclass(frozen=True)
class Fixed:
  """Quantizes every tensor to bits that are data.

  Data: int [S], bits of every site in the order of the workload; a run has them
  as "bits".

  Attributes:
    rule: what ranges do in training. Ranges stand in "ranges"; where none is
      learned those of activations in "averages" as [2], the smallest and the
      largest number, and those of weights nowhere.
    form: form of the grids. A rule that learns ranges knows symmetric ones
      only.
    decay: decay of the averages, for each step.

  Raises:
    ValueError: no rule, an unknown form, or two that do not go together.
  """

  rule: Rule = qat_rules.LOG_LSQ
  form: Form = Form()
  decay: float = 0.99

  def __post_init__(self):
    form = self.form
    if not isinstance(self.rule, Rule):
      raise ValueError(
        f"rule is {self.rule!r}, expected a {Rule.__module__}.Rule"
      )
    for name, value, known in (
      ("form.weights", form.weights, WEIGHT_FORMS),
      ("form.activations", form.activations, ACTIVATION_FORMS),
      ("form.quantizes", form.quantizes, QUANTIZED),
    ):
      if value not in known:
        raise ValueError(f"{name} is {value!r}, expected one of {known}")
    symmetric = form.weights == form.activations == "symmetric"
    if self.learns_ranges and not symmetric:
      raise ValueError(
        f"the rule {self.rule.name!r} learns one range of each tensor, so its "
        f"grids are symmetric, and form is {form}; use the rule 'min_max'"
      )
    if not 0 <= self.decay < 1:
      raise ValueError(f"decay is {self.decay}, expected 0 to below 1")

  @property
  def learns_ranges(self) -> bool:
    return self.rule.optimizer is not None

  @property
  def collection(self) -> str:
    """Name of the variables that start from data: "ranges" or "averages"."""
    return "ranges" if self.learns_ranges else "averages"

  def noise(self, key: Array, batch: int) -> None:
    del key, batch

  def data(self, run: Mapping[str, Array], step: Array) -> Array:
    del step
    return run["bits"]

  def quantizer(
    self, call: Call
  ) -> "_FixedLearnedQuantizer | _FixedMinMaxQuantizer":
    if call.data is None:
      raise ValueError(
        "a model of fixed precision was given no bits: pass int [S], the "
        "precision of every site of the workload"
      )
    # One number too few would be taken for the last one's, without a word.
    chex.assert_shape(
      call.data,
      (len(call.net.workload.sites),),
      custom_message="bits, one for every site of the workload",
    )

    # Not zip: iterating over more than a hundred fails while tracing.
    bits = {
      site: call.data[i] for i, site in enumerate(call.net.workload.sites)
    }
    takes_activations = self.form.quantizes != "weights"
    if not self.learns_ranges:
      ends = ranges.activation_ends(call) if takes_activations else {}
      return _FixedMinMaxQuantizer(
        self, call, bits, ends, set(), self._shared(call, ends, bits)
      )
    found = ranges.activation_ranges(call, bits) if takes_activations else {}
    return _FixedLearnedQuantizer(self, call, bits, found)

  def _shared(self, call, ends, bits):
    """{site: range} of what shares a step with others, by their `ends`."""
    if self.form.activations == "affine":  # there a tensor's grid is its own
      return {}
    sites = call.net.step_site
    owners = {owner for site, owner in sites.items() if site != owner}
    alone = {
      site: largest(both)
      for site, both in ends.items()
      if sites[site] in owners
    }
    found = shared_steps.of_step_sites(call.net, alone, bits)
    return shared_steps.of_all_sites(call.net, found, bits)


class _FixedLearnedQuantizer(NamedTuple):
  scheme: Fixed
  call: Call
  bits: Mapping[str, Array]
  ranges: Mapping[str, Array]

  def weight(self, kernel, node):
    form = self.scheme.form
    if form.quantizes == "activations":
      return kernel
    range_ = ranges.learned_weight_range(
      self.call, kernel, node, form.per_channel
    )
    bits = self.bits[f"{node.name}.weight"]
    return self._quantize(kernel, range_, bits, True, kernel.size)

  def activation(self, x, site):
    signed = self.call.net.is_signed[site]
    if self.scheme.form.quantizes == "weights":
      return x if signed else jax.nn.relu(x)
    range_, bits = self.ranges[site], self.bits[site]
    return self._quantize(x, range_, bits, signed, x.size // len(x))

  def weight_unit(self, kernel, node):
    form = self.scheme.form
    if form.quantizes == "activations":
      return 1.0
    range_ = ranges.learned_weight_range(
      self.call, kernel, node, form.per_channel
    )
    return uniform.step(range_, self.bits[f"{node.name}.weight"], True)

  def activation_unit(self, site):
    if self.scheme.form.quantizes == "weights":
      return 1.0
    signed = self.call.net.is_signed[site]
    return uniform.step(self.ranges[site], self.bits[site], signed)

  def output(self, sums, bias, kernel, node):
    return _output(self, sums, bias, kernel, node)

  def _quantize(self, x, range_, bits, signed, numbers):
    count = numbers // range_.size
    return self.scheme.rule.quantize(x, range_, bits, signed, count)


class _FixedMinMaxQuantizer(NamedTuple):
  """`ends` of activations, of those `moved` with this batch averaged in.

  What shares a step has the range in `shared`, of the batches before: an
  adder's second operand is not known when its first is quantized.
  """

  scheme: Fixed
  call: Call
  bits: Mapping[str, Array]
  ends: dict[str, Array]
  moved: set[str]
  shared: Mapping[str, Array]

  def weight(self, kernel, node):
    form = self.scheme.form
    if form.quantizes == "activations":
      return kernel
    bits = self.bits[f"{node.name}.weight"]
    if form.weights == "symmetric":  # what is deployed, to the last bit
      range_ = ranges.current_weight_range(kernel, node, form.per_channel)
      return uniform.quantize(kernel, range_, bits, True)
    return affine.quantize(kernel, self._grid(kernel, node))

  def weight_unit(self, kernel, node):
    form = self.scheme.form
    if form.quantizes == "activations":
      return 1.0
    if form.weights == "symmetric":
      range_ = ranges.current_weight_range(kernel, node, form.per_channel)
      return uniform.step(range_, self.bits[f"{node.name}.weight"], True)
    return self._grid(kernel, node).step

  def _grid(self, kernel, node):
    """Grid of weights that are not symmetric."""
    form = self.scheme.form
    axes = ranges.weight_axes(kernel, node, form.per_channel)
    low, high = extremes.ends(jax.lax.stop_gradient(kernel), axes, True)
    return affine.grid(
      low, high, self.bits[f"{node.name}.weight"], form.weights
    )

  def activation(self, x, site):
    signed = self.call.net.is_signed[site]
    form, bits = self.scheme.form, self.bits[site]
    if form.quantizes == "weights":
      return x if signed else jax.nn.relu(x)
    if site == INPUT_SITE:
      return uniform.quantize(x, self._range(site), bits, signed)
    # A pool's output lies between the ends: the first tensor of a site counts.
    if self.call.train and site not in self.moved:
      self.moved.add(site)
      self.ends[site] = ranges.moved_ends(
        self.call, self.ends[site], x, site, self.scheme.decay
      )
    ends = self.ends[site]
    if signed and form.activations == "affine":
      return affine.quantize(x, affine.grid(ends[0], ends[1], bits, "affine"))
    return uniform.quantize(x, self._range(site), bits, signed)

  def activation_unit(self, site):
    signed = self.call.net.is_signed[site]
    form, bits = self.scheme.form, self.bits[site]
    if form.quantizes == "weights":
      return 1.0
    if site != INPUT_SITE and signed and form.activations == "affine":
      low, high = self.ends[site][0], self.ends[site][1]
      return affine.grid(low, high, bits, "affine").step
    return uniform.step(self._range(site), bits, signed)

  def output(self, sums, bias, kernel, node):
    return _output(self, sums, bias, kernel, node)

  def _range(self, site):
    if site == INPUT_SITE:
      return jnp.float32(1.0)
    return (
      self.shared[site] if site in self.shared else largest(self.ends[site])
    )


def _output(
  quantizer: _FixedLearnedQuantizer | _FixedMinMaxQuantizer,
  sums: Array,
  bias: Array,
  kernel: Array,
  node: Node,
) -> Array:
  """`sums + bias`; outside of training both in steps of the sums.

  So logits tie where the integers' do. Exact below sums of 2^24 codes.
  """
  call, form = quantizer.call, quantizer.scheme.form
  site = call.net.site_of[node.inputs[0]]
  if call.train or site is None or form.quantizes != "both":
    return sums + bias
  weight_unit = jnp.ravel(quantizer.weight_unit(kernel, node))
  unit = weight_unit * quantizer.activation_unit(site)
  codes = jnp.round(sums / unit) + jnp.round(bias / unit)
  # Rounding has no slope: gradients are those of what was rounded
  exact = sums + bias
  return jax.lax.stop_gradient(codes * unit) + (
    exact - jax.lax.stop_gradient(exact)
  )


def largest(ends: Array) -> Array:
  """[]: the range of which `moving_ends` are the ends, at least 1e-8."""
  return jnp.maximum(jnp.max(jnp.abs(ends)), 1e-8)
