"""Converts a folder of images to ArrayRecord files, for `fbq.data.imagenet`.

    python -m fbq.data.to_array_record --source=imagenet --target=imagenet_ar \\
      [--shards=256] [--splits=train,val] [--decode]

Reads SOURCE/<split>/<class>/<image> and writes TARGET/<split>-00000-of-00256.ar
and so on, the images as they are encoded, and dataset.json last. A file appears
whole or not at all, so the same command goes on after it was stopped. Images
are checked to begin as JPEG or PNG; --decode decodes each, which takes as long
as a pass of training.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path

from fbq.data import DataError, image_files, pictures
from fbq.files import user_path, write_atomically

_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


def convert(
  source: str | Path,
  target: str | Path,
  shards: int,
  splits: tuple[str, ...] = image_files.SPLITS,
  decode: bool = False,
  report=lambda line: None,
) -> Path:
  """The index of the data set written to `target`.

  Args:
    source: folder of folders.
    target: directory, made if missing.
    shards: number of files of each split, at least 1, at most its images.
    splits: names of the splits to convert.
    decode: whether every image is decoded, to find damaged ones now.
    report: function that is called with a line of progress after every file.

  Raises:
    ValueError: impossible shards, or a target that holds another data set.
    DataError: missing or damaged images.
  """
  # All that can be wrong is said before the first image is copied.
  source, target = user_path(source), user_path(target)
  if (source / image_files.INDEX).is_file():
    raise ValueError(f"--source={source} is converted already")
  names = image_files.classes(source)
  folders = {s: image_files.open_split(source, s) for s in splits}
  for split, folder in folders.items():
    if not 1 <= shards <= len(folder):
      raise ValueError(
        f"--shards is {shards}, expected 1 to {len(folder)}, the images of "
        f"{split}/"
      )

  # The target remembers what it is made of, so that a run that goes on, or a
  # second one, cannot mix two data sets.
  target.mkdir(parents=True, exist_ok=True)
  _claim(target, _plan(folders, shards))

  # A file that is there is whole, so it is not written again.
  index = {"format": image_files.FORMAT, "classes": names, "splits": {}}
  start, written = time.perf_counter(), 0
  for split, folder in folders.items():
    index["splits"][split] = []
    for number in range(shards):
      # Neighbours stay neighbours, and sizes differ by one image at most.
      rows = range(
        number * len(folder) // shards, (number + 1) * len(folder) // shards
      )
      path = target / f"{split}-{number:05d}-of-{shards:05d}.ar"
      is_new = not path.is_file()
      if is_new:
        _write(path, folder, rows, decode)
        written += len(rows)
      index["splits"][split].append(
        {
          "file": path.name,
          "images": len(rows),
          "bytes": path.stat().st_size,
        }
      )
      rate = written / (time.perf_counter() - start)
      state = f"{rate:,.0f} images/s" if is_new else "was there"
      report(f"{path.name}: {len(rows):,} images, {state}")

  # Left by runs that were killed.
  for left in target.glob("*.writing"):
    left.unlink()

  # Last, so that a data set with an index is complete.
  result = target / image_files.INDEX
  write_atomically(result, json.dumps(index, indent=1))
  return result


def _plan(folders, shards) -> str:
  """Digest of what is converted, and into how many files."""
  digest = hashlib.sha256(f"{image_files.FORMAT} {shards}".encode())
  for split, folder in folders.items():
    digest.update("\n".join((split, *folder.names)).encode())
  return digest.hexdigest()


def _claim(target: Path, plan: str) -> None:
  """Refuses to mix two data sets in one directory."""
  path = target / "plan.txt"
  if not path.is_file():
    if others := [p.name for p in target.glob("*.ar")]:
      raise ValueError(
        f"--target={target} holds {others[0]}, which no conversion here began; "
        "give an empty directory"
      )
    write_atomically(path, plan)
  elif path.read_text() != plan:
    raise ValueError(
      f"--target={target} was begun from other images, --shards or --splits; "
      "give those again or an empty directory"
    )


def _write(path, folder, rows, decode) -> None:
  """One file of images, which appears when it is whole."""
  import msgpack
  from array_record.python import array_record_module

  partial = path.with_name(f"{path.name}.{os.getpid()}.writing")
  # Encoded images do not shrink, and groups of one can be read one by one.
  writer = array_record_module.ArrayRecordWriter(
    str(partial), "group_size:1,uncompressed"
  )
  try:
    try:
      for row in rows:
        image, label, where = folder.read(row)
        if not image.startswith(_BEGINNINGS):
          raise DataError(
            f"image {where} is damaged: begins with {image[:4]!r}, as neither "
            "JPEG nor PNG do; fetch it again, or move it out of the data set"
          )
        if decode:
          pictures.verify(image, where)
        record = dict(image=image, label=label, name=folder.names[row])
        writer.write(msgpack.packb(record))
    finally:
      writer.close()
    _sync(partial)
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
  with open(path, "rb+") as file:
    os.fsync(file.fileno())


def main(arguments=None) -> int:
  """0, or 1 after a message that says what was wrong."""
  parser = argparse.ArgumentParser(
    prog="python -m fbq.data.to_array_record",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--source", required=True, type=Path)
  parser.add_argument("--target", required=True, type=Path)
  parser.add_argument("--shards", type=int, default=256)
  parser.add_argument("--splits", default=",".join(image_files.SPLITS))
  parser.add_argument("--decode", action="store_true")
  given = parser.parse_args(arguments)
  try:
    path = convert(
      given.source,
      given.target,
      given.shards,
      tuple(given.splits.split(",")),
      given.decode,
      lambda line: print(line, flush=True),
    )
  except ModuleNotFoundError as error:
    print(f"{error}: pip install fbq[imagenet]", file=sys.stderr)
    return 1
  except (DataError, ValueError, OSError) as error:
    print(error, file=sys.stderr)
    return 1
  print(path)
  return 0


if __name__ == "__main__":
  sys.exit(main())
