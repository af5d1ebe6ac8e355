"""The weights of every layer rounded at every precision, each once.

An assignment takes of each layer what was rounded at its bits, so a whole front
of assignments needs one optimization for each layer and precision. A layer at b
bits is rounded for what the layers before it give at b bits: of uniform
networks this is AdaRound layer by layer, and in mixed ones, which a correction
of the means follows (`one_pass`), it beat rounding for 8-bit inputs (keyword
spotting, 30 random assignments of 2 to 8 bits: KL 0.135 against 0.159 nats).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fbq.nets.graph import Net, Node
from fbq.ptq import layer_inputs, moment_rounding
from fbq.ptq.walk import Walk
from fbq.quantizers import calibration, uniform
from fbq.quantizers.site_ranges import Ranges
from fbq.schemes.fixed import Fixed

MOST_BITS = 8


class RoundedLayer(NamedTuple):
  """A layer's weights at `K` precisions, in their order.

  Attributes:
    codes: int8 [K, ...], of the kernel's shape.
    ranges: float32 [K, O], or [K] of a layer with one range.
    shift: float32 [K, O], what its bias gets, or the mean of its batch norm
      loses.
    error: float64 [K], mean squared error of its outputs, that of the means
      left out.
    nearest_error: the same if weights are rounded to the nearest.
  """

  codes: np.ndarray
  ranges: np.ndarray
  shift: np.ndarray
  error: np.ndarray
  nearest_error: np.ndarray


def variables_at(
  net: Net,
  variables: Mapping[str, Any],
  layers: Mapping[str, RoundedLayer],
  ladder: Sequence[int],
  activations: Ranges,
  assignment: Mapping[str, int],
) -> dict[str, Any]:
  """Variables of the model of `net` under `Fixed`, weights on their grids.

  Args:
    net: the network.
    variables: "params" and "batch_stats" in float.
    layers: what was rounded; layers that are missing stay in float.
    ladder: the `K` precisions.
    activations: {site: {bits: range}}.
    assignment: bits of every site.
  """
  params, stats = dict(variables["params"]), dict(variables["batch_stats"])
  ranges = {}
  for site, by_bits in activations.items():
    ranges[site] = np.asarray(by_bits[assignment[site]], np.float32)
  for name, layer in layers.items():
    bits = assignment[f"{name}.weight"]
    k = ladder.index(bits)
    ranges[f"{name}.weight"] = layer.ranges[k]
    step = layer.ranges[k] / np.float32(2 ** (bits - 1))
    params[f"{name}_kernel"] = layer.codes[k].astype(np.float32) * step
    if net.node[name].norm:
      norm = stats[f"{name}_norm"]
      stats[f"{name}_norm"] = {**norm, "mean": norm["mean"] - layer.shift[k]}
    elif net.node[name].bias:
      params[f"{name}_bias"] = params[f"{name}_bias"] + layer.shift[k]
  return {"params": params, "batch_stats": stats, "ranges": ranges}


def round_layers(
  net: Net,
  variables: Mapping[str, Any],
  ranges: Ranges,
  ladder: Sequence[int],
  batches: Sequence[Any],
  steps: int = 1000,
  kept: Callable[[str, Callable[[], RoundedLayer]], RoundedLayer] = (
    lambda name, make: make()
  ),
) -> dict[str, RoundedLayer]:
  """{layer: its weights at every precision of weights}.

  The float network and one of each precision are computed side by side, layer
  by layer, so all of it takes K + 1 forward passes; they hold as many tensors.

  Args:
    net: network, its batch norms folded or not.
    variables: "params" and "batch_stats" of the float network.
    ranges: {site: {bits: range}} of activations at `MOST_BITS` and at those
      that the network fixes.
    ladder: precisions of weights.
    batches: images, all of one shape.
    steps: steps of AdaRound; 0 for coordinate descent alone.
    kept: (name of a layer, makes it) -> the layer, for what resumes.
  """
  found: dict[str, RoundedLayer] = {}
  assignments = [
    {
      site: bits if site.endswith(".weight") else MOST_BITS
      for site in net.workload.sites
    }
    for bits in ladder
  ]

  def rounded(node: Node) -> RoundedLayer:
    kernel = np.asarray(variables["params"][f"{node.name}_kernel"])
    if node.op not in layer_inputs.ROUNDED:
      return nearest(node, kernel, ladder)
    read = lambda walk: layer_inputs.patches(
      net, node.name, [tensors[0] for tensors in walk.read(node.name)]
    )
    x = read(in_float)
    moments = [
      layer_inputs.moments(node, kernel, read(walk), x) for walk in walks
    ]
    return _rounded(node, kernel, ladder, moments, steps)

  def at(name, assignment):
    """Variables that compute a node at some bits."""
    done = {name: found[name]} if name in found else {}
    return variables_at(net, variables, done, ladder, ranges, assignment)

  in_float = Walk(net, variables, batches)
  walks = [
    Walk(
      net,
      at("", assignment),
      batches,
      Fixed(),
      np.array([assignment[site] for site in net.workload.sites], np.int32),
    )
    for assignment in assignments
  ]
  for node in net.nodes:
    if node.has_weights:
      found[node.name] = kept(node.name, lambda node=node: rounded(node))
    in_float.step(node.name, variables)
    for walk, assignment in zip(walks, assignments, strict=True):
      walk.step(node.name, at(node.name, assignment))
  return found


def nearest(node: Node, kernel: np.ndarray, ladder: Sequence[int]):
  """A layer rounded to the nearest, in ranges of least squared error."""
  return _rounded(node, kernel, ladder, None, 0)


def _rounded(node: Node, kernel, ladder, moments, steps) -> RoundedLayer:
  """One layer; without moments rounded to the nearest."""
  per_channel = node.op != "linear"
  outputs = kernel.shape[-1]
  ranges = np.stack(
    [calibration.weight_ranges(kernel, per_channel, b) for b in ladder]
  )
  if moments is None:
    codes = [
      uniform.codes(jnp.asarray(kernel), jnp.asarray(r), jnp.int32(b), True)
      for b, r in zip(ladder, ranges, strict=True)
    ]
    nothing = np.full(len(ladder), np.nan)
    return RoundedLayer(
      np.stack(codes).astype(np.int8),
      ranges,
      np.zeros((len(ladder), outputs), np.float32),
      nothing,
      nothing,
    )

  # All precisions in one program
  whole = np.broadcast_to(
    ranges.reshape(len(ladder), -1), (len(ladder), outputs)
  )
  halves = np.array([2 ** (b - 1) for b in ladder], np.float32)
  step = whole / halves[:, None]
  is_depthwise = node.op == "depthwise"
  form = (-1, outputs, 1, 1) if is_depthwise else (-1, 1, 1, outputs)
  inputs, target, shift, mean = (
    np.stack(x) for x in zip(*(m[:4] for m in moments), strict=True)
  )
  few = moments[0].rows is not None
  solved = moment_rounding.round_columns(
    inputs,
    target,
    np.ascontiguousarray(step.reshape(form)),
    tuple(ladder),
    per_channel,
    steps,
    np.stack([m.rows for m in moments]) if few else None,
  )

  # What rounding itself changes of the mean
  if node.bias or node.norm:
    off = target - solved.codes * solved.step
    shift = shift + np.einsum("kgn,kgno->kgo", mean, off).reshape(-1, outputs)
  chosen = solved.step.reshape(len(ladder), -1) * halves[:, None]
  return RoundedLayer(
    np.stack(
      [
        layer_inputs.kernel_of(node, codes, kernel.shape)
        for codes in solved.codes
      ]
    ),
    chosen if per_channel else chosen[:, 0],
    shift.astype(np.float32),
    solved.error,
    solved.nearest_error,
  )
