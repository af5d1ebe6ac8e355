"""From a configuration and a sweep file to points, in a process of its own.

Both files are Python and may import anything, even jax. They are loaded in a
fork that ends afterwards, so that the process that starts and watches the runs
stays small. Overrides are parsed by ml_collections as main.py does it, one
point at a time (1 ms each): a wrong name or type is found before any run
starts, and values that refer to others follow them.
"""

import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launch.expand import combine
from launch.manifest import Point, SweepError, point_id


def points(config: str, sweep: str) -> list[Point]:
  """The points that a sweep file gives over a configuration, repeats included.

  Args:
    config: FILE or FILE:ARGUMENT, as main.py's --config.
    sweep: the same, with a function get_sweep instead of get_config.

  Raises:
    SweepError: a file cannot be loaded, or main.py would refuse an override.
  """
  found = in_child(lambda: _points(config, sweep))
  return [Point(**fields) for fields in found]


def in_child(function: Callable[[], Any]) -> Any:
  """What `function` returns, as JSON has it, called in a forked process.

  Raises:
    SweepError: it was raised there, or anything else was.
  """
  sys.stdout.flush()
  reading, writing = os.pipe()
  child = os.fork()
  if child == 0:
    os.close(reading)
    try:
      answer = {"value": function()}
    except SweepError as error:
      answer = {"error": str(error)}
    except BaseException:
      answer = {"error": traceback.format_exc().strip()}
    with os.fdopen(writing, "w") as file:
      json.dump(answer, file)
    sys.stdout.flush()
    os._exit(0)
  os.close(writing)
  with os.fdopen(reading) as file:
    text = file.read()
  _, status = os.waitpid(child, 0)
  if status:
    raise SweepError(f"the process that loads the configuration died: {status}")
  answer = json.loads(text)
  if "error" in answer:
    raise SweepError(answer["error"])
  return answer["value"]


def _points(config, sweep):
  _require_file("config", config)
  overrides = combine(_load_sweep(sweep))
  if not overrides:
    raise SweepError(f"--sweep={sweep} gives no points")
  fields = []
  for chosen in overrides:
    point = Point("", config, chosen)
    identity = point_id(_resolve(point.arguments))
    fields.append({"id": identity, "config": config, "overrides": chosen})
  return fields


def _load_sweep(sweep):
  """What get_sweep of a file returns."""
  path, argument = _require_file("sweep", sweep)
  spec = importlib.util.spec_from_file_location("sweep_file", path)
  if spec is None or spec.loader is None:
    raise SweepError(f"--sweep={sweep} is not a Python file")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not hasattr(module, "get_sweep"):
    raise SweepError(f"{path} has no function get_sweep")
  return module.get_sweep(*([argument] if argument is not None else []))


def _resolve(arguments):
  """The values that main.py would run with."""
  from absl import flags
  from ml_collections import config_flags

  values = flags.FlagValues()
  argv = ["sweep", *arguments]
  config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
  try:
    values(argv)
  except (flags.Error, LookupError, AttributeError, TypeError) as error:
    given = " ".join(arguments[1:])
    raise SweepError(
      f"main.py would refuse {given}: {' '.join(str(error).split())}"
    ) from error
  return values.config.to_dict()


def _require_file(flag, given):
  path, _, argument = given.partition(":")
  if not Path(path).is_file():
    raise SweepError(f"--{flag}={given}: there is no file {path}")
  return path, argument if ":" in given else None
