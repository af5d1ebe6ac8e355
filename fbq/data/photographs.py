"""Crops of photographs: a folder of one's own, or those in two packages.

scikit-image and scikit-learn bring some fifteen photographs with them. Crops of
one photograph are alike, so what is held back must be other photographs: crops
are named "FILE#NUMBER", and `sources` tells which file each is of.
"""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fbq.data import DataError, image_files, pictures
from fbq.data.inputs import Inputs
from fbq.files import user_path

PACKAGED = "photographs"
# What those packages have beside drawings, texts and images of instruments.
_FILES = {
  "skimage/data": (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png"),
    *("coffee.png", "coins.png", "grass.png", "gravel.png"),
    *("motorcycle_left.png", "rocket.jpg"),
  ),
  "sklearn/datasets/images": ("china.jpg", "flower.jpg"),
}


def files_of(where: str | os.PathLike) -> list[Path]:
  """Pictures of a folder in any depth, sorted, or of the packages.

  Args:
    where: folder, or `PACKAGED`.

  Raises:
    DataError: a package is not installed, no folder, or no pictures in it.
  """
  if str(where) == PACKAGED:
    return _packaged()
  root = user_path(where)
  if not root.is_dir():
    raise DataError(
      f"{root} is no folder; expected one of photographs, or {PACKAGED!r} for "
      "those of scikit-image and scikit-learn"
    )
  found = sorted(
    path
    for path in root.rglob("*")
    if path.suffix.lower() in image_files.SUFFIXES
    and not any(part.startswith(".") for part in path.parts)
  )
  if len(found) < 2:
    raise DataError(
      f"{root} has {len(found)} pictures ({', '.join(image_files.SUFFIXES)}), "
      "expected two or more: some to calibrate by and others to judge by"
    )
  return found


def crops(
  where: str | os.PathLike, shape: tuple[int, int, int], count: int, seed: int
) -> Inputs:
  """`count` random crops of every photograph, each resized to `shape`.

  As in training for ImageNet, see `pictures.random_crop`, so that objects have
  sizes that networks know. The same for a seed, whatever else lies there.

  Args:
    where: folder, or `PACKAGED`.
    shape: (height, width, channels) of an input: a square of three colours.
    count: crops of a photograph.
    seed: seed of the crops.

  Raises:
    DataError: see `files_of`; a picture that cannot be decoded; another shape.
  """
  height, width, channels = shape
  if height != width or channels != 3:
    raise DataError(
      f"the network reads {height}x{width}x{channels}; crops of photographs "
      "are squares of three colours: give inputs of its own and crops=0"
    )
  pixels, names = [], []
  for path in files_of(where):
    encoded = path.read_bytes()
    words = [seed, *path.name.encode()]
    random = np.random.default_rng(np.random.SeedSequence(words))
    for number in range(count):
      pixels.append(pictures.random_crop(encoded, str(path), height, random))
      names.append(f"{path.name}#{number}")
  return Inputs(np.stack(pixels), "pixels", None, tuple(names))


def sources(names: Sequence[str]) -> np.ndarray:
  """int [N]: number of the photograph that each crop is of.

  An input that is no crop is a source of its own.
  """
  files = [name.rpartition("#")[0] or name for name in names]
  order = {name: i for i, name in enumerate(dict.fromkeys(files))}
  return np.array([order[name] for name in files])


def split(
  names: Sequence[str], share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """(inputs to calibrate by, inputs held back), by source, in their order.

  Args:
    names: names of the inputs.
    share: share of the sources to calibrate by; one at least is on each side.
    seed: seed of which those are.

  Raises:
    DataError: fewer than two sources.
  """
  source = sources(names)
  count = int(source.max(initial=-1)) + 1
  if count < 2:
    raise DataError(
      f"inputs are of {count} sources, expected two or more: some to calibrate "
      "by and others to judge by"
    )
  taken = min(max(1, round(share * count)), count - 1)
  chosen = np.random.default_rng(seed).permutation(count)[:taken]
  is_taken = np.isin(source, chosen)
  return np.flatnonzero(is_taken), np.flatnonzero(~is_taken)


def _packaged() -> list[Path]:
  found = []
  for folder, names in _FILES.items():
    package, _, below = folder.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
      raise DataError(
        f"photographs of the package {package} are needed: pip install "
        "'fbq[lite0]', or give a folder of your own"
      )
    root = Path(spec.submodule_search_locations[0]) / below
    found += [root / name for name in names if (root / name).is_file()]
  return found
