"""What `import fbq` and `import hwsim` offer, and that both are quick."""

import configparser
import importlib
import inspect
import pathlib
import subprocess
import sys
from importlib import metadata

import pytest

import fbq
import hwsim
from hwsim import public

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = pytest.mark.parametrize("package", [fbq, hwsim])


@PACKAGES
def test_every_public_name_is_there(package):
  for name in package.__all__:
    found = getattr(package, name)
    if inspect.ismodule(found):
      assert found.__name__.rpartition(".")[2] == name
    elif inspect.isclass(found) or inspect.isfunction(found):
      assert found.__name__ == name
  assert dir(package) == package.__all__ == sorted(set(package.__all__))


@PACKAGES
def test_no_public_name_hides_a_module(package):
  """Once imported, a module of the package would take the name's place."""
  folder = pathlib.Path(package.__file__).parent
  for name in package.__all__:
    if (folder / name).is_dir() or (folder / f"{name}.py").is_file():
      module = importlib.import_module(f"{package.__name__}.{name}")
      assert getattr(package, name) is module


@PACKAGES
def test_an_unknown_name_is_an_attribute_error(package):
  with pytest.raises(AttributeError, match=f"'{package.__name__}' has no"):
    package.nope  # noqa: B018


def test_importing_loads_nothing_heavy():
  script = """
import sys, fbq, hwsim
print(*sorted({"jax", "flax", "numpy", "scipy"} & set(sys.modules)), "none")
fbq.build
print("jax" in sys.modules)
"""
  done = subprocess.run(
    [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.split() == ["none", "False"]


def test_the_version_is_the_one_of_setup_cfg(monkeypatch):
  config = configparser.ConfigParser()
  config.read(ROOT / "setup.cfg")
  version = config["metadata"]["version"]
  assert fbq.__version__ == hwsim.__version__ == version
  citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
  assert f"\nversion: {version}\n" in citation

  def missing(name):
    raise metadata.PackageNotFoundError(name)

  monkeypatch.setattr(metadata, "version", missing)
  assert public.load("fbq", {}, "__version__") == "0+not.installed"
