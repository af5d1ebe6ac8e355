"""How much detections and objects overlap, as COCO's evaluation has it."""

import numpy as np


def of_boxes(
  found: np.ndarray, truth: np.ndarray, is_crowd: np.ndarray
) -> np.ndarray:
  """float64 [D, G]: intersection over union; of a crowd, over the detection.

  Args:
    found: detected boxes [D, 4] as left, top, right, bottom.
    truth: boxes of objects [G, 4], likewise.
    is_crowd: bool [G], which of them stand for many objects.
  """
  found, truth = (
    np.asarray(b, np.float64).reshape(-1, 4) for b in (found, truth)
  )
  low = np.maximum(found[:, None, :2], truth[None, :, :2])
  high = np.minimum(found[:, None, 2:], truth[None, :, 2:])
  common = np.maximum(high - low, 0).prod(-1)
  area = lambda boxes: (boxes[:, 2:] - boxes[:, :2]).prod(-1)
  return _shares(common, area(found), area(truth), is_crowd)


def of_masks(
  found: np.ndarray, truth: np.ndarray, is_crowd: np.ndarray
) -> np.ndarray:
  """The same of masks, bool [D, H, W] and [G, H, W]."""
  found, truth = (
    np.asarray(m, bool).reshape(len(m), -1).astype(np.float64)
    for m in (found, truth)
  )
  common = found @ truth.T
  return _shares(common, found.sum(1), truth.sum(1), is_crowd)


def _shares(common, found_areas, truth_areas, is_crowd):
  union = found_areas[:, None] + truth_areas - common
  whole = np.where(np.asarray(is_crowd, bool), found_areas[:, None], union)
  return np.divide(common, whole, out=np.zeros_like(common), where=common > 0)
