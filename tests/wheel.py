"""Builds the wheel, installs it in a new environment, runs the examples there.

    python tests/wheel.py FOLDER

The environment sees the packages that this Python has, but not this checkout.
What stands in FOLDER is replaced.
"""

import pathlib
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("fbq", "hwsim")
FIND = "import sys, importlib.util as u; print(u.find_spec(sys.argv[1]))"


def main(folder: pathlib.Path) -> None:
  shutil.rmtree(folder, ignore_errors=True)
  (folder / "empty").mkdir(parents=True)

  # By way of the source archive, so that both are complete.
  run(sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT))
  (wheel,) = folder.glob("*.whl")
  check_content(wheel)

  python = environment(folder / "venv", wheel)
  for name in PACKAGES:
    place = run(python, "-I", "-c", FIND, name, cwd=folder / "empty")
    if str(folder / "venv") not in place:
      raise SystemExit(f"{name} is not the one of the wheel: {place}")
  for example in sorted(ROOT.glob("examples/*.py")):
    printed = run(python, "-I", str(example), cwd=folder / "empty")
    print(f"{example.name}: {len(printed.splitlines())} lines")


def environment(folder: pathlib.Path, wheel: pathlib.Path) -> str:
  """The Python of a new environment that has the wheel installed.

  Its other packages are this Python's. A folder that a .pth file names gets no
  .pth files of its own read, so an editable install is not seen.
  """
  venv.create(folder)
  python = str(folder / "bin" / "python")
  (site,) = folder.glob("lib/python*/site-packages")
  (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
  pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q")
  run(*pip, "--no-deps", "--no-index", str(wheel))
  return python


def check_content(wheel: pathlib.Path) -> None:
  """Raises SystemExit unless the wheel has the packages, whole, and no more."""
  with zipfile.ZipFile(wheel) as archive:
    names = {name for name in archive.namelist() if ".dist-info/" not in name}
  expected = {
    str(path.relative_to(ROOT))
    for package in PACKAGES
    for path in ROOT.glob(f"{package}/**/*.*")
    if path.suffix not in (".pyc", ".md")
  }
  if names != expected:
    raise SystemExit(
      f"{wheel.name} lacks {sorted(expected - names)} and has "
      f"{sorted(names - expected)} too many; see [options] in setup.cfg"
    )


def run(*command: str, cwd: pathlib.Path = ROOT) -> str:
  """What a command prints; raises SystemExit with all of it if it fails."""
  done = subprocess.run(
    command,
    cwd=cwd,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
  )
  if done.returncode:
    raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}")
  return done.stdout


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]).resolve())
