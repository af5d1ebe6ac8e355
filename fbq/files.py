"""Files: how they are written whole, and where a user's path points."""

import contextlib
import importlib.util
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


def no_file(path: pathlib.Path) -> str:
  """Why there is nothing to be read in a file: missing, a folder, empty; ""."""
  if os.path.isdir(path):
    return f"{path}: is a folder, expected a file in it"
  if not os.path.isfile(path):
    seen = "" if path.is_absolute() else f", seen from {pathlib.Path.cwd()}"
    return f"{path}: there is no such file{seen}"
  if not path.stat().st_size:
    return f"{path}: is empty (0 bytes): make or copy it again"
  return ""


def user_path(text: str | os.PathLike) -> pathlib.Path:
  """The path that a user wrote; `~` is the home directory.

  `~name` stays where there is no such user, so that the file is not found.
  "package:path" is a file of an installed package, which is not imported for
  it; it stays where there is no such package.
  """
  package, colon, inside = os.fspath(text).partition(":")
  if colon and len(package) > 1 and package.isidentifier():
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.submodule_search_locations:
      return pathlib.Path(spec.submodule_search_locations[0], inside)
  return pathlib.Path(os.path.expanduser(text))
