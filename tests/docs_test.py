"""Code that documents show runs, and says what they say of it."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
CODE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = sorted(
  path
  for path in (ROOT / "docs").rglob("*.md")
  if CODE.search(path.read_text(encoding="utf-8"))
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_a_page_runs(page):
  # Blocks of a page go on from one another
  names: dict[str, object] = {}
  for block in CODE.findall(page.read_text(encoding="utf-8")):
    exec(compile(block, str(page), "exec"), names)


def test_pages_with_code_are_found():
  assert len(PAGES) >= 5
