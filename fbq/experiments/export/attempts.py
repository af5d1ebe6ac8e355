"""Parts of a run of which each may fail alone, told and remembered."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fbq.lab.lab import Lab

T = TypeVar("T")


class Attempts:
  """A function (part, make, path) -> what `make` gives, None if it fails.

  Attributes:
    failed: {part: reason} of what failed so far.
  """

  def __init__(self, lab: Lab):
    self._lab = lab
    self.failed: dict[str, str] = {}

  def __call__(
    self, part: str, make: Callable[[], T], *paths: Path
  ) -> T | None:
    """Tries to make a part.

    Args:
      part: its name for the reader; its time is measured.
      make: makes it, or raises.
      *paths: files and folders that it writes, which do not stay if it fails.

    Raises:
      OSError: a full disk and the like, which is no fault of the part.
    """
    with self._lab.clock.measure(part):
      try:
        return make()
      except OSError:
        raise
      except Exception as error:  # ONNX and its runtime have their own kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, ImportError):
          reason += "; pip install 'fbq[deploy]'"

    # What does not hold is not left for anybody to use.
    for path in paths:
      if path.is_dir():
        shutil.rmtree(path)
      path.unlink(missing_ok=True)
    self.failed[part] = reason
    self._lab.log.say(f"{part}: failed: {reason}")
    return None
