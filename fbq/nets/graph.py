"""A network as a table: everything else in fbq reads this one description.

The Flax module that trains it, the workload that `hwsim` costs, the precision
sites, the integer lowering and the exporters all interpret a `Net`.
"""

import dataclasses
import functools

from fbq.nets.node import ACTIVATIONS, Node, layer_of, problem, shape_of
from fbq.nets.views import HEADS, TOKENS, View
from hwsim.workload import Workload

INPUT = "input"
INPUT_SITE = "input.out"
ADDER_BITS = 8
INPUT_BITS = 8
POOLS = ("avg_pool", "max_pool")
# What they make are numbers of their input, or means of some: the same site.
KEEPERS = (*POOLS, "upsample", "tokens", "maps", "select")


@dataclasses.dataclass(frozen=True)
class Net:
  """Nodes in topological order, from an image to logits or other outputs.

  Attributes:
    name: name of the network.
    input_shape: (height, width, channels) of the image, values in [0, 1].
    nodes: the table.
    fixes_adders: whether what is added and what is signed has 8 bits, as
      deployed on PULP, see `fixed_bits`; else only the image has.
    image_zero: code of the image, 0 to 255, that is 0 for the layers that read
      it, as padding is: one for each channel, or () for black. So images are
      padded with their mean colour where networks were trained so.
  """

  name: str
  input_shape: tuple[int, int, int]
  nodes: tuple[Node, ...]
  fixes_adders: bool = True
  image_zero: tuple[int, ...] = ()

  def __post_init__(self):
    if not self.nodes:
      raise ValueError(f"net {self.name!r}: has no nodes")
    known = {INPUT}
    for node in self.nodes:
      if wrong := problem(node):
        raise ValueError(f"net {self.name!r}: node {node.name!r} {wrong}")
      for name in node.inputs:
        if name not in known:
          raise ValueError(
            f"net {self.name!r}: node {node.name!r} reads {name!r}, which no "
            f"node before it makes"
          )
      if node.name in known:
        raise ValueError(f"net {self.name!r}: two nodes named {node.name!r}")
      known.add(node.name)
    outputs = [node.name for node in self.nodes if node.is_output]
    read = {name for node in self.nodes for name in node.inputs}
    if not self.nodes[-1].is_output or read.intersection(outputs):
      raise ValueError(
        f"net {self.name!r}: the last node must be an output, and no node may "
        f"read one, got outputs {outputs}"
      )
    if self.image_zero:
      self._check_image_zero()
    self.workload  # noqa: B018  every shape error is found here
    self.block_view  # noqa: B018  and who reads operands of products

  def _check_image_zero(self):
    codes, channels = self.image_zero, self.input_shape[2]
    if len(codes) != channels or not all(0 <= code <= 255 for code in codes):
      raise ValueError(
        f"net {self.name!r}: image_zero is {codes}, expected a code of 0 to "
        f"255 for each of {channels} channels"
      )
    for node in self.nodes:
      if INPUT in node.inputs and not node.has_weights:
        raise ValueError(
          f"net {self.name!r}: {node.name!r} ({node.op}) reads an image with "
          "image_zero; only layers with weights can"
        )

  @functools.cached_property
  def node(self) -> dict[str, Node]:
    """Node by name."""
    return {node.name: node for node in self.nodes}

  @functools.cached_property
  def shapes(self) -> dict[str, tuple[int, int, int]]:
    """(height, width, channels) of the tensor each node makes, image too."""
    shapes = {INPUT: self.input_shape}
    for node, layer in zip(self.nodes, self.workload.layers, strict=True):
      shapes[node.name] = shape_of(node, layer)
    return shapes

  @functools.cached_property
  def site_of(self) -> dict[str, str | None]:
    """Tensor name -> precision site of that tensor.

    A pooled tensor keeps the site of its source: the mean or maximum of
    integers is rounded to the same grid, as PULP's kernels do; so do tensors
    that are enlarged, or read as tokens and back. A concatenated
    tensor and the parts that nothing but the concatenation reads (pools on the
    way included) are one tensor, with one site: their integers are written side
    by side as they are. Another part keeps its own site, since its other
    readers have a say in it; the concatenation requantizes it. Logits have no
    site.
    """
    # Backwards: whether a tensor is a part of a concatenated one shows in what
    # reads it. Pools go with what they pool.
    owner = {}  # the node whose site a tensor has, pools as if of their own
    readers = {name: set() for name in (INPUT, *self.node)}
    for node in reversed(self.nodes):
      owner[node.name] = node.name
      if len(readers[node.name]) == 1:
        (reader,) = readers[node.name]
        op = self.node[reader].op
        if (op == "concat" and not self.node[reader].is_output) or (
          op in KEEPERS and owner[reader] != reader
        ):
          owner[node.name] = owner[reader]
      for name in node.inputs:
        readers[name].add(node.name)

    # Forwards: a pool has the site of its source, which comes before it.
    sites: dict[str, str | None] = {INPUT: INPUT_SITE}
    for node in self.nodes:
      if node.is_output:
        sites[node.name] = None
      elif node.op in KEEPERS:
        sites[node.name] = sites[node.inputs[0]]
      else:
        sites[node.name] = f"{owner[node.name]}.out"
    return sites

  @functools.cached_property
  def parts(self) -> frozenset[str]:
    """Tensors that are quantized as parts of a concatenated one, not alone."""
    return frozenset(
      name
      for node in self.nodes
      if node.op == "concat"
      for name in node.inputs
      if self.site_of[name] == self.site_of[node.name]
    )

  @functools.cached_property
  def block_view(self) -> dict[str, View]:
    """Activation site -> how blocks see it, where not by its channels.

    Raises:
      ValueError: an operand of a product of activations is read elsewhere too,
        where blocks would have to lie otherwise, or is no tensor of its own.
    """
    wanted: dict[str, View] = {}
    for node in self.nodes:
      if node.op == "scores":
        wanted |= dict.fromkeys(node.inputs, View(HEADS, node.heads))
      elif node.op == "attend":
        wanted[node.inputs[1]] = View(TOKENS)

    # As other readers ask for other blocks, there must be none.
    for node in self.nodes:
      for place, name in enumerate(node.inputs):
        if (view := wanted.get(name)) is None:
          continue
        is_product = node.op == "scores" or (node.op == "attend" and place == 1)
        own = View(HEADS, node.heads) if node.op == "scores" else View(TOKENS)
        if not is_product or own != view or self.site_of[name] != f"{name}.out":
          raise ValueError(
            f"net {self.name!r}: node {node.name!r} reads {name!r}, whose "
            f"blocks lie along {view.kind} for a product of activations; "
            "expected a tensor that nothing else reads: make it twice"
          )
    return {f"{name}.out": view for name, view in wanted.items()}

  @functools.cached_property
  def stored_shapes(self) -> dict[str, tuple[int, int, int]]:
    """(height, width, channels) of every tensor as its blocks lie."""
    found = {}
    for name, shape in self.shapes.items():
      view = self.block_view.get(f"{name}.out")
      found[name] = shape if view is None else view.shape(shape)
    return found

  def _site(self, tensor: str) -> str:
    """The site of a tensor that some node reads."""
    site = self.site_of[tensor]
    if site is None:
      raise ValueError(f"net {self.name!r}: {tensor!r} is not quantized")
    return site

  @functools.cached_property
  def is_signed(self) -> dict[str, bool]:
    """Activation site -> whether its integers are signed.

    As a tensor can be negative: after a ReLU, a sigmoid or a softmax it cannot.
    A scaled or concatenated tensor can be if one of its inputs can.
    """
    negative, signed = {INPUT: False}, {INPUT_SITE: False}
    for node in self.nodes:
      inputs = any(negative[name] for name in node.inputs)
      if node.activation in ("relu", "sigmoid") or node.op == "softmax":
        negative[node.name] = False
      elif node.op in (*KEEPERS, "concat", "scale"):
        negative[node.name] = inputs
      else:
        negative[node.name] = True
      site = self.site_of[node.name]
      if site is not None and node.op not in KEEPERS:
        signed[site] = negative[node.name]  # a concatenation's after its parts'
    return signed

  @functools.cached_property
  def fixed_bits(self) -> dict[str, int]:
    """Sites whose precision is not free, with it.

    The image has 8 bits. Adders work on 8-bit operands and give 8-bit sums, and
    signed tensors (linear bottlenecks) have 8 bits, as the Free Bits authors'
    deployment does (docs/facts/quantization.md 3.4, docs/facts/pulp.md 6).
    """
    fixed = {INPUT_SITE: INPUT_BITS}
    for node in self.nodes if self.fixes_adders else ():
      site = self.site_of[node.name]
      if node.op == "add":
        for name in (*node.inputs, node.name):
          fixed[self._site(name)] = ADDER_BITS
      elif site is not None and self.is_signed[site]:
        fixed[site] = ADDER_BITS
    return fixed

  @functools.cached_property
  def step_site(self) -> dict[str, str]:
    """Activation site -> the site whose quantization step it has.

    Its own, but that the operands of an adder, where their precision is fixed,
    share one: a kernel adds their codes as they are (docs/facts/quantization.md
    3.4). What several adders read joins their operands; a sum has its own step.
    Of the sites that share one it is the image's, whose step is given; else an
    unsigned one's, since a signed range, the step times a power of two, follows
    from it exactly; else the first one's.
    """
    shared = {site: {site} for site in self.is_signed}
    for node in self.nodes:
      sites = [self._site(name) for name in node.inputs]
      if node.op == "add" and self.fixed_bits.keys() >= set(sites):
        joined = set().union(*(shared[site] for site in sites))
        shared.update(dict.fromkeys(joined, joined))
    rank = {
      site: (site != INPUT_SITE, signed, place)
      for place, (site, signed) in enumerate(self.is_signed.items())
    }
    first = lambda sites: min(sites, key=lambda site: rank[site])
    return {site: first(sites) for site, sites in shared.items()}

  @functools.cached_property
  def workload(self) -> Workload:
    """What the hardware must compute: one `Layer` per node.

    Operands of products of activations are stored as their blocks lie, see
    `fbq.nets.views`.
    """
    position = {node.name: i for i, node in enumerate(self.nodes)}
    shapes = {INPUT: self.input_shape}
    layers = []
    for node in self.nodes:
      layer = layer_of(self.name, node, [shapes[name] for name in node.inputs])
      shapes[node.name] = shape_of(node, layer)
      layers.append(layer)
    views = {name: self.block_view.get(f"{name}.out") for name in shapes}
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
      functions=tuple(
        (node.name, node.activation)
        for node in self.nodes
        if not ACTIVATIONS[node.activation]
      ),
      stored_shapes=tuple(
        shape if (view := views[name]) is None else view.shape(shape)
        for name, shape in shapes.items()
      ),
    )

  @property
  def parameter_count(self) -> int:
    """Trained numbers: weights, biases, norms' scales and offsets, factors,
    positions of tokens."""
    count = self.workload.weight_count
    for node in self.nodes:
      features = self.shapes[node.name][2]
      norms = node.norm + (node.op == "layer_norm")
      if node.op == "embed":
        rows = self.shapes[node.name][0] - self.shapes[node.inputs[0]][0]
        count += features * (self.shapes[node.name][0] + rows)
      count += features * (node.bias + bool(node.layer_scale) + 2 * norms)
    return count
