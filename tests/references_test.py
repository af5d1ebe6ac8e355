"""What the project's texts point to is there: files, sections, modules."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
ROOMS = (
  *("benchmarks", "configs", "docs", "examples", "fbq", "hwsim", "launch"),
  "tests",
)
FILES = sorted(
  path
  for folder in (".", *(f"{room}/**" for room in ROOMS))
  for ending in ("py", "md")
  for path in ROOT.glob(f"{folder}/*.{ending}")
  if path != pathlib.Path(__file__)
)
# What tests ask for because it is not there.
ABSENT = ("configs/nope.py", "configs/compres.py")
# A path from the root, `*` for any name. What comes before must not make it
# the end of a longer path, and a sentence's full stop is no part of it.
PATH = re.compile(rf"(?<![\w./<>-])(?:{'|'.join(ROOMS)})/[\w./*-]*[\w/*]")
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s#]+)")
MODULE = re.compile(r"`((?:fbq|hwsim|launch)(?:\.\w+)+)")
SECTION = re.compile(r"docs/facts/(\w+)\.md,?\s+(\d+(?:\.\d+)?)(?![\w%])")


def sections(text):
  """Numbers of a facts file's headings, and of the points of its lists."""
  found, heading = set(), None
  for line in text.splitlines():
    if match := re.match(r"#+ (\d+(?:\.\d+)*)", line):
      heading = match[1]
      found.add(heading)
    elif heading and (match := re.match(r"(\d+)\. ", line)):
      found.add(f"{heading}.{match[1]}")
  return found


def is_module(name):
  """Whether a dotted name is a module or something that a module names."""
  parts = name.split(".")
  for count in range(len(parts), 0, -1):
    base = ROOT.joinpath(*parts[:count])
    file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    if file.is_file():
      rest = parts[count : count + 1]
      return not rest or bool(
        re.search(rf"\b{rest[0]}\b", file.read_text(encoding="utf-8"))
      )
  return False


def dead(path, text):
  """(line, reference) of what `text`, were it in file `path`, lacks."""
  for match in PATH.finditer(text):
    if match[0] not in ABSENT and not any(ROOT.glob(match[0])):
      yield line_of(text, match), match[0]
  for match in MODULE.finditer(text):
    if not is_module(match[1]):
      yield line_of(text, match), match[1]
  for match in SECTION.finditer(text):
    file = ROOT / "docs" / "facts" / f"{match[1]}.md"
    if file.is_file() and match[2] not in sections(file.read_text("utf-8")):
      yield line_of(text, match), " ".join(match[0].split())
  for match in LINK.finditer(text) if path.suffix == ".md" else ():
    if not (path.parent / match[1]).exists():
      yield line_of(text, match), match[1]


def line_of(text, match):
  return text.count("\n", 0, match.start()) + 1


def test_no_reference_is_dead():
  lacking = [
    f"{path.relative_to(ROOT)}:{line}: {reference}"
    for path in FILES
    for line, reference in dead(path, path.read_text(encoding="utf-8"))
  ]
  assert not lacking, "\n" + "\n".join(lacking)


@pytest.mark.parametrize(
  "text",
  [
    *("see docs/facts/lost.md", "`fbq/nets/lost.py`", "hwsim/lost/"),
    *("in configs/lost*.py", "[a](lost.md)", "[a](docs/lost.md#part)"),
    *("`fbq.nets.lost`", "`fbq.lost.build`", "docs/facts/pulp.md 99.1"),
  ],
)
def test_dead_references_are_found(text):
  found = list(dead(ROOT / "README.md", f"A line.\n{text}, another.\n"))
  assert found
  assert all(line == 2 and reference in text for line, reference in found)


@pytest.mark.parametrize(
  "text",
  [
    *("configs/*.py, fbq/nets/.", "configs/digits_qat.py:method=lsq,bits=4"),
    *("`fbq.nets.build`", "[a](docs/facts/README.md#tags)", "my/fbq/own.py"),
    *("docs/facts/pulp.md 4.6", "docs/facts/bitq.md\n0.2", "[a](https://b.c)"),
  ],
)
def test_living_references_are_not_found(text):
  assert not list(dead(ROOT / "README.md", text))
