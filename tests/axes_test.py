"""Layouts of files: the same moves are made by numpy."""

import math

import numpy as np
import pytest

from fbq.nets.axes import Axes

SHAPE = (2, 3, 5)


def image(shape, count=2):
  random = np.random.default_rng(math.prod(shape))
  return random.normal(size=(count, *shape))


@pytest.mark.parametrize("shape", [SHAPE, (1, 3, 5), (2, 1, 1), (1, 1, 1)])
@pytest.mark.parametrize("order", ["CHW", "HWC", "WCH"])
def test_moves_are_those_of_numpy(shape, order):
  x = image(shape)
  axes = Axes.of(shape, order)
  found = x.transpose(0, *("HWC".index(letter) + 1 for letter in order))
  assert axes.sizes == found.shape[1:]
  np.testing.assert_array_equal(axes.from_images(x), found)

  # Joined, turned, taken apart, turned back; with axes of 1 between.
  first, second, third = axes.sizes
  steps = [
    ("reshaped", (first, 1, second * third)),
    ("transposed", (2, 1, 0)),
    ("reshaped", (second, third, first)),
    ("transposed", (1, 2, 0)),
    ("reshaped", (first * second * third,)),
  ]
  for step, how in steps:
    axes = getattr(axes, step)(how)
    found = (
      found.reshape(len(x), *how)
      if step == "reshaped"
      else found.transpose(0, *(axis + 1 for axis in how))
    )
    np.testing.assert_array_equal(axes.from_images(x), found)
  assert axes.is_flat

  # A matrix behind the flattened tensor gives the same products.
  matrix = np.random.default_rng(0).normal(size=(found.shape[1], 4))
  np.testing.assert_allclose(
    x.reshape(len(x), -1) @ axes.rows_as_images(matrix), found @ matrix
  )


@pytest.mark.parametrize("sizes", [(6, 5), (5, 2, 3, 2), (10, 3), (30, 1, 2)])
def test_axes_are_not_cut(sizes):
  axes = Axes.of(SHAPE, "CHW")
  if math.prod(sizes) == 30 and sizes in ((10, 3),):  # C H together, W
    assert axes.reshaped(sizes).groups == ("CH", "W")
    return
  with pytest.raises(ValueError, match="joins these and cuts none"):
    axes.reshaped(sizes)


def test_axes_of_one_letter_each_are_told():
  assert Axes.of((1, 1, 4), "CHW").is_in("CHW")
  assert Axes.of((1, 1, 4), "HWC").groups == ("", "", "C")
  assert not Axes.of(SHAPE, "HWC").is_in("CHW")
  with pytest.raises(ValueError, match="transposes 3 axes"):
    Axes.of(SHAPE, "CHW").transposed((0, 0, 1))
