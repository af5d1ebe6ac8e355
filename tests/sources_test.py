import itertools

import cifar_cases
import idx_cases
import image_cases
import numpy as np
import pytest
from ml_collections import ConfigDict

from fbq.data import DataError, sources


def config_of(name, directory=None, **more):
  return ConfigDict(
    dict(name=name, directory=str(directory), batch_size=4) | more
  )


@pytest.fixture
def config(request, tmp_path):
  name = request.param
  if name == "imagenet":
    return config_of(name, image_cases.write(tmp_path), resolution=16)
  if name == "idx":
    return config_of(name, idx_cases.write(tmp_path), resolution=8)
  cifar_cases.write(tmp_path, name, "binary")
  return config_of(name, tmp_path, rows={"train": 4, "test": 13})


@pytest.mark.parametrize("config", sources.NAMES, indirect=True)
def test_every_data_set_keeps_the_contract(config):
  source = sources.source(config)
  counts = dict(cifar10=13, cifar100=13, idx=13, imagenet=9)
  iterator = source.batches(5)
  unbroken = list(itertools.islice(iterator, 4))
  iterator.close()
  for images, labels in unbroken:
    assert images.shape == (4, *source.input_shape)
    assert images.dtype == np.float32 and labels.dtype == np.int32
    assert labels.shape == (4,)
    assert 0 <= images.min() and images.max() <= 1 and images.std() > 0.05
    assert 0 <= labels.min() and labels.max() < source.classes
  iterator = source.batches(5, 2, 1, 2)
  for step, (images, labels) in enumerate(itertools.islice(iterator, 2), 2):
    assert (images == unbroken[step][0][2:]).all()
    assert (labels == unbroken[step][1][2:]).all()
  iterator.close()
  parts = [list(source.evaluation(p, 2)) for p in range(2)]
  assert (
    sum(w.sum() for part in parts for _, _, w in part) == counts[source.name]
  )
  shapes = {x.shape for part in parts for x, _, _ in part}
  assert shapes == {(2, *source.input_shape)}


@pytest.mark.parametrize("config", sources.NAMES, indirect=True)
def test_samples_are_training_images_as_evaluation_shows_them(config):
  source = sources.source(config)
  train, test = dict(
    cifar10=(20, 13), cifar100=(4, 13), idx=(20, 13), imagenet=(15, 9)
  )[source.name]
  assert source.counts() == (train, 0, test)
  count = 19
  images, labels = map(np.asarray, source.samples(5, count))
  assert images.shape == (count, *source.input_shape)
  assert images.dtype == np.float32 and labels.dtype == np.int32
  again, few = source.samples(5, count)[0], source.samples(5, 3)[0]
  assert (images == again).all() and (
    images != source.samples(6, count)[0]
  ).any()
  assert (images[:3] == few).all()
  # All once, then some for the second time: nothing is cut or flipped.
  kinds = {image.tobytes() for image in images[:train]}
  assert len(kinds) == min(train, count)
  assert len({image.tobytes() for image in images}) == len(kinds)
  unseen = {x.tobytes() for batch, _, _ in source.evaluation() for x in batch}
  assert not kinds & unseen


@pytest.mark.parametrize("config", sources.NAMES, indirect=True)
def test_every_image_is_in_one_split(config):
  """What is held out is neither trained on nor calibrated on."""
  whole = sources.source(config)
  everything, labels = map(np.asarray, whole.samples(0, whole.counts()[0]))
  label = {x.tobytes(): y for x, y in zip(everything, labels, strict=True)}
  assert len(label) == whole.counts()[0]  # bytes tell images apart
  config.validation_share = 0.25
  found = set()
  for seed in range(4):
    config.split_seed = seed
    source = sources.source(config)
    train, count, tested = source.counts()
    assert (count, tested) == (max(2, round(len(label) / 4)), whole.counts()[2])
    held = {
      x.tobytes(): y
      for images, labels, weights in source.evaluation(split="validation")
      for x, y, weight in zip(images, labels, weights, strict=True)
      if weight
    }
    used = {x.tobytes() for x in np.asarray(source.samples(3, train)[0])}
    assert len(held) == count and len(used) == train
    assert not used & set(held) and used | set(held) == set(label)
    assert all(label[x] == y for x, y in held.items())
    # Whatever is cut or flipped of them, batches have training labels alone
    if config.name != "imagenet":
      config.augment = False
      source = sources.source(config)
      epoch = list(itertools.islice(source.batches(0), train // 4))
      assert {x.tobytes() for images, _ in epoch for x in images} <= used
    found.add(frozenset(held))
  if config.name != "cifar100":  # which has four images of four classes
    assert len(found) > 1


def test_images_of_a_class_are_held_out_by_their_share(tmp_path):
  config = config_of("imagenet", image_cases.write(tmp_path), resolution=16)
  config.validation_share = 0.4  # of five images of each of three classes
  held = [
    labels[weights > 0]
    for _, labels, weights in sources.source(config).evaluation(
      split="validation"
    )
  ]
  assert np.bincount(np.concatenate(held)).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
  "config, error, reason",
  [
    (config_of("mnist"), ValueError, "data.name is 'mnist', expected one of"),
    (config_of("cifar10", "/nowhere"), DataError, "nothing of it in /nowhere"),
    (config_of("imagenet", "/nowhere", resolution=8), DataError, "/nowhere/tr"),
  ],
)
def test_what_cannot_work_is_said_at_once(config, error, reason):
  with pytest.raises(error, match=reason):
    sources.source(config)
