"""A network as a table: everything else in fbq reads this one description.

The Flax module that trains it, the workload that `hwsim` costs, the precision
sites, the integer lowering and the exporters all interpret a `Net`.
"""

import dataclasses
import functools

from hwsim.workload import WEIGHTED_OPS, Layer, Workload

INPUT = "input"
INPUT_SITE = "input.out"
ADDER_BITS = 8
INPUT_BITS = 8
ACTIVATIONS = ("relu", "none")


@dataclasses.dataclass(frozen=True)
class Node:
  """One operator with its batch norm and activation function.

  These three run as one kernel on the target and share one output quantizer, so
  they are one row of the table.

  Attributes:
    name: unique; the tensor a node makes is called after it.
    op: "conv", "depthwise", "linear", "add", "avg_pool" or "max_pool".
    inputs: names of the nodes read, or "input" for the image.
    features: output channels of conv and linear; others keep their input's.
    kernel: (height, width) in pixels; None on a pool means the whole image.
    stride: in pixels, both axes.
    padding: pixels of zeros on all four sides, or (top, bottom, left, right).
    norm: batch norm follows.
    bias: a bias is added (where there is no batch norm).
    activation: "relu" or "none"; without one the output tensor is signed.
    is_output: the logits, which are not quantized.
  """

  name: str
  op: str
  inputs: tuple[str, ...]
  features: int = 0
  kernel: tuple[int, int] | None = (1, 1)
  stride: int = 1
  padding: int | tuple[int, int, int, int] = 0
  norm: bool = False
  bias: bool = False
  activation: str = "none"
  is_output: bool = False

  @property
  def has_weights(self) -> bool:
    return self.op in WEIGHTED_OPS


@dataclasses.dataclass(frozen=True)
class Net:
  """Nodes in topological order, from an image to logits.

  Attributes:
    name: of the network.
    input_shape: (height, width, channels) of the image, values in [0, 1].
    nodes: the table.
  """

  name: str
  input_shape: tuple[int, int, int]
  nodes: tuple[Node, ...]

  def __post_init__(self):
    if not self.nodes:
      raise ValueError(f"net {self.name!r}: has no nodes")
    known = {INPUT}
    for node in self.nodes:
      expected = 2 if node.op == "add" else 1
      if len(node.inputs) != expected:
        raise ValueError(
          f"net {self.name!r}: node {node.name!r} ({node.op}) reads "
          f"{len(node.inputs)} tensors, expected {expected}"
        )
      for name in node.inputs:
        if name not in known:
          raise ValueError(
            f"net {self.name!r}: node {node.name!r} reads {name!r}, which no "
            f"node before it makes"
          )
      if node.name in known:
        raise ValueError(f"net {self.name!r}: two nodes named {node.name!r}")
      if node.activation not in ACTIVATIONS:
        raise ValueError(
          f"net {self.name!r}: node {node.name!r} has activation "
          f"{node.activation!r}, expected one of {ACTIVATIONS}"
        )
      known.add(node.name)
    outputs = [node.name for node in self.nodes if node.is_output]
    if outputs != [self.nodes[-1].name]:
      raise ValueError(
        f"net {self.name!r}: the last node must be the only output, got "
        f"outputs {outputs}"
      )
    self.workload  # noqa: B018  every shape error is found here

  @functools.cached_property
  def node(self) -> dict[str, Node]:
    """Node by name."""
    return {node.name: node for node in self.nodes}

  @functools.cached_property
  def shapes(self) -> dict[str, tuple[int, int, int]]:
    """(height, width, channels) of the tensor each node makes, image too."""
    shapes = {INPUT: self.input_shape}
    for node, layer in zip(self.nodes, self.workload.layers, strict=True):
      shapes[node.name] = (
        layer.out_height,
        layer.out_width,
        layer.out_channels,
      )
    return shapes

  @functools.cached_property
  def site_of(self) -> dict[str, str | None]:
    """Tensor name -> precision site of that tensor.

    A pooled tensor keeps the site of its source: the mean or maximum of
    integers is rounded to the same grid, as PULP's kernels do. Logits have no
    site.
    """
    sites: dict[str, str | None] = {INPUT: INPUT_SITE}
    for node in self.nodes:
      if node.is_output:
        sites[node.name] = None
      elif node.op in ("avg_pool", "max_pool"):
        sites[node.name] = sites[node.inputs[0]]
      else:
        sites[node.name] = f"{node.name}.out"
    return sites

  def _site(self, tensor: str) -> str:
    """The site of a tensor that some node reads."""
    site = self.site_of[tensor]
    if site is None:
      raise ValueError(f"net {self.name!r}: {tensor!r} is not quantized")
    return site

  @functools.cached_property
  def is_signed(self) -> dict[str, bool]:
    """Activation site -> whether its integers are signed."""
    signed = {INPUT_SITE: False}
    for node in self.nodes:
      if self.site_of[node.name] == f"{node.name}.out":
        signed[f"{node.name}.out"] = node.activation == "none"
    return signed

  @functools.cached_property
  def fixed_bits(self) -> dict[str, int]:
    """Sites whose precision is not free, with it.

    The image has 8 bits. Adders work on 8-bit operands and give 8-bit sums, and
    signed tensors (linear bottlenecks) have 8 bits, as the Free Bits authors'
    deployment does (quantization_facts.md 3.4, pulp_facts.md 6).
    """
    fixed = {INPUT_SITE: INPUT_BITS}
    for node in self.nodes:
      site = self.site_of[node.name]
      if node.op == "add":
        for name in (*node.inputs, node.name):
          fixed[self._site(name)] = ADDER_BITS
      elif site is not None and self.is_signed[site]:
        fixed[site] = ADDER_BITS
    return fixed

  @functools.cached_property
  def workload(self) -> Workload:
    """What the hardware must compute: one `Layer` per node."""
    position = {node.name: i for i, node in enumerate(self.nodes)}
    shapes = {INPUT: self.input_shape}
    layers = []
    for node in self.nodes:
      layer = _layer(self.name, node, [shapes[name] for name in node.inputs])
      shapes[node.name] = (
        layer.out_height,
        layer.out_width,
        layer.out_channels,
      )
      layers.append(layer)
    return Workload(
      name=self.name,
      layers=tuple(layers),
      sources=tuple(
        tuple(position.get(name, -1) for name in node.inputs)
        for node in self.nodes
      ),
      input_sites=tuple(
        tuple(self._site(name) for name in node.inputs) for node in self.nodes
      ),
      output_sites=tuple(self.site_of[node.name] for node in self.nodes),
      fixed_bits=tuple(self.fixed_bits.items()),
    )

  @property
  def parameter_count(self) -> int:
    """Trained numbers: weights, biases, batch norm's scale and offset."""
    count = self.workload.weight_count
    for node in self.nodes:
      features = self.shapes[node.name][2]
      count += features * (node.bias + 2 * node.norm)
    return count


def _layer(net: str, node: Node, shapes: list[tuple[int, int, int]]) -> Layer:
  """The geometry of `node` on inputs of the given (H, W, C) shapes."""
  height, width, channels = shapes[0]
  if node.op == "add" and len(set(shapes)) != 1:
    raise ValueError(
      f"net {net!r}: node {node.name!r} adds tensors of shapes {shapes}, "
      "expected equal shapes"
    )
  if node.op == "linear":  # flattens its input
    return Layer(
      name=node.name,
      op="linear",
      in_channels=height * width * channels,
      out_channels=node.features,
    )
  kernel_height, kernel_width = node.kernel or (height, width)
  padding = node.padding
  if isinstance(padding, int):
    padding = (padding,) * 4
  return Layer(
    name=node.name,
    op=node.op,
    in_channels=channels,
    out_channels=node.features if node.op == "conv" else channels,
    in_height=height,
    in_width=width,
    kernel_height=kernel_height,
    kernel_width=kernel_width,
    stride=node.stride,
    padding=padding,
  )
