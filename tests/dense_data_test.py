"""COCO and ADE20K from small files in the official form."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from fbq import nets
from fbq.config import ConfigError, of
from fbq.data import DataError, ade20k, coco
from fbq.data.letterbox import Letterbox
from fbq.lab import data, dense_data

# Of pycocotools, about numpy
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")
NET = nets.build("yolov8", width=0.0625, resolution=32, classes=2, masks=True)


def runs(mask):
  """Run lengths of a mask down its columns, beginning with zeros."""
  flat, counts, value = mask.T.ravel(), [], 0
  while len(flat):
    ends = np.flatnonzero(flat != value)
    count = int(ends[0]) if len(ends) else len(flat)
    counts.append(count)
    flat, value = flat[count:], 1 - value
  return counts


def write_coco(root, images=4):
  """Images of 64 x 32 pixels: a polygon, uncompressed and compressed runs."""
  from pycocotools import mask as coco_mask

  random = np.random.default_rng(0)
  (root / "annotations").mkdir(parents=True)
  crowd = np.zeros((32, 64), np.uint8)
  crowd[4:20, 40:60] = 1
  packed = np.zeros((32, 64), np.uint8, order="F")
  packed[20:30, 2:12] = 1
  compressed = coco_mask.encode(packed)
  compressed["counts"] = compressed["counts"].decode()
  of_image = [
    dict(
      segmentation=[[8, 4, 24, 4, 24, 20, 8, 20]],
      bbox=[8, 4, 16, 16],
      area=256,
      category_id=7,
      iscrowd=0,
    ),
    dict(
      segmentation=dict(size=[32, 64], counts=runs(crowd)),
      bbox=[40, 4, 20, 16],
      area=320,
      category_id=7,
      iscrowd=1,
    ),
    dict(
      segmentation=compressed,
      bbox=[2, 20, 10, 10],
      area=100,
      category_id=3,
      iscrowd=0,
    ),
  ]
  for split in (coco.TRAIN, coco.TEST):
    (root / split).mkdir()
    entries, annotations = [], []
    for i in range(images):
      name, number = f"{i:012}.jpg", 100 - i  # numbers fall
      pixels = random.integers(0, 256, (32, 64, 3), np.uint8)
      Image.fromarray(pixels).save(root / split / name)
      entries.append(dict(id=number, file_name=name, height=32, width=64))
      annotations += [
        dict(one, id=len(annotations) + k, image_id=number)
        for k, one in enumerate(of_image[: 1 + i % 3])
      ]
    categories = [dict(id=7, name="cat"), dict(id=3, name="dog")]
    content = dict(
      images=entries, annotations=annotations, categories=categories
    )
    path = root / "annotations" / f"instances_{split}.json"
    path.write_text(json.dumps(content))


def test_boxes_and_masks_of_coco_lie_where_the_image_does(tmp_path):
  write_coco(tmp_path)
  found = coco.read(tmp_path, coco.TEST)
  assert found.names == ["dog", "cat"] and found.classes == {3: 0, 7: 1}
  assert [e["id"] for e in found.images] == [97, 98, 99, 100]
  assert found.most_objects == 3
  image, objects = found.sample(1, 32, 5, True)  # the one of three objects
  # Half the size: 16 rows from row 8 on
  assert image.shape == (32, 32, 3) and (image[:8] == 114).all()
  assert (image[8:24] != 114).any() and (image[24:] == 114).all()
  assert objects.is_object.tolist() == [True] * 3 + [False] * 2
  assert objects.is_crowd.tolist() == [True] + [False] * 4  # largest first
  assert objects.classes[:3].tolist() == [1, 1, 0]
  expected = [[20, 10, 30, 18], [4, 10, 12, 18], [1, 18, 6, 23]]
  np.testing.assert_array_equal(objects.boxes[:3], expected)
  for mask, (left, top, right, bottom) in zip(
    objects.masks[:3], expected, strict=True
  ):
    whole = np.zeros((32, 32), bool)
    whole[top:bottom, left:right] = True
    np.testing.assert_array_equal(mask, whole)
  assert not objects.masks[3:].any()
  # Without room the smallest is left out
  _, few = found.sample(1, 32, 2, False)
  assert few.is_object.all() and few.masks is None


def test_coco_is_a_task_of_a_detector(tmp_path):
  write_coco(tmp_path, images=8)
  given = dict(name="coco", directory=str(tmp_path), validation_share=0.25)
  settings = of(dense_data.CocoSettings, dict(given, evaluation_batch=4))
  task = data.build(settings, NET)
  assert task.objective.metric_name == "mask AP" and task.train_count == 6
  assert task.validation.count == 2 and task.test.count == 8
  images, truth, weights = next(task.test.batches())
  assert images.shape == (4, 32, 32, 3) and truth.masks.shape[1] == 100
  assert 0 <= images.min() and images.max() <= 1 and weights.sum() == 4
  _, feed = task.draws(4, None)

  batch = lambda: next(iter_of(feed, {"key": jax.random.key(3)}))
  first, again = batch(), batch()
  np.testing.assert_array_equal(first[0], again[0])
  np.testing.assert_array_equal(first[1].boxes, again[1].boxes)


def iter_of(feed, run):
  with feed(run, 0) as fed:
    for (batch,) in fed:
      yield batch


def test_mirrored_boxes_and_masks_are_those_of_the_mirrored_image(tmp_path):
  write_coco(tmp_path)
  _, objects = coco.read(tmp_path, coco.TEST).sample(1, 32, 4, True)
  found = dense_data._mirrored(objects, 32)
  for i in range(3):
    rows, columns = np.nonzero(found.masks[i])
    edges = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert found.boxes[i].tolist() == list(edges)
  assert not found.boxes[3].any()


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda c: c["annotations"][0].pop("bbox"), "not of COCO's form: KeyError"),
    (lambda c: c["annotations"][0].update(category_id=5), "annotation 0 has"),
    (lambda c: c.update(images=[], annotations=[]), "has no images"),
  ],
)
def test_annotations_of_another_form_are_refused(tmp_path, change, message):
  write_coco(tmp_path)
  path = tmp_path / "annotations" / f"instances_{coco.TEST}.json"
  content = json.loads(path.read_text())
  change(content)
  path.write_text(json.dumps(content))
  with pytest.raises(DataError, match=message):
    coco.read(tmp_path, coco.TEST)


def test_what_coco_lacks_is_named(tmp_path):
  with pytest.raises(DataError, match="instances_train2017.json is missing"):
    coco.read(tmp_path, coco.TRAIN)
  write_coco(tmp_path)
  found = coco.read(tmp_path, coco.TEST)
  (tmp_path / coco.TEST / found.images[0]["file_name"]).unlink()
  with pytest.raises(DataError, match="is missing, an image"):
    found.sample(0, 32, 4, False)
  with pytest.raises(DataError, match="neither polygons nor run lengths"):
    coco.decoded_mask([["x"]], found.images[0], tmp_path)
  other = nets.build("unet", width=4, levels=2, resolution=32, classes=2)
  settings = of(
    dense_data.CocoSettings, dict(name="coco", directory=str(tmp_path))
  )
  with pytest.raises(ConfigError, match="tells no boxes"):
    data.build(settings, other)
  few = settings.with_(most_objects=2)
  with pytest.raises(ConfigError, match="most_objects is 2, expected 3"):
    data.build(few, NET)


def write_ade(root, images=5):
  random = np.random.default_rng(1)
  for split in (ade20k.TRAIN, ade20k.TEST):
    for kind in ("images", "annotations"):
      (root / kind / split).mkdir(parents=True)
    for i in range(images):
      name = f"ADE_{split[:3]}_{i:08}"
      pixels = random.integers(0, 256, (16, 32, 3), np.uint8)
      Image.fromarray(pixels).save(root / "images" / split / f"{name}.jpg")
      labels = np.zeros((16, 32), np.uint8)
      labels[:8] = 1 + i % 3
      path = root / "annotations" / split / f"{name}.png"
      Image.fromarray(labels).save(path)


def test_labels_of_ade_are_shifted_and_other_is_ignored(tmp_path):
  write_ade(tmp_path)
  found = ade20k.read(tmp_path, ade20k.TEST, 3)
  image, labels = found.sample(2, 32)
  assert image.shape == (32, 32, 3) and labels.dtype == np.int32
  assert (labels[8:16] == 2).all()
  assert (labels[:8] == 255).all() and (labels[16:] == 255).all()


def test_ade_is_a_task_of_a_segmenter(tmp_path):
  write_ade(tmp_path)
  net = nets.build("unet", width=4, levels=2, resolution=32, classes=3)
  given = dict(
    name="ade20k", directory=str(tmp_path), classes=3, validation_share=0.4
  )
  task = data.build(of(dense_data.AdeSettings, given), net)
  assert task.objective.metric_name == "mIoU"
  assert task.train_count == 3 and task.validation.count == 2
  images, truth = task.test.everything
  assert images.shape == (5, 32, 32, 3) and truth.shape == (5, 32, 32)
  with pytest.raises(ConfigError, match="tells 3 classes apart, expected 4"):
    data.build(of(dense_data.AdeSettings, dict(given, classes=4)), net)


def test_what_ade_lacks_is_named(tmp_path):
  with pytest.raises(DataError, match="has no .jpg files"):
    ade20k.read(tmp_path, ade20k.TEST)
  write_ade(tmp_path)
  found = ade20k.read(tmp_path, ade20k.TEST, 2)
  with pytest.raises(DataError, match=r"labels up to 3, expected .* to 2"):
    found.sample(2, 32)
  Image.new("L", (4, 4)).save(found.labels[0])
  with pytest.raises(DataError, match="one for each pixel"):
    found.sample(0, 32)
  found.labels[1].unlink()
  with pytest.raises(DataError, match="is missing, as are the labels of 1"):
    ade20k.read(tmp_path, ade20k.TEST, 2)


def test_a_letterbox_keeps_the_aspect():
  box = Letterbox.of(100, 50, 32)
  assert (box.height, box.width, box.top, box.left) == (32, 16, 0, 8)
  np.testing.assert_allclose(
    box.boxes(np.array([[0, 0, 50, 100]])), [[8, 0, 24, 32]]
  )
