"""Numbers that take long and are not resumed in the middle: kept in a file."""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fbq.config import ConfigError
from fbq.files import write_atomically


def refuse_others(workdir: Path, name: str, *values: np.ndarray | str) -> None:
  """ConfigError if a run was begun with other values of what files do not say.

  Args:
    workdir: of the run; what was kept in it depends on the values.
    name: what they are, for the message and the file with their digest.
    *values: arrays, of inputs for instance, or texts.
  """
  digest = hashlib.sha256()
  for value in values:
    is_text = isinstance(value, str)
    digest.update(value.encode() if is_text else np.asarray(value).tobytes())
  path, text = workdir / f"{name}.sha256", digest.hexdigest() + "\n"
  if path.exists() and path.read_text() != text:
    raise ConfigError(
      f"{workdir} was begun with other {name}; use another --workdir"
    )
  write_atomically(path, text)


def kept(path: Path, measure: Callable[[], Any]) -> Any:
  """What `measure` gives, measured once: later it is read from `path`.

  The first time, too, it is what the file says, so that a run that goes on has
  the same numbers: tuples are lists, and keys are text.

  Args:
    path: JSON file; its folder is made.
    measure: gives what JSON can hold.
  """
  if not path.exists():
    content = json.dumps(measure(), indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content + "\n")
  return json.loads(path.read_text())


class KeptNumbers:
  """Numbers by name in one file, so that none is measured twice.

  Attributes:
    path: JSON file, written anew with each number.
  """

  def __init__(self, path: Path):
    self.path = path
    self._found = json.loads(path.read_text()) if path.exists() else {}

  def of(self, name: str, measure: Callable[[], Any]) -> Any:
    """What `measure` gives, as JSON has it, or what is kept of it."""
    if name not in self._found:
      content = json.dumps({**self._found, name: measure()}, indent=1)
      write_atomically(self.path, content + "\n")
      # As it will be read, should the run be stopped
      self._found = json.loads(content)
    return self._found[name]


def kept_arrays(
  path: Path, make: Callable[[], Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
  """Arrays out of a .npz file, made and put there if it is not."""
  if not path.exists():
    content = io.BytesIO()
    arrays: Any = make()
    np.savez(content, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())
  with np.load(path, allow_pickle=False) as stored:
    return {key: stored[key] for key in stored.files}
