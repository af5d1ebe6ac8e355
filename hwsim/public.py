"""Names that a package offers, loaded when they are first asked for (PEP 562).

`import hwsim` and `import fbq` take milliseconds: jax is imported with the
first name that needs it.
"""

import importlib
from collections.abc import Mapping
from typing import Any


def load(package: str, places: Mapping[str, str], name: str) -> Any:
  """What the public name `name` of a package stands for.

  Args:
    package: name of the package, for the error message.
    places: public name -> "package.module:attribute", or "package.module".
    name: "__version__", or a key of `places`.

  Raises:
    AttributeError: the package has no such name.
  """
  if name == "__version__":
    return _version()
  if name not in places:
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
  module, _, attribute = places[name].partition(":")
  loaded = importlib.import_module(module)
  return getattr(loaded, attribute) if attribute else loaded


def _version():
  """The version of the installed distribution, from setup.cfg."""
  from importlib import metadata  # 20 ms

  try:
    return metadata.version("fbq")
  except metadata.PackageNotFoundError:
    return "0+not.installed"
