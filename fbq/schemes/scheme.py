"""What a quantization scheme is: the argument that `fbq.model.Model` takes.

A scheme is a frozen, hashable dataclass of static settings. What it trains
stands in the variables of the module, what changes from run to run is data.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax

from fbq.nets.graph import Net, Node
from fbq.schemes.groups import GateGroups

Array = jax.Array


class Call(NamedTuple):
  """One application of a model, as its scheme sees it.

  Attributes:
    net: network that is interpreted.
    variable: `variable(collection, name, init, *args)` is the value of that
      variable of the module, made as `init(*args)` where there is none.
    train: whether this is a training step.
    batch: number of images.
    data: data of the scheme, see `Scheme.data`; None if none was given.
    noise: random draws of the scheme, see `Scheme.noise`; None if none were
      given.
    update: `update(collection, name, value)` gives a variable a new value,
      where the caller of the model lets that collection change.
  """

  net: Net
  variable: Callable[..., Array]
  train: bool
  batch: int
  data: Any
  noise: Any
  update: Callable[[str, str, Array], None] = lambda *_: None


class Quantizer(Protocol):
  """Quantizes the tensors of one call."""

  def weight(self, kernel: Array, node: Node) -> Array:
    """The kernel of `node`, [h, w, I, O] or [I, O], quantized."""
    ...

  def activation(self, x: Array, site: str) -> Array:
    """A tensor [B, ...] of a precision site, quantized.

    Where `net.is_signed[site]` is false the ReLU is the quantizer's to do.
    """
    ...

  def weight_unit(self, kernel: Array, node: Node) -> Array | float:
    """Step that quantized weights are multiples of; per channel or for all.

    What it divides has at most 8 bits, so bfloat16 holds it exactly; see
    `fbq.halves`. 1 where nothing is gained by it.
    """
    ...

  def activation_unit(self, site: str) -> Array | float:
    """Step [] that a quantized tensor's numbers are multiples of, likewise."""
    ...


@runtime_checkable
class IntegerQuantizer(Quantizer, Protocol):
  """Quantizes the tensors of a network that integers will compute."""

  def output(
    self, sums: Array, bias: Array, kernel: Array, node: Node
  ) -> Array:
    """An output [B, ..., O] of its layer's products, summed, and a bias [O].

    Integers add one in steps of the sums, and so must what judges them: at 2
    and 4 bits such a step is not small.
    """
    ...


class Scheme(Protocol):
  """How tensors are quantized."""

  def noise(self, key: Array, batch: int) -> Any:
    """Random draws of one training step; None if the scheme has none."""
    ...

  def data(self, run: Mapping[str, Array], step: Array) -> Any:
    """What the scheme takes from the data of a run at a step, or None."""
    ...

  def quantizer(self, call: Call) -> Quantizer:
    """The quantizer of one call; declares the variables it reads."""
    ...


class Search(Scheme, Protocol):
  """A scheme whose variables end in a precision for every site."""

  @property
  def groups(self) -> GateGroups:
    """Which sites share gates."""
    ...

  def start(self) -> dict[str, Array]:
    """The "gates" collection before the search."""
    ...

  def distribution(
    self, variables: Mapping[str, Any], data: Any = None
  ) -> Array:
    """Shares or probabilities [G, 3] of 2, 4 and 8 bits in every group."""
    ...

  def assignment(
    self, net: Net, variables: Mapping[str, Any]
  ) -> dict[str, int]:
    """{site: bits} that the variables stand for, complete for `net`."""
    ...
