"""What a network asks of the hardware: operators, their sizes, their wiring.

A `Workload` is what `fbq.nets` hands to a cost model. It can also be written by
hand, so that hardware can be studied without any of the training code.
"""

import collections
import dataclasses
import functools
import math
from collections.abc import Mapping

OPS = (
  *("conv", "depthwise", "linear", "add", "avg_pool", "max_pool"),
  *("concat", "scale", "layer_norm", "conv_transpose", "matmul", "softmax"),
  *("upsample", "reshape", "embed", "select"),
)
WEIGHTED_OPS = ("conv", "depthwise", "linear", "conv_transpose")
_ENLARGING = ("conv_transpose", "upsample")  # by the stride
_ANY_CHANNELS = ("conv", "linear", "conv_transpose", "matmul")

Shape = tuple[int, int, int]
"""Height, width and channels of the tensor of one image."""


@dataclasses.dataclass(frozen=True)
class Layer:
  """Geometry of one operator, batch norm and activation function included.

  A pointwise convolution is a `conv` with a 1x1 kernel. The operators without
  weights have as many output as input channels. Heights, widths, kernel, stride
  and padding are in pixels; `linear` has height = width = 1. Of `concat`, whose
  inputs differ, the input is all of them together; of `scale`, the tensor that
  its second input (one pixel) multiplies; `layer_norm` and `softmax` are over
  the channels.

  Of `conv_transpose` every pixel makes stride x stride ones, its kernel's size;
  `upsample` makes as many without weights. `matmul` is the product of two
  activations for each of several heads: rows are the height, heads the width,
  in_channels what is summed, out_channels the columns of the second input.
  `embed` puts rows of its own (padding) before the tokens that it reads and
  adds a learned number to each; `select` takes the first pixel.

  Attributes:
    name: unique in its workload; not part of the geometry.
    op: one of `OPS`.
    padding: rows or columns of zeros at (top, bottom, left, right).
  """

  name: str
  op: str
  in_channels: int
  out_channels: int
  in_height: int = 1
  in_width: int = 1
  kernel_height: int = 1
  kernel_width: int = 1
  stride: int = 1
  padding: tuple[int, int, int, int] = (0, 0, 0, 0)

  def __post_init__(self):
    if self.op not in OPS:
      raise ValueError(
        f"layer {self.name!r}: op is {self.op!r}, expected one of {OPS}"
      )

    # A workload may be written by hand, so whatever would give senseless cycles
    # is refused here, where the layer's name is known.
    for field in (
      "in_channels",
      "out_channels",
      "in_height",
      "in_width",
      "kernel_height",
      "kernel_width",
      "stride",
    ):
      if getattr(self, field) < 1:
        raise ValueError(
          f"layer {self.name!r}: {field} is "
          f"{getattr(self, field)}, expected at least 1"
        )

    if len(self.padding) != 4 or min(self.padding) < 0:
      raise ValueError(
        f"layer {self.name!r}: padding is {self.padding}, expected four "
        "non-negative numbers (top, bottom, left, right)"
      )

    if self.op == "conv_transpose" and (
      (self.kernel_height, self.kernel_width) != (self.stride, self.stride)
      or any(self.padding)
    ):
      raise ValueError(
        f"layer {self.name!r}: conv_transpose has a kernel of "
        f"{self.kernel_height}x{self.kernel_width}, a stride of {self.stride} "
        f"and padding {self.padding}, expected a kernel of the stride's size "
        "and no padding, so that no two of its patches overlap"
      )

    top, bottom, left, right = self.padding
    for axis, kernel, size in (
      ("height", self.kernel_height, self.in_height + top + bottom),
      ("width", self.kernel_width, self.in_width + left + right),
    ):
      if kernel > size and self.op not in _ENLARGING:
        raise ValueError(
          f"layer {self.name!r}: kernel {axis} {kernel} is larger than its "
          f"padded input {axis} {size}"
        )

    if self.op not in _ANY_CHANNELS:
      if self.in_channels != self.out_channels:
        raise ValueError(
          f"layer {self.name!r}: {self.op} has {self.in_channels} input and "
          f"{self.out_channels} output channels, expected the same number"
        )

    if self.op == "linear" and (self.in_height, self.in_width) != (1, 1):
      raise ValueError(
        f"layer {self.name!r}: linear takes one pixel, got "
        f"{self.in_height}x{self.in_width}; flatten it first"
      )

  @property
  def out_height(self) -> int:
    if self.op in _ENLARGING:
      return self.in_height * self.stride
    padded = self.in_height + self.padding[0] + self.padding[1]
    return (padded - self.kernel_height) // self.stride + 1

  @property
  def out_width(self) -> int:
    if self.op in _ENLARGING:
      return self.in_width * self.stride
    padded = self.in_width + self.padding[2] + self.padding[3]
    return (padded - self.kernel_width) // self.stride + 1

  @property
  def has_weights(self) -> bool:
    return self.op in WEIGHTED_OPS

  @property
  def multiplies(self) -> bool:
    """Whether it multiplies two tensors, weights or not, and sums."""
    return self.has_weights or self.op == "matmul"

  @property
  def weight_count(self) -> int:
    """Elements of the weight tensor (no bias, no batch norm)."""
    if not self.has_weights:
      return 0
    inputs = 1 if self.op == "depthwise" else self.in_channels
    return self.out_channels * inputs * self.kernel_height * self.kernel_width

  @property
  def macs(self) -> int:
    """Multiply-accumulates; by convention of weights and matmuls alone."""
    if self.op == "matmul":
      return self.in_channels * self.out_count
    if self.op == "conv_transpose":
      return self.weight_count * self.in_height * self.in_width
    return self.weight_count * self.out_height * self.out_width

  @property
  def in_count(self) -> int:
    """Elements of one input tensor, the first of a `matmul`; of all together
    for `concat`."""
    return self.in_channels * self.in_height * self.in_width

  @property
  def out_count(self) -> int:
    """Elements of the output tensor."""
    return self.out_channels * self.out_height * self.out_width

  @property
  def geometry(self) -> "Layer":
    """The layer without its name: equal for layers that cost the same."""
    return dataclasses.replace(self, name="")


@dataclasses.dataclass(frozen=True)
class Workload:
  """Layers in the order they run, with their wiring and precision sites.

  A *site* is the name of a tensor that has a precision. Tensors that must share
  one (a pooled tensor and its source, for instance) have the same site name.

  Attributes:
    name: name of the network, for reports.
    layers: `L` operators in topological order.
    sources: per layer, the index of the layer that makes each of its inputs; -1
      is the input of the network.
    input_sites: per layer, the precision site of each input tensor.
    output_sites: per layer, the precision site of its output tensor, or None
      where it is not quantized (the logits, 32-bit accumulators).
    fixed_bits: sites whose precision is given, as (site, bits) pairs: the input
      image, tensors that meet at an adder.
    functions: (layer, activation function) pairs of the layers that end in more
      than a clip at zero, which integer kernels do not have for nothing.
    stored_shapes: shapes in which the image and then every output lie in
      memory, where layers read them as others: a linear layer takes an image
      for channels. (): as the layers have them.
  """

  name: str
  layers: tuple[Layer, ...]
  sources: tuple[tuple[int, ...], ...]
  input_sites: tuple[tuple[str, ...], ...]
  output_sites: tuple[str | None, ...]
  fixed_bits: tuple[tuple[str, int], ...] = ()
  functions: tuple[tuple[str, str], ...] = ()
  stored_shapes: tuple[Shape, ...] = ()

  def __post_init__(self):
    names = [layer.name for layer in self.layers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
      raise ValueError(
        f"workload {self.name!r}: layer names {twice} occur more than once"
      )
    for field in ("sources", "input_sites", "output_sites"):
      if len(getattr(self, field)) != len(self.layers):
        raise ValueError(
          f"workload {self.name!r}: {field} has {len(getattr(self, field))} "
          f"entries for {len(self.layers)} layers"
        )
    if self.stored_shapes:
      stored = [math.prod(shape) for shape in self.stored_shapes[1:]]
      if stored != [layer.out_count for layer in self.layers]:
        raise ValueError(
          f"workload {self.name!r}: stored_shapes {self.stored_shapes} are not "
          "one of the image and one of every output, of as many elements"
        )
    for index, (layer, sources) in enumerate(
      zip(self.layers, self.sources, strict=True)
    ):
      for source in sources:
        if not -1 <= source < index:
          raise ValueError(
            f"workload {self.name!r}: layer {layer.name!r} reads layer "
            f"number {source}, expected -1 (the input) to {index - 1}"
          )

  @property
  def macs(self) -> int:
    return sum(layer.macs for layer in self.layers)

  @property
  def weight_count(self) -> int:
    return sum(layer.weight_count for layer in self.layers)

  @functools.cached_property
  def index(self) -> dict[str, int]:
    """Layer name -> position."""
    return {layer.name: i for i, layer in enumerate(self.layers)}

  def output_shape(self, index: int) -> Shape:
    """Shape in which the output of a layer is stored."""
    if self.stored_shapes:
      return self.stored_shapes[1 + index]
    layer = self.layers[index]
    return layer.out_height, layer.out_width, layer.out_channels

  def input_shapes(self, index: int) -> tuple[Shape, ...]:
    """Shapes in which the inputs of a layer are stored, as they were made."""
    layer = self.layers[index]
    image = layer.in_height, layer.in_width, layer.in_channels
    if self.stored_shapes:
      image = self.stored_shapes[0]
    return tuple(
      image if source < 0 else self.output_shape(source)
      for source in self.sources[index]
    )

  @functools.cached_property
  def in_place(self) -> frozenset[int]:
    """Positions of the `concat` layers that move nothing.

    Those whose inputs are written where they belong: each is the output of
    another layer, at the precision of the concatenated tensor, and part of no
    other concatenation.
    """
    uses = collections.Counter(
      source
      for layer, sources in zip(self.layers, self.sources, strict=True)
      if layer.op == "concat"
      for source in sources
    )
    return frozenset(
      i
      for i, layer in enumerate(self.layers)
      if layer.op == "concat"
      and all(
        source >= 0 and uses[source] == 1 and site == self.output_sites[i]
        for source, site in zip(
          self.sources[i], self.input_sites[i], strict=True
        )
      )
    )

  @staticmethod
  def weight_site(layer: Layer) -> str:
    """Name of the precision site of a layer's weights."""
    return f"{layer.name}.weight"

  def operands(self, index: int) -> tuple[str, str]:
    """Sites of the two tensors that a layer multiplies.

    Raises:
      ValueError: the layer multiplies none; names it.
    """
    layer, sites = self.layers[index], self.input_sites[index]
    if not layer.multiplies:
      raise ValueError(
        f"layer {layer.name!r}: {layer.op} multiplies no two tensors"
      )
    second = self.weight_site(layer) if layer.has_weights else sites[1]
    return sites[0], second

  @functools.cached_property
  def sites(self) -> tuple[str, ...]:
    """Every precision site once, in the order the network meets it."""
    found: dict[str, None] = {}
    for layer, reads, writes in zip(
      self.layers, self.input_sites, self.output_sites, strict=True
    ):
      found.update(dict.fromkeys(reads))
      if layer.has_weights:
        found[self.weight_site(layer)] = None
      if writes is not None:
        found[writes] = None
    return tuple(found)

  @functools.cached_property
  def free_sites(self) -> tuple[str, ...]:
    """The sites whose precision can be chosen."""
    fixed = dict(self.fixed_bits)
    return tuple(site for site in self.sites if site not in fixed)

  def site_bits(self, precision: Mapping[str, int]) -> dict[str, int]:
    """Bits of every site: those given, and the fixed ones where left out.

    Raises:
      ValueError: a site has no bits, is unknown, or has other than its fixed
        bits.
    """
    fixed = dict(self.fixed_bits)
    bits = fixed | dict(precision)
    for problem, sites in (
      ("no bits for", [site for site in self.sites if site not in bits]),
      ("unknown", [site for site in precision if site not in self.sites]),
      (
        f"fixed bits {fixed} do not allow",
        [site for site in fixed if bits[site] != fixed[site]],
      ),
    ):
      if sites:
        raise ValueError(f"workload {self.name!r}: {problem} sites {sites}")
    return {site: bits[site] for site in self.sites}
