"""The data sets behind the door: what each can be set to, and its task.

A `DataSet` of one's own is named "package.module:attribute". Its settings begin
with `name: str`, as its task finds them; `fbq.lab.task.from_arrays` makes a
task of arrays.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fbq import doors
from fbq.config import ConfigError, Settings, brought, require
from fbq.data import DataError
from fbq.lab import dense_data, digits_data, file_data, scenes_data
from fbq.lab.task import Task, sized
from fbq.nets.graph import Net
from fbq.train.objective import CLASSIFICATION


class DataSet(NamedTuple):
  """A data set.

  Attributes:
    settings: subclass of `Settings` with a field `name`.
    task: (settings, net) -> `Task`; reads no images yet. What it raises of
      ConfigError, ValueError and `fbq.data.DataError` becomes one line.
  """

  settings: type[Settings]
  task: Callable[[Any, Net], Task]


def data_set(given: Any) -> DataSet:
  """The data set whose name stands in the settings `given`.

  Raises:
    ConfigError: no name, or one that leads to no data set.
  """
  name = given.get("name") if isinstance(given, Mapping) else None
  known = ", ".join(doors.KNOWN["data"])
  require(
    isinstance(name, str),
    "data.name",
    name,
    f"one of {known}, or your own as 'package.module:attribute'",
  )
  return brought("data", name, "data.name")


def build(data: Settings, net: Net) -> Task:
  """The task of a data set for a network that fits it; reads no images.

  Raises:
    ConfigError: naming the setting at fault, or missing files.
  """
  name = data.name  # pyrefly: ignore[missing-attribute]
  try:
    task = data_set({"name": name}).task(data, net)
  except ConfigError:
    raise
  except (ValueError, DataError, ModuleNotFoundError) as error:
    raise ConfigError(f"config.data: {error}") from error
  if task.objective is not CLASSIFICATION:
    return task  # made for the outputs of this network
  made = {n.name: net.shapes[n.name] for n in net.nodes if n.is_output}
  if [shape[:2] for shape in made.values()] != [(1, 1)]:
    raise ConfigError(
      f"config.net makes outputs of shapes {made}, expected one of a single "
      f"pixel: {name} is for classifiers"
    )
  wants = sized(task.input_shape), task.classes
  gives = sized(net.input_shape), net.shapes[net.nodes[-1].name][2]
  if wants != gives:
    raise ConfigError(
      f"config.net reads images of {gives[0]} and tells {gives[1]} classes "
      f"apart, expected {wants[0]} and {wants[1]}, those of {name}; see "
      "config.net.arguments"
    )
  return task


DIGITS = DataSet(digits_data.DigitsSettings, digits_data.task)
CIFAR = DataSet(file_data.CifarSettings, file_data.task)
IDX = DataSet(file_data.IdxSettings, file_data.task)
COCO = DataSet(dense_data.CocoSettings, dense_data.coco_task)
ADE20K = DataSet(dense_data.AdeSettings, dense_data.ade20k_task)
SCENES = DataSet(scenes_data.ScenesSettings, scenes_data.task)
IMAGENET = DataSet(file_data.ImageNetSettings, file_data.task)
