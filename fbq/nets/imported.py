"""What comes out of a file with a network, whatever its format."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from fbq.nets.axes import Axes, Shape
from fbq.nets.graph import INPUT, INPUT_SITE, Net

MOST_OPERATORS = 20_000
MOST_NUMBERS = 2**31  # in a tensor
NO_PAD = (0, 0, 0, 0)


class Imported(NamedTuple):
  """A network and what a file says of it.

  Attributes:
    net: the network.
    variables: "params" and, with batch norm, "batch_stats" of its model.
    mean, std: per channel; the network reads (x - mean) / std of the x that the
      file reads, integers as they are.
    codes: (lowest, highest) integer that the file reads; None where it reads
      floats.
    labels: name of a node -> name of its operator in the file.
    ranges: activation site -> (lowest, highest number), of a quantized file.
    steps: site -> what an integer of 1 stands for, of a quantized TFLite file:
      [] of activations, [] or [O] of weights.
    head: "softmax" or "log_softmax" where the file ends in one, else "".
    input_axes, output_axes: how the file lays out images and logits.
    notes: sentences about what differs from the file.
  """

  net: Net
  variables: dict[str, dict[str, Any]]
  mean: np.ndarray
  std: np.ndarray
  codes: tuple[int, int] | None
  labels: dict[str, str]
  ranges: dict[str, tuple[float, float]]
  steps: dict[str, np.ndarray]
  head: str
  input_axes: Axes
  output_axes: Axes
  notes: tuple[str, ...]

  @property
  def normalization(self) -> tuple[np.ndarray, np.ndarray]:
    """(mean, std) per channel of images in [0, 1], black to white.

    A file that reads integers has black at the lowest; one that reads floats is
    taken to read images in [0, 1].
    """
    low, high = self.codes or (0, 1)
    return (self.mean - low) / (high - low), self.std / (high - low)

  def for_images(
    self, mean: Sequence[float] = (), std: Sequence[float] = ()
  ) -> "Imported":
    """The same for images in [0, 1] that are normalized before the file.

    Its network pads images with their mean, if it pads them and the mean is a
    colour. Weights are left as they are; the image has no range but its own.

    Args:
      mean, std: per channel; the file reads (x - mean) / std of images x. ():
        it reads images in [0, 1], or integers.
    """
    own_mean, own_std = self.normalization
    before = np.asarray(mean, float) if len(mean) else 0.0
    scale = np.asarray(std, float) if len(std) else 1.0
    whole, scale = before + own_mean * scale, own_std * scale
    pads = any(
      INPUT in node.inputs and np.any(node.padding) for node in self.net.nodes
    )
    net = self.net
    if pads and (whole >= 0).all() and (whole <= 1).all() and whole.any():
      zero = tuple(int(code) for code in np.rint(255 * whole))
      net = dataclasses.replace(net, image_zero=zero)
    ranges = {k: x for k, x in self.ranges.items() if k != INPUT_SITE}
    return self._replace(
      net=net, mean=whole, std=scale, codes=None, ranges=ranges
    )

  def on_grids(self) -> tuple[Net, dict[str, Any], dict[str, int]]:
    """(network, variables, bits) under `Fixed` with the integers of the file.

    Bits are the fewest that hold them; the network clips where they end before.

    Raises:
      ValueError: a tensor without integers, or with a zero point that `fbq` has
        not.
    """
    bits, ranges = {INPUT_SITE: 8}, {}
    nodes = {node.name: node for node in self.net.nodes}
    for site, signed in self.net.is_signed.items():
      if site == INPUT_SITE:
        continue
      if site not in self.steps or site not in self.ranges:
        raise ValueError(f"the file has no integers at {site!r}")
      step = self.steps[site]
      low, high = (int(np.rint(x / step)) for x in self.ranges[site])
      count, bits[site] = _fewest(low, high, signed)
      ranges[site] = np.float32(count * step)

      # Codes that end before those of their bits do
      name = site.removesuffix(".out")
      if not signed and high < count:
        nodes[name] = dataclasses.replace(nodes[name], clip=float(high * step))

    for node in self.net.nodes:
      if not node.has_weights:
        continue
      site = f"{node.name}.weight"
      if site not in self.steps:
        raise ValueError(f"the file has no integers at {site!r}")
      codes = self.variables["params"][f"{node.name}_kernel"] / self.steps[site]
      low, high = (int(np.rint(x)) for x in (codes.min(), codes.max()))
      count, bits[site] = _fewest(low, high, signed=True)
      ranges[site] = np.float32(count * self.steps[site])
    net = dataclasses.replace(self.net, nodes=tuple(nodes.values()))
    owned = {k: x for k, x in ranges.items() if net.step_site.get(k, k) == k}
    return net, {**self.variables, "ranges": owned}, bits


def _fewest(low: int, high: int, signed: bool) -> tuple[int, int]:
  """(steps in a range, bits) of the narrowest grid with codes low to high."""
  for bits in (2, 4, 8):
    count = 2 ** (bits - 1) if signed else 2**bits - 1
    if -count * signed <= low and high <= count - signed:
      return count, bits
  raise ValueError(
    f"integers {low} to {high} are {'signed' if signed else 'unsigned'} and "
    "more than 8 bits from their zero point; expected zero at an end or in the "
    "middle, as `fbq` has it"
  )


class Tensor(NamedTuple):
  """A tensor of a file.

  Attributes:
    node: node whose tensor it is.
    axes: how the file lays it out.
    alone: whether nothing else reads what the node makes.
    pad: zeros at (top, bottom, left, right) that what reads it must add.
    codes: (scale, zero point) where the file has integers here.
    head: function at the end of the network that was dropped before it.
  """

  node: str
  axes: Axes
  alone: bool = True
  pad: tuple[int, int, int, int] = NO_PAD
  codes: tuple[float, int] | None = None
  head: str = ""

  @property
  def sizes(self) -> tuple[int, ...]:
    """Sizes of its axes in the file, zeros around included."""
    (height, width, channels), (top, bottom, left, right) = (
      self.axes.shape,
      self.pad,
    )
    shape = (height + top + bottom, width + left + right, channels)
    return self.axes._replace(shape=shape).sizes

  def unpadded(self) -> Self:
    """Itself, without zeros around."""
    if any(self.pad):
      raise ValueError(
        f"reads a tensor with zeros {self.pad} around; only convolutions and "
        "pools take padding"
      )
    return self

  def numbers(self) -> Self:
    """Itself, of numbers as they are."""
    if self.codes:
      raise ValueError(
        "computes with integers; expected DequantizeLinear before it, or the "
        "network before its quantization"
      )
    if self.head:
      raise ValueError(f"reads a {self.head}, expected that at the end alone")
    return self

  def plain(self) -> Self:
    """Itself, of numbers as they are and without zeros around."""
    return self.unpadded().numbers()

  def image(self, order: str) -> Shape:
    """(height, width, channels) of what a convolution or pool reads.

    Args:
      order: letters of the axes that it has to have.
    """
    if self.head or not self.axes.is_in(order):
      raise ValueError(
        f"reads a tensor of {self.axes.sizes}, whose axes are "
        f"{self.axes.groups} (height H, width W, channels C); expected "
        f"{', '.join(order)} beside the batch"
      )
    return self.axes.shape


@contextlib.contextmanager
def reading(
  path: str | Path, damage: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
  """Errors of what is done inside name the file, in one line.

  Args:
    path: file that is read.
    damage: what is raised where the file is damaged, besides ValueError.
  """
  try:
    with np.errstate(all="ignore"):  # numbers are checked at the end
      yield
  except damage as error:
    raise ValueError(f"{path} is damaged: {str(error)[:200]}") from error
  except ValueError as error:
    said = str(error)[:1000]
    where = "" if said.startswith(str(path)) else f"{path}: "
    raise ValueError(f"{where}{said}") from error


def builder(read: Callable[[str], Imported]) -> Callable[..., Net]:
  """The builder of networks out of the files that `read` reads."""

  def net(
    file: str, mean: Sequence[float] = (), std: Sequence[float] = ()
  ) -> Net:
    """The network of a file without its weights, for images in [0, 1].

    Args:
      file: file of a network of one image and one tensor of logits.
      mean, std: see `Imported.for_images`; the same as
        config.checkpoint_images.
    """
    return read(file).for_images(mean, std).net

  return net


def constant(
  inputs: Sequence[Tensor | np.ndarray | None], index: int
) -> np.ndarray | None:
  """An input that depends on no image, or None where it is left out."""
  found = inputs[index] if index < len(inputs) else None
  if isinstance(found, Tensor):
    raise ValueError(f"input {index} depends on the image, expected a constant")
  return found
