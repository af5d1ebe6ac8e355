"""Images of any size in a square of one size, with what is told of them."""

from typing import NamedTuple

import numpy as np

from fbq.data.pictures import decoded

_GREY = 114  # around an image that is no square, as Ultralytics has it


class Letterbox(NamedTuple):
  """Where an image lies in a square.

  Attributes:
    scale: pixels of the square for one of the image.
    top, left: where its first row and column are.
    height, width: its size there.
    resolution: rows and columns of the square.
  """

  scale: float
  top: int
  left: int
  height: int
  width: int
  resolution: int

  @classmethod
  def of(cls, height: int, width: int, resolution: int) -> "Letterbox":
    """An image of this size, as large as it fits, in the middle."""
    scale = resolution / max(height, width)
    rows, columns = (max(1, round(n * scale)) for n in (height, width))
    top, left = (resolution - rows) // 2, (resolution - columns) // 2
    return cls(scale, top, left, rows, columns, resolution)

  def image(self, encoded: bytes, name: str) -> np.ndarray:
    """uint8 [R, R, 3] of an encoded image.

    Raises:
      DataError: it cannot be decoded; `name` says which.
    """
    from PIL import Image

    resized = decoded(encoded, name).resize(
      (self.width, self.height), Image.Resampling.BILINEAR
    )
    return self._placed(np.asarray(resized), _GREY)

  def labels(self, labels: np.ndarray, fill: int) -> np.ndarray:
    """[R, R] of uint8 labels [h, w], each pixel that of the nearest."""
    from PIL import Image

    resized = Image.fromarray(labels).resize(
      (self.width, self.height), Image.Resampling.NEAREST
    )
    return self._placed(np.asarray(resized), fill)

  def boxes(self, boxes: np.ndarray) -> np.ndarray:
    """float32 [N, 4] of boxes in pixels of the image."""
    corner = np.array([self.left, self.top] * 2, np.float32)
    return boxes.astype(np.float32) * np.float32(self.scale) + corner

  def _placed(self, inner, fill):
    shape = self.resolution, self.resolution, *inner.shape[2:]
    found = np.full(shape, fill, inner.dtype)
    rows = slice(self.top, self.top + self.height)
    found[rows, self.left : self.left + self.width] = inner
    return found
