"""Files: how they are written whole, and where a user's path points."""

import contextlib
import os
import pathlib


def write_atomically(path: str | os.PathLike, content: bytes | str) -> None:
  """Puts `content` at `path`: a reader finds all of it or the file before it.

  Args:
    path: file to write; its folder exists.
    content: bytes, or text that is written as UTF-8.
  """
  data = content.encode() if isinstance(content, str) else content
  temporary = f"{os.fspath(path)}.{os.getpid()}.writing"
  try:
    with open(temporary, "wb") as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    with contextlib.suppress(FileNotFoundError):
      os.unlink(temporary)


def user_path(text: str | os.PathLike) -> pathlib.Path:
  """The path that a user wrote; `~` is the home directory.

  `~name` stays where there is no such user, so that the file is not found.
  """
  return pathlib.Path(os.path.expanduser(text))
