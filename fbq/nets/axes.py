"""How a file lays out a tensor that is an image of channels for `fbq`.

PyTorch has channels first, TensorFlow last, and between convolutions and
classifiers files transpose, flatten and squeeze. None of that moves a number:
it only says in which order the same pixels stand. `Axes` keeps that order, so
that such operators vanish and weights behind them are permuted.
"""

import math
from typing import NamedTuple, Self

import numpy as np

Shape = tuple[int, int, int]


class Axes(NamedTuple):
  """The axes of a tensor in a file, the batch left out.

  Attributes:
    shape: (height, width, channels) of the tensor for `fbq`.
    groups: for every axis of the file, which of "H", "W" and "C" it runs over,
      the slowest first; sides of 1 pixel are left out. ("C", "H", "W") is a
      tensor of PyTorch, ("CHW",) the same flattened.
  """

  shape: Shape
  groups: tuple[str, ...]

  @classmethod
  def of(cls, shape: Shape, order: str) -> Self:
    """Axes in the order of letters such as "CHW", one letter each."""
    sides = _sides(shape)
    return cls(shape, tuple(x if sides[x] > 1 else "" for x in order))

  def side(self, group: str) -> int:
    """Numbers along an axis of this group."""
    sides = _sides(self.shape)
    return math.prod(sides[letter] for letter in group)

  @property
  def sizes(self) -> tuple[int, ...]:
    """Sizes of the axes in the file."""
    return tuple(map(self.side, self.groups))

  @property
  def order(self) -> str:
    """The letters of all axes, the slowest first."""
    return "".join(self.groups)

  @property
  def is_flat(self) -> bool:
    return len(self.groups) == 1

  def is_in(self, order: str) -> bool:
    """Whether the axes are these letters, one each."""
    return self.groups == type(self).of(self.shape, order).groups

  def transposed(self, axes: tuple[int, ...]) -> Self:
    """What a transposition makes; `axes` as of numpy, the batch left out."""
    if sorted(axes) != list(range(len(self.groups))):
      raise ValueError(
        f"transposes {len(self.groups)} axes beside the batch's by {axes}"
      )
    return self._replace(groups=tuple(self.groups[axis] for axis in axes))

  def reshaped(self, sizes: tuple[int, ...]) -> Self:
    """What a reshape makes, which joins axes or takes them apart.

    Raises:
      ValueError: the sizes cut height, width or channels into parts.
    """
    letters, groups = list(self.order), []
    for size in sizes:
      group = ""
      while letters and self.side(group) < size:
        group += letters.pop(0)
      if self.side(group) != size:
        break
      groups.append(group)
    if letters or len(groups) != len(sizes):
      raise ValueError(
        f"makes {sizes} of {self.sizes}, which are {self.shape} as height, "
        "width and channels; expected a shape that joins these and cuts none"
      )
    return self._replace(groups=tuple(groups))

  def from_images(self, tensor: np.ndarray) -> np.ndarray:
    """[B, ...] as in the file of [B, H, W, C]."""
    order = self.order + "".join(x for x in "HWC" if x not in self.order)
    moved = tensor.transpose(0, *("HWC".index(x) + 1 for x in order))
    return moved.reshape(len(tensor), *self.sizes)

  def rows_as_images(self, matrix: np.ndarray) -> np.ndarray:
    """Rows of [I, O] in the order of height, width and channels.

    Args:
      matrix: weights of a linear layer that reads this tensor flattened.
    """
    split = matrix.reshape(*(self.side(x) for x in self.order), -1)
    wanted = [x for x in "HWC" if x in self.order]
    moved = split.transpose(*map(self.order.index, wanted), len(wanted))
    return moved.reshape(matrix.shape)


def _sides(shape: Shape) -> dict[str, int]:
  height, width, channels = shape
  return {"H": height, "W": width, "C": channels}
