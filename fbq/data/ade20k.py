"""ADE20K for scene parsing: photographs with the class of every pixel.

In the official form of the challenge (ADEChallengeData2016): `images/training`
and `images/validation` with JPEG files, `annotations/training` and
`annotations/validation` with PNG files of the same names, whose 0 is "other"
and whose classes are 1 to 150. Here classes begin at 0 and "other" is ignored.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fbq.data import DataError
from fbq.data.letterbox import Letterbox
from fbq.dense.class_overlap import IGNORED

CLASSES = 150
TRAIN, TEST = "training", "validation"


class Ade20k(NamedTuple):
  """The files of a split.

  Attributes:
    images: photographs, in order of their names.
    labels: class maps of these.
    classes: number of classes.
  """

  images: Sequence[Path]
  labels: Sequence[Path]
  classes: int

  def __len__(self) -> int:
    return len(self.images)

  def sample(self, row: int, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [R, R, 3], int32 [R, R] classes, 255 is ignored).

    Raises:
      DataError: a damaged file, sizes or labels that do not fit.
    """
    from PIL import Image

    from fbq.data import pictures

    path = self.labels[row]
    try:
      with Image.open(io.BytesIO(path.read_bytes())) as opened:
        mode, labels = opened.mode, np.asarray(opened)
    except Exception as error:  # a damaged file can raise anything
      raise DataError(
        f"{path} cannot be decoded: {type(error).__name__}"
      ) from error
    if mode not in ("L", "P") or labels.max(initial=0) > self.classes:
      raise DataError(
        f"{path} has {mode} labels up to {labels.max(initial=0)}, expected 8 "
        f"bits from 0 (other) to {self.classes}"
      )
    encoded = self.images[row].read_bytes()
    width, height = pictures.decoded(encoded, str(self.images[row])).size
    if labels.shape != (height, width):
      raise DataError(
        f"{path} has {labels.shape} labels, expected {(height, width)}, one "
        f"for each pixel of {self.images[row].name}"
      )
    shifted = np.where(labels == 0, IGNORED, labels - 1).astype(np.uint8)
    box = Letterbox.of(height, width, resolution)
    image = box.image(encoded, str(self.images[row]))
    return image, box.labels(shifted, IGNORED).astype(np.int32)


def read(directory: Path, split: str, classes: int = CLASSES) -> Ade20k:
  """The files of "training" or "validation" below a directory.

  Raises:
    DataError: a missing folder, or an image without labels; names it.
  """
  folder, labelled = (
    directory / kind / split for kind in ("images", "annotations")
  )
  images = sorted(folder.glob("*.jpg"))
  if not images:
    raise DataError(
      f"{folder} has no .jpg files; expected images/{TRAIN}, images/{TEST} and "
      "annotations/ likewise, as in ADEChallengeData2016"
    )
  labels = [labelled / f"{path.stem}.png" for path in images]
  lacking = [path for path in labels if not path.is_file()]
  if lacking:
    raise DataError(
      f"{lacking[0]} is missing, as are the labels of {len(lacking)} of "
      f"{len(images)} images"
    )
  return Ade20k(images, labels, classes)
