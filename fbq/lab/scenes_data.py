"""Scenes as a data set: their settings, and their task, drawn on the device.

What the network tells decides what it is asked: boxes if it has the outputs of
YOLOv8, a class map if its output has the classes of pixels.
"""

from typing import Any, Literal, Self

import pydantic
from pydantic import Field

from fbq.config import ConfigError
from fbq.data import canvas, digits, scene_draw, scenes
from fbq.lab.drawn_digits import DrawnDigits, held_out, resolution_of, source
from fbq.lab.task import Task
from fbq.nets.graph import Net
from fbq.train import feed
from fbq.train.detection import detection, is_detector, tells_masks
from fbq.train.segmentation import segmentation

_BATCH = 48  # divides the 288 scenes of the test


class ScenesSettings(DrawnDigits):
  """Several handwritten digits on textured canvases; nothing is downloaded."""

  name: Literal["scenes"] = "scenes"
  "Data set."
  renders_per_test_group: int = Field(4, ge=1, le=1000)
  "Scenes of validation and test made of each group of source images."
  difficulty: dict[str, Any] = {}
  "What differs from the default of `fbq.data.scene_draw.Difficulty`."

  @pydantic.model_validator(mode="after")
  def _is_possible(self) -> Self:
    digits.counts(self.validation_share)
    scene_draw.Difficulty.from_config(self.difficulty)
    return self


def task(settings: ScenesSettings, net: Net) -> Task:
  """The task of scenes, in the size that the network reads.

  Raises:
    ConfigError: a network of other images, or of other outputs.
  """
  resolution = resolution_of(net, 2 * canvas.SOURCE)
  objective, classes, truth_of = _asked(net)
  difficulty = scene_draw.Difficulty.from_config(settings.difficulty)
  load = source(settings)
  counts = digits.counts(settings.validation_share)
  renders = settings.renders_per_test_group

  def draws(batch_size, mesh):
    del mesh  # what is drawn in the step is spread there
    found = load()

    def sample(key):
      made = scenes.train_batch(key, found, batch_size, resolution, difficulty)
      return made.images, truth_of(made)

    return sample, feed.nothing

  def split_of(split, count):
    def draw():
      made = scenes.held_out(
        load(), split, resolution, difficulty, renders, settings.test_seed
      )
      return made.images, truth_of(made)

    sources = lambda: scenes.sources(count, difficulty, renders)
    return held_out(draw, _BATCH, sources)

  def calibration_set(key, count):
    made = scenes.calibration_set(key, load(), count, resolution, difficulty)
    return made.images, truth_of(made)

  return Task(
    (resolution, resolution, 1),
    classes,
    draws,
    calibration_set,
    lambda: counts[0],
    split_of("validation", counts[1]),
    split_of("test", counts[2]),
    _BATCH,
    f"Scenes of {counts[0]:,} source digits to train on, of {counts[1]:,} "
    f"others to choose by and of {counts[2]:,} more to test on; of these two, "
    f"{renders} scenes of each group of {difficulty.most} digits, which are "
    "not independent: errors are clustered by group.",
    objective,
  )


def _asked(net: Net):
  """(objective, classes, truth of scenes) of what the network tells."""
  if is_detector(net):
    objective = detection(net)
    boxes_alone = lambda made: made.objects._replace(masks=None)
    with_masks = lambda made: made.objects
    truth_of = with_masks if tells_masks(net) else boxes_alone
    classes = net.shapes["p3.class"][2]
    expected = scenes.CLASSES
  else:
    made = {n.name: net.shapes[n.name] for n in net.nodes if n.is_output}
    if len(made) != 1 or list(made.values())[0][:2] == (1, 1):
      raise ConfigError(
        f"config.net makes outputs of shapes {made}, expected a map of classes "
        "or the outputs of YOLOv8: scenes are to be segmented or detected in"
      )
    [(_, _, classes)] = made.values()
    objective = segmentation(net.input_shape[0])
    truth_of, expected = (lambda made: made.class_map), scenes.CLASSES + 1
  if classes != expected:
    raise ConfigError(
      f"config.net tells {classes} classes apart, expected {expected} (of "
      "pixels 11, with the background); see config.net.arguments"
    )
  return objective, classes, truth_of
