"""COCO's average precision and mean IoU: hand examples, pycocotools."""

import contextlib
import io
import json

import golden_cases
import numpy as np
import pytest

from fbq.dense import class_overlap, overlaps
from fbq.dense.average_precision import Image, average_precision

GOLDEN = json.loads((golden_cases.GOLDEN / "dense_golden.json").read_text())
CASES = {row["case"]: row for row in GOLDEN["coco_ap"]}


def image(found, truth, crowd=()):
  """Rows of (class, score, box) and of (class, box)."""
  boxes = lambda rows: np.array([r[-1] for r in rows], float).reshape(-1, 4)
  is_crowd = np.isin(np.arange(len(truth)), crowd)
  return Image(
    np.array([score for _, score, _ in found]),
    np.array([class_ for class_, _, _ in found], int),
    np.array([class_ for class_, _ in truth], int),
    is_crowd,
    overlaps.of_boxes(boxes(found), boxes(truth), is_crowd),
  )


BOX, OTHER, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (50, 50, 60, 60)
HAND = {
  "gt 0,0,10,10; det 0,0,10,6 .9": ([(0, 0.9, (0, 0, 10, 6))], [(0, BOX)]),
  "2 gt; tp .9, fp .8, tp .7": (
    [(0, 0.9, BOX), (0, 0.8, FAR), (0, 0.7, OTHER)],
    [(0, BOX), (0, OTHER)],
  ),
  "2 gt; fp .9, tp .8": (
    [(0, 0.9, FAR), (0, 0.8, BOX)],
    [(0, BOX), (0, OTHER)],
  ),
  "1 gt 0,0,10,10; det 0,0,10,9 .9 and exact .8": (
    [(0, 0.9, (0, 0, 10, 9)), (0, 0.8, BOX)],
    [(0, BOX)],
  ),
  "two classes, second undetected": ([(0, 0.9, BOX)], [(0, BOX), (1, OTHER)]),
  "class without truth has detections": (
    [(0, 0.9, BOX), (1, 0.8, BOX)],
    [(0, BOX)],
  ),
}


@pytest.mark.parametrize("case", HAND)
def test_hand_examples(case):
  found = average_precision([image(*HAND[case])])
  expected = CASES[case]
  assert abs(found.mean - expected["ap"]) < 1e-6
  if "ap50" in expected:
    assert (found.at_50, found.at_75) == (expected["ap50"], expected["ap75"])


def test_a_detection_in_a_crowd_does_not_count():
  found = [(0, 0.9, BOX), (0, 0.8, (51, 51, 55, 55))]
  truth = [(0, BOX), (0, FAR)]
  assert average_precision([image(found, truth, crowd=[1])]).mean == 1
  assert average_precision([image(found, truth)]).mean < 1


def test_masks_of_equal_boxes_differ():
  """An L of 75 of 100 pixels."""
  whole = np.zeros((1, 12, 12), bool)
  whole[:, :10, :10] = True
  corner = whole.copy()
  corner[:, 5:10, 5:10] = False
  given = image([(0, 0.9, BOX)], [(0, BOX)])
  assert average_precision([given]).mean == 1
  given = given._replace(
    overlaps=overlaps.of_masks(whole, corner, np.zeros(1, bool))
  )
  found = average_precision([given]).mean
  assert abs(found - 0.6) < 1e-9


def test_nothing_to_find_is_nan_and_wrong_shapes_are_named():
  assert np.isnan(average_precision([image([(0, 0.5, BOX)], [])]).mean)
  assert average_precision([image([], [(0, BOX)])]).mean == 0
  bad = image([(0, 0.9, BOX)], [(0, BOX)])._replace(overlaps=np.ones((2, 1)))
  with pytest.raises(ValueError, match="image 0: overlaps have shape"):
    average_precision([bad])


def random_image(random):
  """Objects of 3 classes, and detections near them with scores that tie."""

  def boxes(n):
    low = random.integers(0, 40, (n, 2))
    return np.concatenate([low, low + random.integers(4, 30, (n, 2))], 1)

  count, more = random.integers(0, 7), random.integers(0, 9)
  truth = boxes(count)
  near = truth + random.integers(-3, 4, truth.shape)
  found = np.concatenate([near, boxes(more)])
  scores = random.integers(1, 20, len(found)) / 20
  return image(
    list(zip(random.integers(0, 3, len(found)), scores, found, strict=True)),
    list(zip(random.integers(0, 3, count), truth, strict=True)),
    crowd=np.flatnonzero(random.random(count) < 0.2),
  ), (found, truth)


def test_equal_to_pycocotools():
  """Random sets with crowds and equal scores, AP, AP50 and AP75."""
  coco = pytest.importorskip("pycocotools.coco")
  cocoeval = pytest.importorskip("pycocotools.cocoeval")
  random = np.random.default_rng(0)
  sided = lambda b: [float(v) for v in (*b[:2], *(b[2:] - b[:2]))]
  for _ in range(12):
    images = [random_image(random) for _ in range(random.integers(1, 5))]
    truths, results = [], []
    for i, (given, (found, truth)) in enumerate(images):
      for class_, crowd, box in zip(
        given.classes, given.is_crowd, truth, strict=True
      ):
        truths.append(
          dict(
            id=len(truths) + 1,
            image_id=i,
            category_id=int(class_),
            bbox=sided(box),
            iscrowd=int(crowd),
            area=float(np.prod(box[2:] - box[:2])),
          )
        )
      for class_, score, box in zip(
        given.found, given.scores, found, strict=True
      ):
        results.append(
          dict(
            image_id=i,
            category_id=int(class_),
            bbox=sided(box),
            score=float(score),
          )
        )
    if not results or not truths:
      continue
    with contextlib.redirect_stdout(io.StringIO()):
      known = coco.COCO()
      known.dataset = dict(
        images=[dict(id=i) for i in range(len(images))],
        annotations=truths,
        categories=[dict(id=c) for c in range(3)],
      )
      known.createIndex()
      judge = cocoeval.COCOeval(known, known.loadRes(results), "bbox")
      judge.evaluate()
      judge.accumulate()
      judge.summarize()
    ours = average_precision([given for given, _ in images])
    theirs = judge.stats[:3]
    if theirs[0] == -1:
      assert np.isnan(ours.mean)
    else:
      np.testing.assert_allclose(ours[:3], theirs, atol=1e-12)


def test_mean_overlap_is_that_of_the_whole_set():
  first, second = GOLDEN["miou"]
  one = class_overlap.confusion(first["truth"], first["prediction"], 3)
  assert one.tolist() == first["confusion"]
  found = class_overlap.class_overlap(one)
  np.testing.assert_allclose(found.of_class, first["iou"])
  assert abs(found.mean - first["miou"]) < 1e-6
  assert found.pixels == first["pixel_accuracy"]
  both = one + class_overlap.confusion(second["truth"], second["prediction"], 3)
  found = class_overlap.class_overlap(both)
  np.testing.assert_allclose(found.of_class, second["iou"], atol=1e-6)
  assert abs(found.mean - second["miou"]) < 1e-6


def test_absent_classes_are_left_out_and_wrong_labels_named():
  matrix = class_overlap.confusion([0, 0, 1], [0, 0, 0], 4)
  found = class_overlap.class_overlap(matrix)
  assert np.isnan(found.of_class[2:]).all()
  assert abs(found.mean - (2 / 3 + 0) / 2) < 1e-12
  with pytest.raises(ValueError, match="predicted classes are 0 to 9"):
    class_overlap.confusion([0, 1], [0, 9], 4)
  with pytest.raises(ValueError, match="enlarge predictions"):
    class_overlap.confusion(np.zeros((4, 4)), np.zeros((2, 2)), 4)
