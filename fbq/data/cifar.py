"""CIFAR-10 and CIFAR-100 from the official archives; see `fbq.data`.

The files, their forms and errors are in `fbq.data.cifar_files`. Settings:
  name: "cifar10" or "cifar100".
  directory: place of a published archive, or of the folder that it unpacks to.
  batch_size: images of a batch, over all processes.
  resolution: 32, if given.
  labels: "fine" (default) or, for CIFAR-100, its 20 "coarse" classes.
  augment: pad by 4 black pixels, crop at random, flip half of them (default).
  mean, std: per channel; images become (image - mean) / std. Without them they
    stay in [0, 1], which is what a quantized network's 8-bit input expects.
  validation_share: share of the training images that is held out (default 0).
  split_seed: seed of which those are (default 0).
  rows: {"train": n, "test": n} images in each file of archives made smaller,
    for tests and smoke runs.
"""

import dataclasses
import functools
import json
import types
from pathlib import Path
from typing import Any

from fbq.data import cifar_files, holdout, scaling
from fbq.data.in_memory import InMemory, Splits, split

SIDE = 32


def classes(config) -> int:
  """Number of classes of the labels."""
  if getattr(config, "labels", "fine") == "coarse":
    return 20
  return {"cifar10": 10, "cifar100": 100}[config.name]


def check_settings(config) -> tuple[cifar_files.PublishedForm, Path]:
  """The form that is found, and its place; reads no image.

  Raises:
    ValueError: a setting that cannot be right.
    DataError: missing files.
  """
  # Settings first: files that are missing may be those of another data set.
  if config.name not in cifar_files.FORMS:
    raise ValueError(
      f"data.name is {config.name!r}, expected one of "
      f"{sorted(cifar_files.FORMS)}"
    )
  if getattr(config, "resolution", SIDE) != SIDE:
    raise ValueError(
      f"data.resolution is {config.resolution}, expected {SIDE}: "
      f"{config.name} is not resized"
    )
  scaling.normalization(config)

  # Only the names of files are looked at; `load` reads them.
  form, path = cifar_files.find(config.directory, config.name)
  labels = getattr(config, "labels", "fine")
  if labels not in form.labels:
    raise ValueError(
      f"data.labels is {labels!r}, expected one of {sorted(form.labels)} for "
      f"{config.name}"
    )

  # Archives made smaller have fewer images in each file, which is checked.
  rows = getattr(config, "rows", None)
  if rows:
    form = dataclasses.replace(
      form, train_rows=rows["train"], test_rows=rows["test"]
    )
  return form, path


def load(config) -> Splits:
  """All splits in memory, checked and not to be changed; 0.2 GB.

  Files that are as they were are not read again: every run and every evaluation
  of an experiment asks for them.

  Raises:
    ValueError: a setting that cannot be right.
    DataError: missing or damaged files.
  """
  form, path = check_settings(config)
  files = (*form.train, *form.test) if path.is_dir() else ("",)
  found = [(path / file).stat() for file in files]
  return _load(
    json.dumps(_settings(config)),
    tuple((stat.st_mtime_ns, stat.st_size) for stat in found),
  )


@functools.lru_cache(maxsize=1)
def _load(settings: str, stamps: tuple) -> Splits:
  """See `load`; `stamps` tell the files apart from changed ones."""
  del stamps
  config = types.SimpleNamespace(**json.loads(settings))
  form, path = check_settings(config)
  parts = cifar_files.read(form, path, config.labels)
  return split(
    parts["train"], parts["test"], config.validation_share, config.split_seed
  )


def _settings(config) -> dict[str, Any]:
  """What the images depend on."""
  rows = getattr(config, "rows", None)
  return dict(
    name=config.name,
    directory=str(config.directory),
    labels=getattr(config, "labels", "fine"),
    validation_share=getattr(config, "validation_share", 0.0),
    split_seed=getattr(config, "split_seed", 0),
    rows=rows and {split: rows[split] for split in ("train", "test")},
  )


def counts(config) -> tuple[int, int, int]:
  """Images of training, validation and test; reads none."""
  form, _ = check_settings(config)
  train = form.train_rows * len(form.train)
  held = holdout.count_of(train, getattr(config, "validation_share", 0.0))
  return train - held, held, form.test_rows * len(form.test)


_IMAGES = InMemory(load)
batches, evaluation = _IMAGES.batches, _IMAGES.evaluation
samples, resident = _IMAGES.samples, _IMAGES.resident
