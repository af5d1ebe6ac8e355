"""Layers that DORY refuses, or that its kernels compute otherwise.

Read in the sources of DORY (be3d6dd) and pulp-nn-mixed (46d966d), and seen by
running both: docs/facts/quantization.md 3.7, docs/facts/pulp.md.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fbq.deploy.integer import IntegerNet, code_range
from fbq.deploy.lowering import UnsupportedError
from fbq.nets.graph import INPUT, Node
from hwsim.pulp import Target
from hwsim.pulp.geometry import Bits, of_layer
from hwsim.pulp.l1_bytes import fits_whole
from hwsim.workload import Layer


class _Part(NamedTuple):
  """A layer of a network, with its precisions.

  Attributes:
    node, layer: the layer, as it is trained and as the hardware sees it.
    in_sites, in_bits: precision site and bits of each input.
    weight_bits: bits of its weights; 8 if it has none.
    out_site, out_bits: precision site and bits of its output; 32 of logits.
  """

  node: Node
  layer: Layer
  in_sites: tuple[str, ...]
  in_bits: tuple[int, ...]
  weight_bits: int
  out_site: str
  out_bits: int

  @property
  def bits(self) -> tuple[int, int, int]:
    """Bits of input, weights and output."""
    return self.in_bits[0], self.weight_bits, self.out_bits


def check_supported(network: IntegerNet, target: Target) -> None:
  """Raises UnsupportedError, with every layer of `problems`, if there are any.

  Args:
    network: network in integers.
    target: hardware, whose kernels and L1 count.
  """
  found = [f"layer {name!r} {why}" for name, why in problems(network, target)]
  if found:
    raise UnsupportedError(
      f"DORY cannot take {network.net.name}: {'; '.join(found)}"
    )


def problems(network: IntegerNet, target: Target) -> list[tuple[str, str]]:
  """(layer, what is wrong and what to change) of all that would run otherwise.

  Args:
    network: network in integers.
    target: hardware, whose kernels and L1 count.
  """
  return [
    (part.node.name, f"({part.node.op}) {problem}")
    for part in _parts(network)
    for problem in _problems(network, part, target)
  ]


def _parts(network) -> Iterator[_Part]:
  net, bits = network.net, network.bits
  for node, layer in zip(net.nodes, net.workload.layers, strict=True):
    in_sites = tuple(network.site(name) for name in node.inputs)
    out_site = "" if node.is_output else network.site(node.name)
    yield _Part(
      node,
      layer,
      in_sites,
      tuple(bits[site] for site in in_sites),
      bits[f"{node.name}.weight"] if node.has_weights else 8,
      out_site,
      bits[out_site] if out_site else 32,
    )


def _problems(network, part, target) -> Iterator[str]:
  """What is wrong with a layer, as the end of a sentence about it."""
  if part.node.op == "add":
    yield from _adder(network, part)
  if part.node.op in ("avg_pool", "max_pool"):
    yield from _pool(network, part)
  if INPUT in part.node.inputs and (zero := network.net.image_zero):
    yield (
      f"reads an image with zero {zero}, and kernels pad with code 0: of a "
      "network out of a file, compress it with border='black'"
    )
  if part.node.clip:
    yield from _clip(network, part)
  yield from _bytes(part)
  if part.node.op == "linear":
    yield from _flattened(network, part)
    yield from linear_sizes(part.layer, part.bits, target)
  if part.node.op == "depthwise":
    yield from right_border(part.layer)
    yield from _few_weights(part.layer)
    yield from _shared_bytes(part)
  if part.node.has_weights:
    yield from _small_map(part, target, network.width)
    yield from _constants(network, part)
  if part.node.name in network.reach:
    yield from _quotients(network, part)


def _adder(network, part) -> Iterator[str]:
  """Adders have 8 bits, and two operands that other layers made.

  The code that DORY writes hands an adder what the layer before it made.
  """
  names = list(network.net.node)
  before = names[max(names.index(part.node.name) - 1, 0)]
  first, second = part.node.inputs
  if before not in part.node.inputs:
    yield f"comes after {before!r}, which it does not add; move it up"
  if INPUT in part.node.inputs or first == second:
    yield "must add the outputs of two different layers"
  if {*part.in_bits, part.out_bits} != {8}:
    yield (
      f"adds tensors of {list(part.in_bits)} bits to one of {part.out_bits}; "
      f"set {[*part.in_sites, part.out_site]} to 8"
    )


def _pool(network, part) -> Iterator[str]:
  """At padding the kernels agree only on maxima of what is not negative."""
  low, _ = network.ends(part.node.inputs[0])
  if np.any(part.node.padding) and (part.node.op == "avg_pool" or low < 0):
    yield "is padded, which the kernel does otherwise; remove it"


def _clip(network, part) -> Iterator[str]:
  """Kernels clip at the highest code alone."""
  _, high = network.ends(part.node.name)
  signed = network.net.is_signed[part.out_site]
  _, highest = code_range(part.out_bits, signed)
  if high < highest:
    yield (
      f"clips at {part.node.clip:g}, code {high} of {highest}; give it a range "
      f"of at most {part.node.clip:g}"
    )


def _bytes(part) -> Iterator[str]:
  """Codes below 8 bits are packed along channels, which must fill their bytes.

  A kernel unpacks input and weights together, so the narrower one decides; in a
  depthwise kernel, and in one without weights, the output goes with them.
  """
  node, layer = part.node, part.layer
  operands = dict(zip(part.in_sites, part.in_bits, strict=True))
  if node.has_weights:
    operands[f"{node.name}.weight"] = part.weight_bits
  if node.op not in ("conv", "linear"):
    operands[part.out_site] = part.out_bits
  yield from _odd(operands, layer.in_channels)
  yield from _odd({part.out_site: part.out_bits}, layer.out_channels)


def _odd(operands, channels) -> Iterator[str]:
  least = min(operands.values())
  if least >= 8 or channels % (8 // least) == 0:
    return
  narrow = [site for site, bits in operands.items() if bits < 8]
  yield (
    f"packs {8 // least} channels of {least} bits into a byte and has "
    f"{channels}; set {' and '.join(narrow)} to 8 bits, or give it a multiple "
    f"of {8 // least} channels"
  )


def _flattened(network, part) -> Iterator[str]:
  """A linear layer reads pixels, packed as they were made."""
  (source,) = part.node.inputs
  height, width, channels = network.net.shapes[source]
  if (height, width) == (1, 1):
    return
  yield from _odd({part.in_sites[0]: part.in_bits[0]}, channels)
  if sum(source in node.inputs for node in network.net.nodes) > 1:
    yield (
      f"flattens {source!r}, which other layers read too; DORY loses track of "
      "it: let it have one reader"
    )


def linear_sizes(
  layer: Layer, bits: tuple[int, int, int], target: Target
) -> Iterator[str]:
  """Sizes at which kernels of linear layers go wrong.

  What of a row does not fill a register XpulpNN's take from a wrong address,
  and XpulpV2's twice or four times as much of it below 8 bits. XpulpNN's
  quantize all outputs of a core by the first one's multiplier, XpulpV2's an odd
  one by that of channel 0.

  Args:
    layer: linear layer.
    bits: bits of input, weights and output.
    target: hardware, whose kernels count.

  Yields:
    each problem.
  """
  inputs, outputs = layer.in_channels, layer.out_channels
  library, cores = target.other_library, target.cores
  lanes = 32 // min(bits[:2])
  if inputs % lanes and (library != "XpulpV2" or lanes > 4):
    yield (
      f"has {inputs} inputs, which {library}'s kernel reads by {lanes}; give "
      f"it a multiple of {lanes}"
    )

  # Logits are right, which are not quantized
  each = -(-outputs // cores)
  if bits[2] == 32:
    return
  if library != "XpulpV2" and each > 1:
    yield (
      f"has {outputs} quantized outputs, of which {library}'s kernel gets "
      f"{cores} right; make it a 1x1 convolution"
    )
  if library == "XpulpV2" and (outputs % 2 or each % 2):
    yield (
      f"has {outputs} quantized outputs, an odd number for a core, which "
      f"{library}'s kernel gets wrong; give it a multiple of {2 * cores}, or "
      "make it a 1x1 convolution"
    )


def right_border(layer: Layer) -> Iterator[str]:
  """Columns of zeros that a depthwise kernel puts in the wrong place.

  pulp-nn-mixed makes columns of the output in three loops. The first runs
  within the left padding, the second at least once, and only the third, within
  the right padding, writes zeros at the end of a row, for a stride of 1.
  """
  _, _, left, right = layer.padding
  stride, width = layer.stride, layer.out_width
  first = -(-left // stride)  # of the second loop
  third = max(first + 1, width - right // stride)

  # A column is right if as many zeros as lie beyond the row were written, and
  # if it is one of the output's.
  for column in range(max(width, first + 1)):
    end = column * stride - left + layer.kernel_width
    zeros = max(end - layer.in_width, 0)
    written = 1 + (column - width) * stride + right if column >= third else 0
    if zeros != written or column >= width:
      yield (
        f"is padded at the right and {width} pixels wide at stride {stride}, "
        "where the kernel reads the next row instead of zeros; give it a "
        "larger image, or a stride of 1 and at least 3 pixels"
      )
      return


def _few_weights(layer) -> Iterator[str]:
  """A depthwise kernel multiplies four weights at least once."""
  area = layer.kernel_height * layer.kernel_width
  if area < 4:
    yield (
      f"has {area} weights for a channel, and the kernel multiplies four at "
      "least; give it a larger kernel"
    )


def _shared_bytes(part) -> Iterator[str]:
  """Weights of 2 bits, of which a kernel reads four channels from a byte.

  One line of DORY would have to change: `add_checksum_w_integer` in
  dory/Parsers/HW_node.py groups channels by 2 and not by 8 // weight_bits.
  """
  if part.weight_bits == 2:
    yield (
      "has weights of 2 bits, which DORY packs by pairs of channels where the "
      f"kernel reads fours; set {part.node.name}.weight to 4 or 8 bits"
    )


def _small_map(part, target, width) -> Iterator[str]:
  """DORY's tiles are at least as large as the kernel, so it finds none.

  Unless the layer fits L1 as it is. It would end without code and without an
  error.
  """
  layer = part.layer
  exported = dataclasses.replace(target, constant_bits=width)
  is_smaller = (
    layer.in_height < layer.kernel_height or layer.in_width < layer.kernel_width
  )
  if is_smaller and not fits_whole(
    of_layer(layer), Bits(*part.bits), exported.constants
  ):
    yield (
      f"has a {layer.kernel_height}x{layer.kernel_width} kernel on a map of "
      f"{layer.in_height}x{layer.in_width} and does not fit L1 whole, for "
      "which DORY finds no tile; give it a larger image or fewer channels"
    )


def _quotients(network, part) -> Iterator[str]:
  """Kernels shift 64-bit sums and clip the lowest 32 bits of what is left."""
  requant = network.requant(part.node.name)
  worst = max(
    np.abs((end * requant.mul + requant.add) >> requant.shift).max()
    for end in network.reach[part.node.name]
  )
  if worst >= 2**31:
    yield (
      f"can reach a code of {worst:.3g} before it is clipped, and kernels clip "
      f"the lowest 32 bits of it; raise the range of {part.out_site}"
    )


def _constants(network, part) -> Iterator[str]:
  """Weights that DORY takes for others, numbers that it rounds."""
  constants = network.layers[part.node.name]
  if constants["weight"].size <= part.layer.out_channels:
    yield (
      "has no more weights than output channels, which DORY takes for no "
      "weights at all; give it more input channels"
    )
  if (
    "bias" in constants and (worst := np.abs(constants["bias"]).max()) >= 2**24
  ):
    yield (
      f"has a bias of {worst} codes, more than float32 holds exactly; raise "
      "the bits of its weights' range"
    )
