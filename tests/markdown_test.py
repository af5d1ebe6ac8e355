"""What runs tell, as Markdown; and the places that it takes in documents."""

import pathlib
import re

import pytest

from benchmarks import results
from fbq.report import cells, markdown
from fbq.report.blocks import Cell, Column, Table, number
from fbq.report.run import Run

ROOT = pathlib.Path(__file__).parent.parent


def test_a_table_as_markdown():
  table = Table(
    [Column("name"), number("lost\n%", "{:.1f}"), Column("why", "long")],
    [["a_b|<2>", Cell(1.26, error=0.25), "many words"], ["c", None, ""]],
    ["", "best"],
  )
  assert markdown.of_table(table).splitlines() == [
    "| name | lost % |",
    "| --- | ---: |",
    r"| a\_b\|&lt;2&gt; | 1.3 ± 0.2 |",
    "| **c** | **–** |",
  ]


def test_what_an_experiment_tells_and_how_it_came_about():
  class Kind:
    def tell(self, found, log):
      log.console.print(cells.printed(Table([Column("x")], [[found]])))
      log.say("Give 4* bits\nto all.")

  run = Run(
    command="python main.py",
    commit="0123456789ab",
    facts={"date": "2026-01-02", "versions": "jax 1"},
    seeds=(0, 2),
    stages={"float": 100, "search": 80},
  )
  assert markdown.told(Kind(), 3, run) == [
    "| x |\n| --- |\n| 3 |",
    r"Give 4\* bits to all.",
    "`python main.py`; 2026-01-02; jax 1; commit 012345678; seeds 0, 2; 3 min "
    "of stages.",
  ]


def test_only_the_places_of_a_run_are_filled():
  text = (
    "a\n<!-- results: one -->\nold\n<!-- end of results -->\nb\n"
    "<!-- answer: one -->\n<!-- end of results -->\n"
    "<!-- results: two -->\nkept\n<!-- end of results -->\n"
  )
  found = results.filled(text, {"one": ["| t |", "Answer.", "More.", "By."]})
  assert found == (
    "a\n<!-- results: one -->\n\n| t |\n\nAnswer.\n\nMore.\n\nBy.\n\n"
    "<!-- end of results -->\nb\n"
    "<!-- answer: one -->\n\nAnswer.\n\nBy.\n\n<!-- end of results -->\n"
    "<!-- results: two -->\nkept\n<!-- end of results -->\n"
  )
  again = {"one": ["| t |", "Answer.", "More.", "By."]}
  assert results.filled(found, again) == found


@pytest.mark.parametrize("name", results.DOCUMENTS)
def test_places_in_documents_are_whole(name):
  text = (ROOT / name).read_text(encoding="utf-8")
  begins = re.findall(r"<!-- (?:results|answer): ", text)
  assert len(begins) == len(results._PLACE.findall(text))


def test_an_unknown_run_is_told():
  with pytest.raises(SystemExit, match="'nope' is no run; known: digits_free"):
    results.main(["nope"])


def test_every_run_has_its_config():
  for config in results.RUNS.values():
    assert (ROOT / "configs" / config.split(":")[0]).is_file()
