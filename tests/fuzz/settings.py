"""Settings mutated at random: accepted for a reason, or refused in a line.

Of every experiment's tiny configuration one setting is replaced, removed or
added. Whatever is not accepted must raise ConfigError, in one line, within two
seconds; what is accepted must be a value that means something.
"""

import copy
import importlib
import math
import pathlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from fbq import config as config_lib
from fbq.lab.lab import Lab

FOLDER = pathlib.Path(__file__).parents[1] / "configs"
SLOWEST_SECONDS = 2.0  # of processor time
# Of other types, too large, not finite, empty, or what no file can hold.
ODD: tuple[Any, ...] = (
  *(None, True, False, 0, -1, 1, 2, 3, 7, 10**9, 10**30, -(10**30)),
  *(0.0, -0.5, 0.5, 1e-300, 1e308, math.inf, -math.inf, math.nan),
  *("", " ", "\0", "a" * 5000, "../..", "no.such:thing", "os:getcwd", "8"),
  *((), [], [[1, 2]], [None], ("a", 1), {}, {"a": 1}, {"": {}}, [[]] * 9),
  *(b"bytes", 1j, {1, 2}, object, range(3)),
)


def configurations() -> dict[str, dict[str, Any]]:
  """The tiny configuration of every experiment, by name."""
  found = {}
  for path in sorted(FOLDER.glob("tiny*.py")):
    if path.stem != "tiny_folder":  # needs a folder of images
      module = importlib.import_module(f"tests.configs.{path.stem}")
      found[path.stem] = module.get_config().to_dict()
  return found


def places(settings: dict, path=()) -> Iterator[tuple]:
  """Path of every setting, groups among them."""
  for key, value in settings.items():
    yield (*path, key)
    if isinstance(value, dict):
      yield from places(value, (*path, key))


def mutated(settings: dict, draw: random.Random) -> tuple[dict, tuple, Any]:
  """(settings, where they were changed, to what)."""
  changed = copy.deepcopy(settings)
  path = draw.choice(list(places(settings)))
  *groups, last = path
  place = changed
  for key in groups:
    place = place[key]
  kind = draw.random()
  if kind < 0.08:
    del place[last]
    return changed, path, "removed"
  if kind < 0.16:
    name = draw.choice((last[:-1], last + "s", "x", "", "a.b"))
    place[name] = draw.choice(ODD)
    return changed, (*groups, name), place[name]
  value = draw.choice(ODD)
  old = place[last]
  if isinstance(old, (list, tuple)) and kind < 0.4:  # inside of it
    value = [*old, value] if draw.random() < 0.5 else [value, *old[1:]]
  elif isinstance(old, (int, float)) and kind < 0.4:
    value = draw.choice((-old, old * 10**12, str(old), [old], old + 0.5))
  place[last] = value
  return changed, path, value


def outcome(settings: dict, slowest: float = SLOWEST_SECONDS) -> str:
  """ "accepted", or the line that refuses the settings.

  Raises:
    AssertionError: neither; another exception than ConfigError; too slow.
  """
  start = time.process_time()
  try:
    experiment = config_lib.brought(
      "experiment", settings.get("experiment"), "experiment"
    )
    found = config_lib.of(experiment.settings, settings)
    experiment.check(found, Lab(found))
    said = "accepted"
  except config_lib.ConfigError as error:
    said = str(error)
  seconds = time.process_time() - start
  assert "\n" not in said and said, f"not one line: {said!r}"
  assert len(said) < 2000, f"{len(said)} letters: {said[:200]!r}..."
  assert seconds < slowest, f"{seconds:.1f} s: {said[:200]!r}"
  return said


def is_senseless(value: Any) -> bool:
  """Whether no setting can mean this."""
  if isinstance(value, (list, tuple)):
    return any(map(is_senseless, value))
  if isinstance(value, bool) or value is None:
    return False
  if isinstance(value, (int, float)):
    return not math.isfinite(value) or abs(value) > 1e12
  if isinstance(value, str):
    return "\0" in value or len(value) > 4000
  return not isinstance(value, dict)


def run(seed: int, count: int) -> Counter:
  """How many of `count` mutations were "accepted" and "refused"."""
  draw = random.Random(seed)
  configs = configurations()
  for name, settings in configs.items():
    # The first loads what all need
    assert outcome(settings, slowest=60) == "accepted", name
  counts: Counter = Counter()
  for _ in range(count):
    name = draw.choice(list(configs))
    settings, path, value = mutated(configs[name], draw)
    where = f"{name}: {'.'.join(map(str, path))} = {value!r:.80}"
    try:
      said = outcome(settings)
    except Exception as error:
      raise AssertionError(
        f"{where}: {type(error).__name__} {error}"
      ) from error
    is_wrong = said == "accepted" and is_senseless(value)
    assert not is_wrong, f"{where} was accepted"
    counts["accepted" if said == "accepted" else "refused"] += 1
  return counts
