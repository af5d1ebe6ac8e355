"""Pages read well to everybody: axe finds nothing serious, where it is there.

Skipped without chromium, and without axe.min.js named by FBQ_AXE: see axe.py.
"""

import os
from pathlib import Path

import axe
import pytest
from report_page_test import full_report
from report_points import report

from fbq.report import page, points_page
from fbq.report.run import Run

pytestmark = pytest.mark.skipif(
  not os.environ.get("FBQ_AXE") or axe.program() is None,
  reason="needs chromium, and axe.min.js in FBQ_AXE",
)


def test_axe_finds_nothing_serious_at_any_width_and_in_any_scheme(tmp_path):
  pages = []
  run = Run("python main.py", ("python main.py", "next"), stages={"a": 3.0})
  for name, results in (("few", report()), ("full", full_report())):
    pages.append(tmp_path / name / "report.html")
    pages[-1].parent.mkdir()
    shown = points_page.content(results)
    page.write(pages[-1], *points_page.heading(results), shown, run)
  found = list(axe.findings(pages, Path(os.environ["FBQ_AXE"])))
  assert [one for one in found if one.impact in axe.GRAVE] == []


def test_axe_would_find_a_name_that_is_missing(tmp_path):
  """The check can fail: a picture without a name, letters without contrast."""
  bad = tmp_path / "bad.html"
  bad.write_text(
    '<html lang="en"><title>t</title><main><h1>t</h1><img src="x.png">'
    '<p style="color:#ccc;background:#fff">pale</p></main>'
  )
  found = axe.findings([bad], Path(os.environ["FBQ_AXE"]))
  assert {"image-alt", "color-contrast"} <= {one.rule for one in found}
