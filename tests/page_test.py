"""Pages made of blocks: what they show, escape, link and refuse."""

import dataclasses
import io
import json
import re
from html.parser import HTMLParser

import pytest
import rich.console

from fbq.report import cells, page, picture
from fbq.report.blocks import (
  Answer,
  Bullets,
  Cell,
  Code,
  Column,
  Details,
  Facts,
  Figures,
  Links,
  Picture,
  Section,
  Table,
  Text,
  number,
)
from fbq.report.run import Run, commit, machine

EVIL = "<script>alert('x')</script>&"


class Elements(HTMLParser):
  """Every element with its attributes and the text within it."""

  def __init__(self, text):
    super().__init__()
    self.found, self.open = [], []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.found.append((tag, dict(attrs), []))
    if tag != "meta":
      self.open.append(self.found[-1])

  def handle_endtag(self, tag):
    assert self.open.pop()[0] == tag

  def handle_data(self, data):
    for _, _, texts in self.open:
      texts.append(data)

  def all(self, tag, **wanted):
    return [
      (attributes, " ".join("".join(texts).split()))
      for name, attributes, texts in self.found
      if name == tag
      and all(attributes.get(k.rstrip("_")) == v for k, v in wanted.items())
    ]


def read(*blocks):
  found = Elements(page.html("title", "question?", blocks, Run()))
  assert not found.open  # every element that needs an end has one
  return found


def drawn(alt="a picture"):
  figure = picture.new(4, 3)
  figure.subplots().plot([1, 2])
  return picture.svg(figure, alt)


def every_block(text):
  """Each kind of block with `text` wherever a text can stand."""
  cell = Cell(1.0, text=text, error=0.1, note=text, href=text)
  column = Column(text, group=text)
  return [
    Answer([text], [Text(text, lead=text), Links([(text, text)])]),
    Figures([(text, text)]),
    Bullets([text]),
    Code(text),
    Facts({text: text}),
    Picture(drawn(text)),
    Section(
      text,
      [
        Table([column], [[text], [cell]], label=text),
        Table([Column("bits", "bits")], [[(text, None)]]),
        Details(text, [Text(text)], text),
      ],
      text,
    ),
  ]


def test_every_text_is_escaped():
  run = Run(
    EVIL,
    (EVIL, EVIL),
    EVIL,
    {EVIL: EVIL},
    [0],
    {EVIL: 1.0},
    {EVIL: EVIL},
    [EVIL],
  )
  files = ["results.csv", f"precision/{EVIL}.json"]
  text = page.html(EVIL, EVIL, every_block(EVIL), run, files)
  assert text.count("<script") == 1  # The page's own.
  assert "')<" not in text
  assert text.count("&lt;script&gt;") > 35
  Elements(text)


def test_a_page_loads_nothing_from_elsewhere():
  text = page.html("title", "question?", every_block("x"), Run())
  for target in re.findall(r"""(?:src|href|action)\s*=\s*["']([^"']*)""", text):
    assert target == "x" or target.startswith("#")
  text = text.replace("http://www.w3.org/2000/svg", "")
  for sign in ("//w", "http", "@import", "<link", "<iframe", "src="):
    assert sign not in text
  assert re.findall(r"url\(([^)]*)\)", text) == [
    match for match in re.findall(r"url\((#[^)]*)\)", text)
  ]


def test_numbers_are_formatted_and_sorted_by_their_values():
  columns = [
    Column("name"),
    number("cycles"),
    number("change\n%", "{:+.1f}"),
    Column("bits", "bits"),
    Column("share", "bar", "{:.0f} %"),
  ]
  rows = [
    ["a", 1024768, Cell(0.25, error=0.5), (8, None), 25.0],
    ["b", None, float("nan"), 2, 50.0],
    [Cell("c", href="#c"), 7, Cell(3.0, text="three"), None, 0.0],
  ]
  found = read(Table(columns, rows, ["best", "like", ""]))
  cells = found.all("td")
  shown = [text for _, text in cells]
  assert shown[:4] == ["1,024,768", "+0.2 ± 0.5", "8 / –", "25 %"]
  assert shown[4:8] == ["–", "–", "2", "50 %"]
  assert shown[8:] == ["7", "three", "–", "0 %"]
  keys = [attributes.get("data-sort") for attributes, _ in cells]
  assert keys[:4] == ["1024768", "0.25", None, "25.0"]
  assert keys[4:8] == [None, None, None, "50.0"]
  assert keys[8:] == ["7", "3.0", None, "0.0"]
  names = found.all("th", scope="row")
  assert [text for _, text in names] == ["a", "b", "c"]
  assert found.all("a", href="#c")
  assert [a.get("class") for a, _ in found.all("tr")][1:] == [
    "best",
    "like",
    None,
  ]
  widths = [a["style"] for a, _ in found.all("i")]
  assert widths == ["width: 2.25rem", "width: 4.5rem"]
  chips = [a["class"] for a, _ in found.all("span")]
  assert chips == ["chip b8", "chip b2"]


def test_a_table_of_things_has_a_row_for_each():
  table = Table.of(
    iter("ab"),
    (Column("name"), str.upper),
    (number("code"), ord),
    marks=lambda letter: "best" if letter == "b" else "",
    label="letters",
  )
  names = [Column("name"), number("code")]
  rows = [["A", 97], ["B", 98]]
  assert table == Table(names, rows, ["", "best"], "letters")


def test_a_terminal_shows_the_same_table():
  """Names are taken literally, and a cell says all that the page says."""
  columns = [Column("name"), number("n\n%", "{:.1f}"), Column("bits", "bits")]
  rows = [["[bold]x[/no]", Cell(2.0, error=0.25), (8, None)], ["y", None, 4]]
  rows.append([Cell("z", note="= also"), 1234.5, None])
  columns.append(Column("why", "long"))  # left to the page
  rows = [[*row, "because"] for row in rows]
  out = io.StringIO()
  printed = cells.printed(Table(columns, rows, ["best", "", ""]), "title")
  rich.console.Console(file=out, width=80).print(printed)
  for said in ("title", "[bold]x[/no]", "2.0 ± 0.2", "8 / –", "z = also"):
    assert said in out.getvalue(), said
  assert out.getvalue().count("–") == 3 and "because" not in out.getvalue()


def test_headings_have_a_scope_and_tables_a_region_to_focus():
  grouped = [Column("a"), number("b", group="both"), number("c", group="both")]
  found = read(
    Section("wide", [Table(grouped, [["x", 1, 2]] * 2), Picture(drawn())]),
    Table([Column("one")], [["row"]], label="short"),
  )
  assert all("scope" in a for a, _ in found.all("th"))
  assert [a for a, t in found.all("th") if t == "both"][0]["colspan"] == "2"
  assert (
    len(found.all("table", class_="sortable")) == 1
  )  # One row has no order.
  regions = [a for a, _ in found.all("div", class_="wide")]
  assert [a["aria-label"] for a in regions] == [
    "wide",
    "wide: picture 2",
    "short",
  ]
  assert all((a["role"], a["tabindex"]) == ("region", "0") for a in regions)
  assert len(found.all("main")) == 1
  assert [t for _, t in found.all("h2")] == ["wide", "The run"]


def test_sections_within_sections_have_smaller_headings():
  found = read(Section("a", [Section("b", [Section("c", [], "deep")])]))
  assert found.all("h3") == [({}, "b")]
  assert found.all("h4") == [({"id": "deep"}, "c")]


def test_a_page_ends_with_the_run_and_links_what_is_beside_it(tmp_path):
  for name in ("results.csv", "mine.json", "mine.txt", "result.json"):
    (tmp_path / name).write_text("x")
  (tmp_path / "precision").mkdir()
  (tmp_path / "precision" / "free-0.1 +FB.json").write_text("{}")
  run = Run(
    command="python main.py --config=c.py",
    next=("python main.py --config=export.py", "To export it:"),
    facts=machine(),
    seeds=[17, 18],
    stages={"search": 61.4, "report": 2.0},
    settings={"qat": {"steps": 5}},
    assumptions=["All of it fits in L2."],
  )
  svg = drawn()
  shown = [Section("s", [Details("d", [Picture(svg, "front.svg")])])]
  page.write(tmp_path / "report.html", "title", "question?", shown, run)
  text = (tmp_path / "report.html").read_text()
  found = Elements(text)
  assert (tmp_path / "front.svg").read_text() == svg and svg in text
  assert {t: a["href"] for a, t in found.all("a")} == {
    "results.csv": "results.csv",
    "mine.json": "mine.json",
    "precision/free-0.1 +FB.json": "precision/free-0.1%20%2BFB.json",
    "front.svg": "front.svg",
  }
  codes = [t for _, t in found.all("pre")]
  assert codes[:2] == [run.command, run.next[0]]
  assert codes[2] == '{ "qat": { "steps": 5 } }'
  for said in (
    "To export it:",
    "17, 18",
    "1 min 01 s",
    "1 min 03 s",
    "in L2.",
  ):
    assert said in text, said


def test_a_run_survives_json():
  run = Run("a", ("b", "c"), "d", machine(), [1], {"e": 1.0}, {"f": 2}, ["g"])
  again = Run(**json.loads(json.dumps(dataclasses.asdict(run))))
  assert page.html("t", "q", [], again) == page.html("t", "q", [], run)


def test_the_commit_is_that_of_a_checkout_or_nothing():
  assert re.fullmatch(r"([0-9a-f]{12}\+?)?", commit())


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: Column("a", kind="percent"), "kind\n.*'number'.*'percent'"),
    (
      lambda: Table([Column("a")], [["b", "c"]]),
      "'a': row 0 has 2 .*expected 1",
    ),
    (
      lambda: Table([Column("a")], [["b"]], marks=["x"]),
      "marks.0\n.*best.like.*'x'",
    ),
    (lambda: Table([Column("a")], [["b"]], ["best"] * 2), "2 marks for 1 rows"),
  ],
)
def test_what_does_not_exist_is_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_what_is_no_block_is_refused():
  with pytest.raises(TypeError, match="'words' is not a block.*'Text'"):
    page.html("title", "question?", [Section("s", ["words"])], Run())
