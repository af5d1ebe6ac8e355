"""Networks side by side as in the paper's table 3, and what they tell."""

import dataclasses
import json
import pathlib

import bitq_cases
import numpy as np
import pytest

from fbq.dense.objects import Objects
from fbq.dense.suppression import Detections
from fbq.experiments.bitq import example_picture, examples, table3
from fbq.train.detection import Masked

GOLDEN = json.loads(
  (pathlib.Path(__file__).parent / "golden" / "bitq_table3.json").read_text()
)["table3_accuracy_percent"]
KINDS = {
  "accuracy": "image_classification_top1",
  "box AP": "object_detection_boxAP",
  "mask AP": "instance_segmentation_maskAP",
  "mIoU": "semantic_segmentation_mIoU",
}


@pytest.mark.parametrize("metric", table3.TASKS)
def test_published_rows_are_those_of_the_paper_with_its_means(metric):
  golden = GOLDEN[KINDS[metric]]
  *networks, last = golden
  assert list(table3.PUBLISHED[metric]) == networks and last.startswith("Gmean")
  for name in networks:
    expected = tuple(golden[name][c] for c in table3.COLUMNS)
    assert table3.PUBLISHED[metric][name] == expected
  for i, column in enumerate(table3.COLUMNS):
    values = [row[i] for row in table3.PUBLISHED[metric].values()]
    assert table3.geometric_mean(values) == pytest.approx(
      golden[last][column], abs=6e-3
    )
  assert table3.geometric_mean([0.0, 5.0]) == 0


def row(table, name):
  headings = [column.heading for column in table.columns]
  found = next(r for r in table.rows if r[0].startswith(name))
  return dict(zip(headings, found, strict=True))


def test_our_networks_stand_above_the_paper_s_of_their_task():

  one = bitq_cases.record(bitq_cases.typical())
  other = bitq_cases.record(bitq_cases.typical(0.4))
  seg = [dataclasses.replace(run, metric="mIoU") for run in (one, other)]
  table = table3.table([one, *seg])
  ours = row(table, "image classification, top-1: small")
  assert ours["Original"].value == pytest.approx(90)
  assert ours["BitQ8"].value == pytest.approx(85)
  assert ours["BSFP"].value is None  # priced only
  assert ours["NVFP4"].value is None and ours["uniform 8"].value is None
  middle = row(table, "semantic segmentation, mIoU: geometric mean")
  assert middle["Original"] == pytest.approx((90 * 50) ** 0.5)
  names = [r[0] for r in table.rows]
  assert "paper: MaskDINO" in names and "paper: YOLOv8" not in names
  assert names.count("paper: geometric mean") == 2


def detections(scores):
  count = len(scores)
  boxes = np.tile(np.array([2.0, 3, 9, 12], np.float32), (1, count, 1))
  return Detections(
    np.array([scores], np.float32),
    np.arange(count, dtype=np.int32)[None],
    boxes,
    np.zeros((1, count), np.int32),
  )


def test_examples_hold_what_is_sure_and_what_is_true():
  masks = np.zeros((1, 3, 16, 16), bool)
  masks[0, 0, 3:6, 2:9], masks[0, 1, 5:12, 2:9] = True, True
  told = examples._told(Masked(detections([0.9, 0.5, 0.1]), masks), 0)
  assert [box.kind for box in told.boxes] == [0, 1]
  assert told.boxes[0].edges == (2, 3, 9, 12)
  numbers = told.masks.array
  assert numbers[3, 4] == 1 and numbers[5, 4] == 1 and numbers[8, 4] == 2
  assert numbers[0, 0] == 0
  assert examples._told(detections([0.2]), 0).boxes == ()
  truth = Objects(
    np.ones((1, 2, 4)), np.array([[4, 5]]), np.array([[False, True]]), None
  )
  assert [box.kind for box in examples._true(truth, 0).boxes] == [5]


@pytest.mark.parametrize("kind", ["boxes", "classes"])
def test_examples_are_drawn_from_the_record(kind):
  grid = examples.Grid.of(np.arange(256).reshape(16, 16))
  np.testing.assert_array_equal(grid.array.ravel(), np.arange(256))
  classes = examples.Grid.of(np.full((16, 16), 3))
  told = (
    examples.Told((examples.Box((2, 3, 9, 12), 7, 0.5),))
    if kind == "boxes"
    else examples.Told(classes=classes)
  )
  shown = (examples.Example(grid, told, {"a": told}),) * 2
  svg = example_picture.drawn(shown, {"BitQ8": "a"})
  assert svg.count("<image") == 4  # image and class map become one
  assert ("class 7, score 0.5" in svg) == (kind == "boxes")
  assert "BitQ8" in svg and "what is there" in svg
