"""A few small photographs in ImageNet's folders."""

import io

import numpy as np
from PIL import Image

CLASSES = ("n01440764", "n02102040", "n03000684")


def picture(seed, height, width, kind="JPEG", mode="RGB"):
  """An encoded image of smooth random colours."""
  random = np.random.default_rng(seed)
  coarse = random.integers(0, 256, (3, 4, 3), dtype=np.uint8)
  image = Image.fromarray(coarse).resize((width, height)).convert(mode)
  file = io.BytesIO()
  image.save(file, kind, quality=90)
  return file.getvalue()


def write(directory, train=5, val=3):
  """Folders with that many images of each class; heights and widths differ."""
  modes = ["RGB", "L", "CMYK"]
  seed = 0
  for split, count in (("train", train), ("val", val)):
    for name in CLASSES:
      (directory / split / name).mkdir(parents=True)
      for i in range(count):
        image = picture(seed, 40 + 3 * i, 60 - 4 * i, mode=modes[seed % 3])
        (directory / split / name / f"{name}_{i}.JPEG").write_bytes(image)
        seed += 1
  return directory
