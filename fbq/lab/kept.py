"""Numbers that take long and are not resumed in the middle: kept in a file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fbq.files import write_atomically


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
