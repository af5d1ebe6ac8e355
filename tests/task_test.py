"""What an experiment trains and is tested on, of every data set."""

import dataclasses
import itertools
import json

import experiment_runs
import jax
import lab_cases
import numpy as np
import pytest
from ml_collections import ConfigDict

from fbq.config import ConfigError
from fbq.data import DataError, digits, generated, image_files, sources
from fbq.lab import experiment
from fbq.lab.settings import steps_of
from fbq.model import Model
from fbq.train import evaluation
from tests.configs import tiny, tiny_folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  """3 classes, 4 and 3 images of each."""
  directory = tmp_path_factory.mktemp("data") / "images"
  generated.write(directory, "imagenet", 3, 4, 3)
  return directory


def config_of(directory, **data):
  config = tiny_folder.get_config()
  config.data.directory = str(directory)
  config.data.update(data)
  return config


def build(config):
  return lab_cases.checked(config)[1].task


def seen_in(split):
  """Images of a split as bytes, each as often as it counts."""
  return [
    image.tobytes()
    for images, _, weights in jax.device_get(list(split.batches()))
    for image in images[weights > 0]
  ]


@pytest.mark.parametrize("batch", [1, 4, 9, 20])
def test_every_test_image_counts_once_whatever_the_batch(images, batch):
  """Of nine images; what fills the last batch is right, and does not count."""
  made = build(config_of(images, evaluation_batch=batch))
  assert (made.train_count, made.validation.count, made.test.count) == (9, 3, 9)
  right = evaluation.right_images(
    lambda variables, images, labels, data: labels != 1,
    None,
    made.test.batches(),
  )
  assert right.tolist() == 3 * [True] + 3 * [False] + 3 * [True]
  seen = seen_in(made.test)
  assert len(seen) == len(set(seen)) == 9
  everything, labels = made.test.everything
  assert [np.asarray(x).tobytes() for x in everything] == seen
  assert np.bincount(labels).tolist() == [3, 3, 3]
  assert (made.test.sources() == np.arange(9)).all()


def test_right_images_are_those_whose_label_is_the_largest_logit():
  model = Model(tiny.separable(4))
  images = np.random.default_rng(0).random((6, 8, 8, 1), np.float32)
  variables = jax.jit(lambda k: model.init(k, images, False))(jax.random.key(0))
  logits = jax.jit(lambda v: model.apply(v, images, False))(variables)
  labels = np.array(logits.argmax(-1), np.int32)
  labels[1] += 1
  right = evaluation.evaluator(model)
  for weights in ([1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 1, 0], [0] * 6):
    batch = images, labels, np.float32(weights)
    found = evaluation.right_images(right, variables, [batch, batch])
    expected = [n != 1 for n in range(6) if weights[n]]
    assert found.tolist() == 2 * expected


def test_every_digit_counts_once_beside_its_source():
  config = tiny.get_config()
  config.data.update(renders_per_test_image=2, validation_share=0.1)
  made = build(config)
  sizes = dict(validation=144, test=360)
  for name, count in sizes.items():
    split = getattr(made, name)
    assert split.count == 2 * count == len(set(seen_in(split)))
    assert (np.bincount(split.sources()) == 2).all()
    # Renders of one source share its label, which of 144 is no chance
    labels = np.asarray(split.everything[1])
    for n in range(count):
      assert len({*labels[split.sources() == n].tolist()}) == 1
  assert made.train_count == 1437 - 144


def test_batches_of_a_run_are_those_of_its_source(images):
  """From any step on, by the seed of the run's key."""
  made = build(config_of(images))
  sample, feed = made.draws(5, None)
  data = dict(name="imagenet", directory=str(images), resolution=8)
  data |= dict(validation_share=0.25, batch_size=5)
  source = sources.source(ConfigDict(data))
  expected = list(itertools.islice(source.batches(3), 6))
  for start in (0, 4):  # step 1 ends an epoch of 9 images
    with feed({"key": jax.random.key(3)}, start) as fed:
      for images_, labels in expected[start:]:
        batch = sample(jax.random.key(0), *next(fed))
        assert isinstance(batch[0], jax.Array)
        assert (np.asarray(batch[0]) == images_).all()
        assert (np.asarray(batch[1]) == labels).all()


def test_digits_are_drawn_in_the_step():
  made = build(tiny.get_config())
  sample, feed = made.draws(5, None)
  with feed({"key": jax.random.key(3)}, 7) as fed:
    assert next(fed) == ()
  assert sample.func is digits.train_batch
  assert sample.keywords["batch_size"] == 5
  assert sample.keywords["resolution"] == 8


@pytest.mark.parametrize(
  ("length", "expected"),
  [
    (7, 7), ("7", 7), ("1 epoch", 5), ("11 epochs", 55), ("0.5 epochs", 2),
    ("0.01 epochs", 1), (" 2 epochs ", 10),
  ],
)  # fmt: skip
def test_a_stage_lasts_steps_or_epochs(length, expected):
  assert steps_of(length, 20, lambda: 100) == expected


def test_only_epochs_ask_how_many_images_there_are():
  assert steps_of(3, 20, lambda: pytest.fail("asked")) == 3


@pytest.mark.parametrize(
  "length", [0, -1, "0", "epochs", "0 epochs", "-1 epochs", "3 steps", "2.5",
             "inf epochs", "nan epochs"]
)  # fmt: skip
def test_what_is_no_length_is_refused(length, images):
  with pytest.raises(ValueError, match="expected a number of steps or 'n ep"):
    steps_of(length, 20, lambda: 100)
  config = config_of(images)
  with config.ignore_type():
    config.search.steps = length
  with pytest.raises(ConfigError, match=r"config\.search\.steps is"):
    build(config)


WRONG = [
  ({"data.directory": "/nowhere"}, "config.data: /nowhere: expected /nowh"),
  ({"data.name": "cifar10"}, r"config\.data\.threads is no setting"),
  ({"data.resize": 4}, "config.data: data.resize is 4, expected at least the"),
  ({"data.evaluation_batch": 0}, r"evaluation_batch is 0, expected .* 1 to"),
  ({"data.threads": 0}, "data.threads is 0, expected a whole number, 1 to"),
  ({"net.arguments.classes": 4}, "tells 4 classes apart, expected 8x8x3 and 3"),
  ({"net.arguments.colours": 1}, "of 8x8x1, expected square ones of 3 col"),
  ({"data.mean": (0.5, 0.5, 0.5)}, r"config\.data\.mean is no setting"),
  ({"data.generated": dict(classes=3)}, r"data\.generated\.train is missing"),
  ({"search.drops": (0.5, 0.5)}, r"drops is \(0\.5, 0\.5\), expected rising"),
  ({"search.drops": (0.5, 1)}, r"drops is \(0\.5, 1\), expected rising"),
  ({"search.warmup": 1.0}, r"search\.warmup is 1\.0, expected .* to below 1"),
  ({"float_checkpoint": "/no.npz"}, "checkpoint is '/no.npz': .*no such file"),
  ({"float_checkpoint": "a.bin"}, r"expected .*\.npz, \.pt or \.pth"),
  ({"checkpoint_images": (0.5,)}, r"\(mean, std\), each of one or three colo"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_a_wrong_setting_is_named_before_anything_begins(
  changes, message, images, tmp_path
):
  config = config_of(images)
  del config.data["generated"]
  for name, value in changes.items():
    *path, last = name.split(".")
    part = config
    for key in path:
      part = part[key]
    with part.ignore_type(), part.unlocked():
      part[last] = value
  with pytest.raises(ConfigError, match=message):
    experiment.run(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_a_test_set_too_large_for_memory_is_refused(images):
  made = build(config_of(images))
  vast = dataclasses.replace(
    made.test, sources=lambda: np.broadcast_to(0, 50_000 * 224**2)
  )
  with pytest.raises(ConfigError, match="held out take .* GB in memory"):
    vast.everything  # noqa: B018


@pytest.mark.parametrize("name", ["imagenet", "cifar10", "cifar100"])
def test_pictures_are_made_once_and_tell_their_class(name, tmp_path):
  directory = tmp_path / "made"
  generated.write(directory, name, 3, 9, 7)
  stamps = {p: p.stat().st_mtime_ns for p in directory.rglob("*")}
  generated.write(directory, name, 3, 9, 7)
  assert stamps == {p: p.stat().st_mtime_ns for p in directory.rglob("*")}
  data = dict(name=name, directory=str(directory), batch_size=7, resolution=32)
  rows = {} if name == "imagenet" else {"rows": {"train": 9, "test": 7}}
  source = sources.source(ConfigDict(data | rows))
  x, labels = source.samples(0, source.counts()[0])
  hue = np.stack([x[..., c].mean((1, 2)) for c in range(3)], 1)
  hue -= hue.mean(1, keepdims=True)
  angle = 2 * np.pi * (np.arange(source.classes)[:, None] / source.classes
                       + np.arange(3) / 3)  # fmt: skip
  nearest = np.argmax(hue @ np.cos(angle).T, 1)
  assert np.mean(nearest == labels) > (0.9 if source.classes < 20 else 0.3)
  with pytest.raises(DataError, match="stay as they are"):
    generated.write(directory, name, 3, 9, 8)


def test_free_bits_goes_the_whole_way_on_a_folder(cache, tmp_path):
  options = [f"--config.data.directory={tmp_path / 'images'}"]
  status, output = experiment_runs.run(
    cache,
    tmp_path / "run",
    *options,
    config="tests/configs/tiny_folder.py",
  )
  assert status == 0, output
  result = json.loads((tmp_path / "run/result.json").read_text())
  assert {"8/8"} <= set(result["points"])
  for point in result["points"].values():
    assert round(point["accuracy"] * 9, 6) in range(10)
  lines = experiment_runs.metrics(tmp_path / "run")
  last = [line["step"] for line in lines if line["stage"] == "float"][-1]
  assert last == 9  # 8 epochs of 9 images in batches of 8
  page = (tmp_path / "run/report.html").read_text()
  assert "the test split of imagenet, each image counted once" in page
  assert len(image_files.open_split(tmp_path / "images", "val")) == 9
