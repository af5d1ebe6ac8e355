"""What reading images costs beside decoding them.

    python -m benchmarks.data [--images=256] [--rounds=5] [--batch_size=32]

Images per second of processor time, all threads of the process together: what
one core gives. Photographs are made by this benchmark at ImageNet's usual size,
500 x 375; the bare rate is Pillow's, of the same files held in memory, to RGB
and no further. Ratios are within a round, median of the rounds.
"""

import argparse
import io
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from PIL import Image
from rich.console import Console
from rich.table import Table

from fbq.data import cifar, image_files, imagenet, pictures, to_array_record

WIDTH, HEIGHT = 500, 375


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument("--images", type=int, default=256)
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--batch_size", type=int, default=32)
  given = parser.parse_args()
  with tempfile.TemporaryDirectory() as directory:
    folder, records = Path(directory) / "folder", Path(directory) / "records"
    size = write(folder, given.images)
    to_array_record.convert(folder, records, 1)
    programs = programs_of(folder, records, given)
    rates = {name: [] for name in programs}
    for repeat in range(given.rounds + 1):
      for name, program in programs.items():
        start = time.process_time()
        count = program()
        if repeat:  # the first warms up
          rates[name].append(count / (time.process_time() - start))
  print_table(rates, size)


def write(folder: Path, count: int) -> float:
  """Writes photographs of two classes; returns their mean size in bytes."""
  random, sizes = np.random.default_rng(0), []
  for split, images in (("train", 2), ("val", count)):
    for i in range(images):
      # Smooth shapes with grain: about as many bytes as ImageNet's files.
      shapes = random.integers(0, 256, (24, 32, 3), np.uint8)
      smooth = np.asarray(Image.fromarray(shapes).resize((WIDTH, HEIGHT)))
      grain = random.normal(0, 12, (HEIGHT, WIDTH, 1))
      pixels = np.clip(smooth + grain, 0, 255).astype(np.uint8)
      path = folder / split / f"n{i % 2}" / f"{i}.JPEG"
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(pixels).save(path, quality=90)
      sizes.append(path.stat().st_size)
  return float(np.mean(sizes))


def programs_of(folder, records, given):
  """Name -> function that reads images and returns how many."""
  val = image_files.open_split(folder, "val")
  encoded = [val.read(i)[0] for i in range(len(val))]

  def bare():
    for image in encoded:
      Image.open(io.BytesIO(image)).convert("RGB")
    return len(encoded)

  def random_crops():
    for i, image in enumerate(encoded):
      pictures.random_crop(image, "", 224, np.random.default_rng(i))
    return len(encoded)

  def center_crops():
    for image in encoded:
      pictures.center_crop(image, "", 224, 256)
    return len(encoded)

  def pipeline(directory):
    config = ConfigDict(
      dict(
        name="imagenet",
        directory=str(directory),
        batch_size=given.batch_size,
        resolution=224,
        threads=os.cpu_count(),
      )
    )

    # Evaluation ends: threads that read ahead would work in others' time.
    def run():
      return sum(int(w.sum()) for _, _, w in imagenet.evaluation(config))

    return run

  random = np.random.default_rng(0)
  images = random.integers(0, 256, (10_000, 32, 32, 3), np.uint8)
  labels = np.zeros(len(images), np.int32)
  source = cifar.Cifar(images, labels, images, labels)

  def small():
    config = ConfigDict(dict(batch_size=128))
    for step in range(40):
      cifar.train_batch(config, 0, step, source)
    return 40 * 128

  return {
    "Pillow decodes": bare,
    "training crops": random_crops,
    "evaluation crops": center_crops,
    "evaluation from JPEG files": pipeline(folder),
    "evaluation from ArrayRecord": pipeline(records),
    "CIFAR batches": small,
  }


def print_table(rates, size):
  table = Table(title=f"{WIDTH} x {HEIGHT} JPEG, {size / 1e3:.0f} kB a file")
  for column in ("", "images/s per core", "of Pillow's decoding"):
    table.add_column(column, justify="right" if column else "left")
  bare = np.array(rates["Pillow decodes"])
  for name, values in rates.items():
    ratio = np.median(np.array(values) / bare)
    share = "" if name.startswith("CIFAR") else f"{ratio:.2f}"
    table.add_row(name, f"{np.median(values):,.0f}", share)
  Console().print(table)


if __name__ == "__main__":
  main()
