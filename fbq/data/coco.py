"""COCO: photographs with the boxes and masks of their objects.

In the official form: `annotations/instances_train2017.json` and
`instances_val2017.json`, and the images in `train2017` and `val2017`. Masks are
polygons or run lengths, which pycocotools (`fbq[detection]`) decodes.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fbq.data import DataError
from fbq.data.letterbox import Letterbox
from fbq.dense.objects import Objects

TRAIN, TEST = "train2017", "val2017"


class Coco(NamedTuple):
  """The annotations of a split; its images are read one by one.

  Attributes:
    folder: folder of its images.
    images: entry of each image in the file.
    annotations: those of each image.
    classes: number of a category -> class, 0 .. classes - 1, in the order of
      the numbers, which have gaps.
    names: names of the classes.
  """

  folder: Path
  images: Sequence[Mapping[str, Any]]
  annotations: Sequence[Sequence[Mapping[str, Any]]]
  classes: Mapping[int, int]
  names: Sequence[str]

  def __len__(self) -> int:
    return len(self.images)

  @property
  def most_objects(self) -> int:
    """The most that an image has."""
    return max(map(len, self.annotations), default=0)

  def sample(
    self, row: int, resolution: int, room: int, with_masks: bool
  ) -> tuple[np.ndarray, Objects]:
    """(uint8 [R, R, 3], its objects without the axis of a batch).

    Args:
      row: which image.
      resolution: rows and columns R that it is fitted into.
      room: objects that there is room for; the largest of more are kept.
      with_masks: whether objects have masks.

    Raises:
      DataError: a missing or damaged image, or a mask that is none.
    """
    entry = self.images[row]
    path = self.folder / entry["file_name"]
    if not path.is_file():
      raise DataError(f"{path} is missing, an image of the annotations")
    box = Letterbox.of(entry["height"], entry["width"], resolution)
    image = box.image(path.read_bytes(), str(path))
    given = sorted(self.annotations[row], key=lambda a: -a["area"])[:room]

    boxes = np.zeros((room, 4), np.float32)
    classes, crowd = np.zeros(room, np.int32), np.zeros(room, bool)
    masks = np.zeros((room, resolution, resolution), bool)
    for i, one in enumerate(given):
      left, top, width, height = one["bbox"]
      edges = np.array([[left, top, left + width, top + height]])
      boxes[i] = box.boxes(edges)[0]
      classes[i] = self.classes[one["category_id"]]
      crowd[i] = bool(one.get("iscrowd", 0))
      if with_masks:
        mask = decoded_mask(one["segmentation"], entry, path)
        masks[i] = box.labels(mask, 0) > 0
    objects = Objects(
      boxes,
      classes,
      np.arange(room) < len(given),
      crowd,
      masks if with_masks else None,
    )
    return image, objects


def read(directory: Path, split: str) -> Coco:
  """The annotations of "train2017" or "val2017" below a directory.

  Raises:
    DataError: a missing file, or one of another form; names it.
  """
  path = directory / "annotations" / f"instances_{split}.json"
  folder = directory / split
  if not path.is_file():
    raise DataError(
      f"{path} is missing; expected annotations/instances_{TRAIN}.json and "
      f"instances_{TEST}.json beside the folders {TRAIN} and {TEST}"
    )
  try:
    given = json.loads(path.read_text())
    images = sorted(given["images"], key=lambda image: image["id"])
    categories = sorted(given["categories"], key=lambda kind: kind["id"])
    classes = {kind["id"]: i for i, kind in enumerate(categories)}
    of_image: dict[int, list[Any]] = {image["id"]: [] for image in images}
    for one in given["annotations"]:
      needed = one["category_id"], one["bbox"], one["area"]
      if len(needed[1]) != 4 or needed[0] not in classes:
        raise ValueError(f"annotation {one.get('id')} has {needed}")
      of_image[one["image_id"]].append(one)
    for image in images:
      _ = image["file_name"], image["height"], image["width"]
  except (ValueError, KeyError, TypeError) as error:
    raise DataError(
      f"{path} is not of COCO's form: {type(error).__name__} {error}; expected "
      "images, annotations with bbox, area, category_id and image_id, and "
      "categories"
    ) from error
  if not images:
    raise DataError(f"{path} has no images, expected one or more")
  names = [str(kind["name"]) for kind in categories]
  ordered = [of_image[image["id"]] for image in images]
  return Coco(folder, images, ordered, classes, names)


def decoded_mask(
  segmentation: Any, entry: Mapping[str, Any], path: Path
) -> np.ndarray:
  """uint8 [h, w], 1 in the mask of polygons or of run lengths.

  Args:
    segmentation: list of polygons, or run lengths, compressed or not.
    entry: image that it is of, with its height and width.
    path: file of the image, for messages.

  Raises:
    DataError: neither of the two.
  """
  from pycocotools import mask  # An extra.

  size = entry["height"], entry["width"]
  try:
    if isinstance(segmentation, list):
      runs = mask.merge(mask.frPyObjects(segmentation, *size))
    elif isinstance(segmentation["counts"], list):
      runs = mask.frPyObjects(segmentation, *size)
    else:
      runs = segmentation
    found = mask.decode(runs)
  except Exception as error:  # pycocotools raises whatever its parser does
    raise DataError(
      f"{path}: a segmentation is neither polygons nor run lengths "
      f"({type(error).__name__}: {str(error)[:80]})"
    ) from error
  if found.shape != size:
    raise DataError(
      f"{path}: a mask of {found.shape} pixels, expected {size} of its image"
    )
  return found
