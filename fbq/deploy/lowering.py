"""From a trained network and an assignment to integers."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbq import precision
from fbq.deploy import packing
from fbq.deploy import requant as rq
from fbq.deploy.integer import IntegerNet, code_range, requant_of
from fbq.nets.graph import INPUT, INPUT_SITE, Net, Node
from fbq.quantizers import uniform
from fbq.variables import check_numbers

OPS = ("conv", "depthwise", "linear", "add", "avg_pool", "max_pool")
BN_EPSILON = 1e-5  # of fbq.model


class UnsupportedError(ValueError):
  """A layer that a target cannot run; the message names it and a cure."""


def check_supported(net: Net) -> None:
  """Raises UnsupportedError, naming the layer, unless `net` can be lowered."""
  for node in net.nodes:
    where = f"net {net.name!r}: layer {node.name!r} ({node.op})"
    if node.op not in OPS:
      raise UnsupportedError(
        f"{where} has no integer form; supported are {', '.join(OPS)}"
      )
    if node.activation not in ("relu", "none"):
      raise UnsupportedError(
        f"{where} has activation {node.activation!r}; use 'relu' or 'none'"
      )
    if node.layer_scale:
      raise UnsupportedError(
        f"{where} has a layer scale, which is not lowered; fold it into the "
        "layer's weights and bias"
      )
    if node.is_output and (
      node.op != "linear" or node.norm or node.activation != "none" or node.clip
    ):
      raise UnsupportedError(
        f"{where} makes the logits; only a linear layer without batch norm and "
        "activation can, which leaves them in one scale"
      )
    if not node.has_weights and (node.norm or node.activation == "relu"):
      if node.norm or node.op != "add":
        raise UnsupportedError(
          f"{where} has batch norm or an activation of its own; put them into "
          "the layer before"
        )


def lower(
  net: Net,
  variables: Mapping[str, Any],
  assignment: precision.Precision,
  width: int = 32,
) -> IntegerNet:
  """The integers of a trained network.

  Args:
    net: network of the trained model.
    variables: "params", "batch_stats" and "ranges" of a model under `Fixed`.
    assignment: bits of every site.
    width: bits in which requantization is computed; 32 is what PULP does by
      default, 64 leaves hardly a code different and costs time and memory.

  Raises:
    UnsupportedError: a layer has no integer form.
    ValueError: variables or assignment do not fit the network, or variables
      are not finite.
  """
  # Before anything is lowered. NaN would become some code or other, the same
  # in every comparison.
  check_supported(net)
  check_numbers(variables)
  precision.check_assignment(net, assignment, ladder=packing.LADDER)
  for site in variables.get("ranges", ()):
    if site != (owner := net.step_site.get(site, site)):
      raise ValueError(
        f"ranges[{site!r}] was given, but {net.name} adds that to {owner!r}, "
        "in the step of the latter: these variables are of another network, "
        "which had a step for each; train it again"
      )

  # In the order of the network: a layer reads the steps of those before it
  lowering = _Lowering(net, _numpy(variables), dict(assignment), width)
  for node in net.nodes:
    lowering.add(node)
  return IntegerNet(
    *(net, lowering.bits, width),
    lowering.layers,
    lowering.steps,
    lowering.affine,
    lowering.reach,
    lowering.codes,
  )


class _Lowering:
  """Collects the constants of layer after layer."""

  def __init__(self, net, variables, bits, width):
    self.net, self.bits, self.width = net, bits, width
    self.params = variables.get("params", {})
    self.stats = variables.get("batch_stats", {})
    self.ranges = variables.get("ranges", {})
    self.layers: dict[str, dict[str, np.ndarray]] = {}
    self.affine: dict[str, rq.Affine] = {}
    self.reach: dict[str, rq.Range] = {}
    shape = net.input_shape[2:]
    zero = np.array(net.image_zero or 0)
    image = (np.full(shape, end) - zero for end in self._code_range(INPUT))
    self.codes: dict[str, rq.Range] = {INPUT: rq.Range(*image)}
    self.steps: dict[str, np.ndarray] = {
      site: self._step(owner) for site, owner in net.step_site.items()
    }

  def add(self, node: Node) -> None:
    if node.op == "max_pool":
      low, _ = self._code_range(node.inputs[0])
      self.layers[node.name] = {"low": np.array(low, np.int32)}
      self.codes[node.name] = self.codes[node.inputs[0]]
    elif node.op == "avg_pool":
      self._average(node)
    elif node.op == "add":
      self._adder(node)
    else:
      self._weighted(node)

  def _weighted(self, node):
    kernel = self._variable("params", f"{node.name}_kernel")
    weight, weight_step = self._weight(node, kernel)
    reach = self._reachable(node, weight)
    limit = np.max(np.abs(reach))
    if limit >= 2**31:
      raise UnsupportedError(
        f"net {self.net.name!r}: layer {node.name!r} can sum up to {limit}, "
        "more than 32 bits hold; lower the bits of its weights or input"
      )
    self.layers[node.name] = {"weight": weight.astype(np.int8)}
    # acc stands for acc * step + bias
    step = self._step_of(node.inputs[0]) * weight_step
    step = np.broadcast_to(step, weight.shape[-1:])
    bias = np.zeros(weight.shape[-1])
    if node.bias:
      bias = bias + self._variable("params", f"{node.name}_bias")
    if node.is_output:
      self._logits(node, step, bias, reach)
      return
    if node.norm:
      norm = self._variable("params", f"{node.name}_norm")
      stat = self._variable("batch_stats", f"{node.name}_norm")
      slope = norm["scale"] / np.sqrt(stat["var"] + BN_EPSILON)
      step, bias = step * slope, (bias - stat["mean"]) * slope + norm["bias"]
    scale = self._step_of(node.name)
    self._requantize(node, rq.Affine(step / scale, bias / scale), reach)

  def _logits(self, node, step, bias, reach):
    codes = np.rint(bias / step)
    if max(np.abs(end + codes).max() for end in reach) >= 2**31:
      raise UnsupportedError(
        f"net {self.net.name!r}: the biases of layer {node.name!r} are too "
        f"large for 32-bit logits in steps of {step[0]:.3g}"
      )
    self.layers[node.name]["bias"] = codes.astype(np.int32)
    self.steps[node.name] = step[0]
    self.affine[node.name] = rq.Affine(step, bias)

  def _average(self, node):
    height, width = node.kernel or self.net.shapes[node.inputs[0]][:2]
    count = height * width
    codes = self._padded_codes(node)
    reach = rq.Range(
      codes.low.min(keepdims=True) * count,
      codes.high.max(keepdims=True) * count,
    )
    affine = rq.Affine(np.array([1 / count]), np.zeros(1))
    self._requantize(node, affine, reach, half_up=True)
    self.codes[node.name] = codes  # means lie between

  def _adder(self, node):
    """Sums of two codes are short: 32 bits, the kernel's, lose nothing."""
    first, second = (self._step_of(name) for name in node.inputs)
    if first != second:
      raise UnsupportedError(
        f"net {self.net.name!r}: layer {node.name!r} adds codes of two steps, "
        f"{first:.6g} and {second:.6g}; fix the bits of what is added"
      )
    sums = rq.Range(*map(np.add, *(self.codes[name] for name in node.inputs)))
    slope = first / self._step_of(node.name)
    affine = rq.Affine(np.array([slope]), np.zeros(1))
    reach = rq.Range(sums.low.min(keepdims=True), sums.high.max(keepdims=True))
    self._requantize(node, affine, reach, width=32)
    self.codes[node.name] = self._codes_at(node, sums)

  def _requantize(self, node, affine, reach, half_up=False, width=None):
    low, high = self._code_range(node.name)
    width = width or self.width
    integer = np.int32 if width == 32 else np.int64
    try:
      found = rq.fit(affine, reach, low, high, width, half_up)
    except ValueError as error:
      raise UnsupportedError(
        f"net {self.net.name!r}: layer {node.name!r}: {error}"
      ) from error
    self.affine[node.name], self.reach[node.name] = affine, reach
    self.layers[node.name] = self.layers.get(node.name, {}) | {
      "mul": found.mul.astype(integer),
      "add": found.add.astype(integer),
      "shift": np.array(found.shift, np.int32),
      "low": np.array(low, np.int32),
      "high": np.array(high, np.int32),
    }
    self.codes[node.name] = self._codes_at(node, reach)

  def _codes_at(self, node, ends):
    """Codes that sums of a range give, the integer's and the exact ones."""
    low, high = self._code_range(node.name)
    part, affine = self.layers[node.name], self.affine[node.name]
    requant = requant_of(part)
    codes = [requant(end) for end in ends]
    codes += [rq.reference_codes(end, affine, low, high) for end in ends]
    return rq.Range(np.min(codes, axis=0), np.max(codes, axis=0))

  def _reachable(self, node, weight):
    """The accumulators that the codes of the input can give: int64 [O].

    Every input takes the end of its channel that its weight makes worst.
    """
    codes = self._padded_codes(node)
    if node.op == "linear":
      pixels = weight.shape[0] // len(codes.low)
      codes = rq.Range(*(np.tile(end, pixels)[:, None] for end in codes))
    elif node.op == "conv":
      codes = rq.Range(*(end[:, None] for end in codes))
    low, high = (weight * end for end in codes)
    axes = tuple(range(weight.ndim - 1))
    return rq.Range(
      np.minimum(low, high).sum(axes), np.maximum(low, high).sum(axes)
    )

  def _padded_codes(self, node):
    """Codes that a node meets in its input: zeros too, where it is padded."""
    low, high = self.codes[node.inputs[0]]
    if np.any(node.padding):
      low, high = np.minimum(low, 0), np.maximum(high, 0)
    return rq.Range(low, high)

  def _weight(self, node, kernel):
    """(codes int64, step [O] or []) of a kernel, as the quantizer rounds."""
    site = f"{node.name}.weight"
    range_ = self._range(site)
    bits = jnp.int32(self.bits[site])
    axes = tuple(range(kernel.ndim - range_.ndim))
    codes = uniform.codes(
      jnp.asarray(kernel, jnp.float32),
      jnp.asarray(np.expand_dims(range_, axes), jnp.float32),
      bits,
      True,
    )
    step = range_.astype(np.float32) / np.float32(2 ** (self.bits[site] - 1))
    self.steps[site] = step.astype(np.float64)
    return np.asarray(codes, np.int64), self.steps[site]

  def _step(self, site):
    """Step of a step site: the float32 number, in float64."""
    if site == INPUT_SITE:
      return np.array(np.float32(1) / np.float32(255), np.float64)
    signed = self.net.is_signed[site]
    _, high = code_range(self.bits[site], signed)
    steps = np.float32(high + signed)
    return np.array(np.float32(self._range(site)) / steps, np.float64)

  def _step_of(self, tensor):
    return self.steps[self.net.site_of[tensor]]

  def _code_range(self, tensor):
    """Lowest and highest code, the latter that of a clip where there is one."""
    site = self.net.site_of[tensor]
    signed = self.net.is_signed[site]
    low, high = code_range(self.bits[site], signed)
    if tensor in self.net.node and (clip := self.net.node[tensor].clip):
      range_ = jnp.float32(self.steps[site] * (high + signed))
      bits = jnp.int32(self.bits[site])
      high = int(uniform.codes(jnp.float32(clip), range_, bits, signed))
    return low, high

  def _range(self, site):
    range_ = self._variable("ranges", site)
    if not (np.isfinite(range_) & (range_ > 0)).all():
      raise ValueError(
        f"range of {site!r} is {np.min(range_):.4g} at least, expected "
        "positive numbers: train or calibrate the network first"
      )
    return range_

  def _variable(self, kind, name):
    found = getattr(self, {"batch_stats": "stats"}.get(kind, kind))
    if name not in found:
      raise ValueError(
        f"variables have no {kind}[{name!r}], which {self.net.name} needs; "
        "pass those of a fine-tuned or calibrated model"
      )
    return found[name]


def _numpy(tree):
  """Numbers in float64, which holds float32 exactly."""
  return jax.tree.map(lambda x: np.asarray(x, np.float64), dict(tree))
