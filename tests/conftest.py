"""Settings of the test session."""

import gc
import os
import subprocess
import sys

import compiling
import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# `XLA_FLAGS= make test` compiles everything as users do.
os.environ.setdefault("XLA_FLAGS", compiling.XLA_FLAGS)


def pytest_collection_modifyitems(items):
  """Files with whole runs come first: none of them goes on alone at the end."""
  long = {item.path for item in items if "cache" in item.fixturenames}
  items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
  """Compiled programs, shared by all processes of all tests of whole runs."""
  base = tmp_path_factory.getbasetemp()
  root = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
  return root / "programs"


@pytest.fixture(scope="session", autouse=True)
def one_context():
  compiling.share_contexts()


@pytest.fixture(scope="module", autouse=True)
def small_heap():
  """Objects that outlive a file of tests are no longer looked at.

  jax keeps every program: after eleven files a collection of all took 0.2 s,
  and the longer, the more are tested.
  """
  yield
  gc.collect()
  gc.freeze()


@pytest.fixture(autouse=True)
def wide_console(monkeypatch):
  """Lines are compared, which the terminal library would wrap at long paths."""
  monkeypatch.setenv("COLUMNS", "1000")


@pytest.fixture
def small_disk(tmp_path):
  """A file system of 4 MB."""
  path = tmp_path / "disk"
  path.mkdir()
  mounted = (
    subprocess.run(
      ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)],
      capture_output=True,
      text=True,
    )
    if sys.platform == "linux"
    else None
  )
  if mounted is None or mounted.returncode:
    pytest.skip(f"cannot mount a small tmpfs: {mounted and mounted.stderr}")
  yield path
  subprocess.run(["umount", str(path)], check=True)
