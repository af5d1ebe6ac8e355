"""How faithful an integer network is to the fake-quantized one it was made of.

Three arithmetics are told apart, layer by layer, on the same input codes:

  trained    the fake-quantized network as it is trained, in float32
  exact      what that stands for, in float64: codes of the layer's output
  integer    what the target computes

"integer" against "exact" is settled for every input there can be, by
`IntegerNet.agreement`; "trained" against "exact" is the noise of float32. Of
ResNet-8 at 8 bits it moves 1 of 500,000 codes, at ties, where they would differ
by float32's last bits; exact sums of codes would leave 40 % of those, for batch
norm and quantizer round too (2026-11-26, 200 images of Fashion-MNIST). One of
them may change a class. So classes are compared with the exact network's, too,
wherever all its codes are proven to be the integers'.
"""

import collections
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbq import precision
from fbq.deploy import integer, packing
from fbq.deploy import requant as rq
from fbq.model import Model
from fbq.nets.graph import INPUT, Net
from fbq.quantizers import shared_steps, uniform
from fbq.schemes.fixed import Fixed


class LayerReport(NamedTuple):
  """One layer of an integer network against the fake-quantized one.

  Attributes:
    layer, op: name and operator of the layer.
    values: codes compared on images.
    off_by: {N: codes that differ by N} where the layer is given the trained
      network's codes.
    end_to_end: {N: codes that differ by N} where the layer is given the integer
      network's codes.
    float_noise: codes of the trained network that are not the exact ones.
    channels, equal_channels: channels of the layer, and those proven equal to
      the exact ones for every accumulator there can be.
    reachable, differing: accumulators there can be, and those whose code
      differs from the exact one.
    largest: largest difference from the exact code.
    mul_bits: bits of the smallest multiplier that is not 0; 0 if there is none.
    shift: shift of the layer; -1 if it has none.
  """

  layer: str
  op: str
  values: int
  off_by: Mapping[int, int]
  end_to_end: Mapping[int, int]
  float_noise: int
  channels: int
  equal_channels: int
  reachable: int
  differing: int
  largest: int
  mul_bits: int
  shift: int

  @property
  def cause(self) -> str:
    """Why codes differ, in a few words; empty if none do."""
    causes = []
    if self.differing:
      causes.append(f"multipliers of down to {self.mul_bits} bits")
    if self.float_noise:
      causes.append("float32 noise at ties")
    return "; ".join(causes)


class Faithfulness(NamedTuple):
  """An integer network against the fake-quantized one on some images.

  Attributes:
    layers: reports of all layers but the last.
    images: number of images compared.
    same_class: images of which both predict the same class.
    classes: int [B], the integer network's predictions.
    trained_classes: int [B], predictions of the fake-quantized network.
    exact_classes: int [B], its predictions in float64, if all codes in between
      are proven to be those of the integers; else None.
    logit_error: largest difference of logits, in the trained network's unit.
  """

  layers: tuple[LayerReport, ...]
  images: int
  same_class: int
  classes: np.ndarray
  trained_classes: np.ndarray
  exact_classes: np.ndarray | None
  logit_error: float

  @property
  def same_exact_class(self) -> int | None:
    """Images of which float64 predicts the same class; None if unknown."""
    if self.exact_classes is None:
      return None
    return int((self.classes == self.exact_classes).sum())


def trained_codes(
  net: Net,
  variables: Mapping[str, Any],
  bits: np.ndarray,
  images: jax.Array,
) -> dict[str, jax.Array]:
  """int32 codes of every tensor of the fake-quantized network; float logits.

  Compiled once per network and batch.

  Args:
    net: network of the trained model.
    variables: variables of the model of `net` under `Fixed`.
    bits: int [S], see `precision.to_array`.
    images: [B, H, W, C], values in [0, 1].
  """
  kinds = ("params", "batch_stats", "ranges")
  variables = {kind: variables[kind] for kind in kinds if kind in variables}
  return _trained_codes(net, variables, jnp.asarray(bits), images)


@functools.partial(jax.jit, static_argnums=0)
def _trained_codes(net, variables, bits, images):
  logits, seen = Model(net, Fixed()).apply(
    variables, images, train=False, data=bits, mutable="intermediates"
  )
  # Not zip: iterating over more than a hundred fails while tracing.
  by_site = {site: bits[i] for i, site in enumerate(net.workload.sites)}
  ranges = shared_steps.of_all_sites(net, variables["ranges"], by_site)
  sown = seen["intermediates"]
  tensors: dict[str, Any] = {name: x[0] for name, x in sown.items()}
  tensors[INPUT] = images
  codes = {}
  for name, x in tensors.items():
    site = net.site_of[name]
    if site is None:
      continue
    codes[name] = uniform.codes(
      x, ranges[site], by_site[site], net.is_signed[site]
    )
  return codes | {net.nodes[-1].name: logits}


def compare(
  network: integer.IntegerNet,
  variables: Mapping[str, Any],
  images: jax.Array,
  batch: int | None = None,
) -> Faithfulness:
  """What differs on images, and what can differ at all.

  Args:
    network: integer network, lowered from `variables`.
    variables: variables of the trained model under `Fixed`.
    images: [B, H, W, C], values in [0, 1].
    batch: images at a time; None: as `integer.images_at_a_time` has them.
  """
  # Counts add up over batches, so images need not fit memory at once.
  net = network.net
  batch = batch or integer.images_at_a_time(net)
  bits = precision.to_array(net, network.bits, packing.LADDER)
  forced = collections.defaultdict(collections.Counter)
  chained = collections.defaultdict(collections.Counter)
  noise, classes, trained_classes = collections.Counter(), [], []
  exact_classes = []
  logit_error, last = 0.0, net.nodes[-1].name
  for start in range(0, len(images), batch):
    trained = trained_codes(net, variables, bits, images[start : start + batch])

    # Layer by layer on the trained codes, so that a difference is told where it
    # arises; and end to end, as the target would run.
    sums, codes = _forced(network, trained)
    found = integer.integer_tensors(network, trained[INPUT])
    logits = np.asarray(found[last]) * network.steps[last]
    error = np.abs(logits - np.asarray(trained[last])).max()
    logit_error = max(logit_error, float(error))

    # Biases of logits are in steps of the sums in either: `schemes.fixed`
    part, affine = network.layers[last], network.affine[last]
    exact = np.asarray(found[last], np.int64) - part["bias"]
    exact = exact + np.rint(affine.offset / affine.slope)
    exact_classes.append((exact * affine.slope).argmax(-1))

    classes.append(logits.argmax(-1))
    trained_classes.append(np.asarray(trained[last]).argmax(-1))

    # Logits are compared above: they have no codes.
    for node in net.nodes[:-1]:
      expected = np.asarray(trained[node.name])
      forced[node.name].update(_off_by(codes[node.name], expected))
      chained[node.name].update(_off_by(found[node.name], expected))
      exact = _exact(network, node, sums[node.name])
      noise[node.name] += int((exact != expected).sum())

  # What can differ at all comes from `IntegerNet.agreement`, in `_report`.
  ours, theirs = np.concatenate(classes), np.concatenate(trained_classes)
  layers = tuple(
    _report(
      network,
      node,
      len(images),
      dict(forced[node.name]),
      dict(chained[node.name]),
      noise[node.name],
    )
    for node in net.nodes[:-1]
  )
  is_proven = all(x.equal_channels == x.channels for x in layers)
  return Faithfulness(
    layers,
    len(images),
    int((ours == theirs).sum()),
    ours,
    theirs,
    np.concatenate(exact_classes) if is_proven else None,
    logit_error,
  )


def _forced(network, trained):
  """Sums and codes of every layer that is given the trained network's codes."""
  with jax.enable_x64(network.width == 64):
    return _run_forced(network.net, network.layers, trained)


@functools.partial(jax.jit, static_argnums=0)
def _run_forced(net, layers, trained):
  sums, codes = {}, {}
  for node in net.nodes[:-1]:
    inputs = integer.read_by(net, node, trained)
    constants = layers[node.name]
    sums[node.name] = integer.accumulate(node, constants, inputs)
    codes[node.name] = integer.run_node(node, constants, inputs)
  return sums, codes


def _exact(network, node, sums):
  """Codes of a layer in float64, given the trained network's codes."""
  if node.op == "max_pool":
    return np.asarray(sums)
  requant = network.requant(node.name)
  return rq.reference_codes(
    np.asarray(sums),
    network.affine[node.name],
    requant.low,
    requant.high,
    node.op == "avg_pool",
  )


def _off_by(found, expected):
  apart = np.abs(np.asarray(found) - expected)
  sizes, counts = np.unique(apart[apart > 0], return_counts=True)
  return dict(zip(sizes.tolist(), counts.tolist(), strict=True))


def _report(network, node, images, off_by, end_to_end, noise):
  height, width, channels = network.net.shapes[node.name]
  found = LayerReport(
    layer=node.name,
    op=node.op,
    values=images * height * width * channels,
    off_by=off_by,
    end_to_end=end_to_end,
    float_noise=noise,
    channels=channels,
    equal_channels=channels,
    reachable=0,
    differing=0,
    largest=0,
    mul_bits=0,
    shift=-1,
  )
  if node.op == "max_pool":
    return found
  agreement, requant = network.agreement(node.name), network.requant(node.name)
  sizes = np.abs(requant.mul[requant.mul != 0])
  share = channels // len(agreement.differing)  # pools, adders: all alike
  return found._replace(
    equal_channels=share * int((agreement.differing == 0).sum()),
    reachable=int(agreement.reachable.sum()),
    differing=int(agreement.differing.sum()),
    largest=int(agreement.largest.max()),
    mul_bits=int(sizes.min()).bit_length() if len(sizes) else 0,
    shift=requant.shift,
  )
