"""Pictures made by a seed, in the files of real data sets: for smoke runs.

A run on them goes through every step of one on the real files, and its
accuracy says whether training works: the hue of a picture tells its class.
"""

import io
import os
import shutil
from pathlib import Path

import numpy as np

from fbq.data import DataError, cifar_files
from fbq.files import user_path

MARK = "generated.txt"


def picture(label: int, classes: int, side: int, seed: int) -> np.ndarray:
  """uint8 [side, side, 3]: stripes of the hue of a class, and noise.

  Whatever part of it is cut out and mirrored shows its class.
  """
  random = np.random.default_rng([seed, label])
  hue = 2 * np.pi * (label / classes + np.arange(3) / 3)
  colour = 0.5 + 0.3 * np.cos(hue)
  rows, columns = np.mgrid[:side, :side] / side
  angle, period = random.uniform(0, np.pi), random.uniform(0.1, 0.5)
  wave = np.cos(angle) * rows + np.sin(angle) * columns + random.random()
  light = 0.8 + 0.2 * np.cos(2 * np.pi * wave / period)
  image = colour * light[:, :, None] + random.normal(0, 0.08, (side, side, 3))
  return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def write(
  directory: str | Path, name: str, classes: int, train: int, test: int
) -> None:
  """Makes a data set in `directory`, unless it is there.

  Args:
    directory: directory that is made, unless it is there.
    name: name of the data set, one of `fbq.data.sources.NAMES` that is in
      files.
    classes: number of classes of a folder of JPEGs.
    train, test: numbers of images of each class, or in each file of CIFAR.

  Raises:
    DataError: the directory holds something else.
  """
  directory = user_path(directory).absolute()
  text = f"{name}: {classes} classes, {train} and {test} images\n"

  # What was made by the same command is taken, all else is somebody's: it may
  # be photographs, so nothing here advises to take it away.
  mark = directory / MARK
  held = mark.read_text() if mark.is_file() else ""
  if held == text:
    return
  if directory.exists():
    holds = f"generated images of {held.strip()!r}" if held else "other files"
    raise DataError(
      f"{directory} holds {holds}, which stay as they are; expected a "
      f"directory that is not there yet, for generated images of "
      f"{text.strip()!r}: name one in data.directory, or leave out "
      "data.generated (the config's :smoke) to read what is there"
    )

  # Whole or not at all, also where two runs begin at once.
  unfinished = directory.with_name(f"{directory.name}.{os.getpid()}.writing")
  shutil.rmtree(unfinished, ignore_errors=True)
  unfinished.mkdir(parents=True)
  if name == "imagenet":
    _write_folders(unfinished, classes, {"train": train, "val": test})
  else:
    _write_cifar(unfinished, name, train, test)
  (unfinished / MARK).write_text(text)
  try:
    unfinished.rename(directory)
  except OSError:  # another run was faster
    shutil.rmtree(unfinished)


def _write_folders(directory, classes, counts):
  from PIL import Image  # An extra; matplotlib brings it too.

  for split, count in counts.items():
    for label in range(classes):
      folder = directory / split / f"n{label:08}"
      folder.mkdir(parents=True)
      for i in range(count):
        side = 40 + 8 * (i % 4)
        seed = 2 * i + (split == "val")
        file = io.BytesIO()
        pixels = picture(label, classes, side, seed)
        Image.fromarray(pixels).save(file, "JPEG", quality=90)
        (folder / f"{folder.name}_{i}.JPEG").write_bytes(file.getvalue())


def _write_cifar(directory, name, train, test):
  form = next(f for f in cifar_files.FORMS[name] if f.label_bytes)
  classes = {"cifar10": 10, "cifar100": 100}[name]
  folder = directory / form.folder
  folder.mkdir(parents=True)
  files = [(file, train) for file in form.train]
  files += [(file, test) for file in form.test]
  for place, (file, count) in enumerate(files):
    records = []
    for i in range(count):
      label = i % classes
      pixels = picture(label, classes, 32, place * 10_000 + i)
      head = [label] if form.label_bytes == 1 else [label // 5, label]
      records.append(bytes(head) + pixels.transpose(2, 0, 1).tobytes())
    (folder / file).write_bytes(b"".join(records))
