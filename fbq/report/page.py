"""Pages: self-contained files made of blocks by the one template beside this.

Pictures are embedded, style and script are inline and nothing is loaded from
elsewhere, so a page can be mailed. Every text is escaped.
"""

import importlib.resources
import json
import os
import typing
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path

from fbq.files import write_atomically
from fbq.report import cells, curves, picture
from fbq.report.blocks import (
  Block,
  Bullets,
  Cell,
  Code,
  Column,
  Details,
  Facts,
  Links,
  Picture,
  Section,
  Table,
  Text,
  number,
)
from fbq.report.run import Run
from fbq.report.sentences import counted

# What a run may leave beside its page; result.json comes after the page, and
# says no more than results.json.
_FILES = ("*.csv", "*.json", "*.jsonl", "*/*.json", "*/*.txt")


def write(
  path: str | os.PathLike,
  title: str,
  question: str,
  blocks: Sequence[Block],
  run: Run,
) -> None:
  """Writes a page, whole or not at all, and its pictures that have a file.

  Args:
    path: where the page goes; files beside it are linked.
    title: heading of the page.
    question: that the page answers.
    blocks: what is shown, in this order.
    run: facts with which the page ends.
  """
  folder = Path(path).parent
  blocks = [*blocks, *curves.section(folder / "metrics.jsonl")]
  pictures = [each for each in _pictures(blocks) if each.file]
  for each in pictures:
    write_atomically(folder / each.file, each.svg)
  files = [
    str(found.relative_to(folder))
    for pattern in _FILES
    for found in sorted(folder.glob(pattern))
    if found.name != "result.json"
  ]
  files += [each.file for each in pictures]
  write_atomically(path, html(title, question, blocks, run, files))


def html(
  title: str,
  question: str,
  blocks: Sequence[Block],
  run: Run,
  files: Sequence[str] = (),
) -> str:
  """The page as HTML, see `write`; `files` are linked at its end."""
  import jinja2

  environment = jinja2.Environment(
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters |= {
    "kind": _kind,
    "groups": cells.groups,
    "views": cells.views,
  }
  source = importlib.resources.files("fbq.report").joinpath("page.html")
  template = environment.from_string(source.read_text("utf-8"))
  return template.render(
    title=title,
    question=question,
    blocks=[*blocks, _about(run, files)],
    scheme=picture.SCHEME,
  )


def duration(seconds: float) -> str:
  """For instance '2 min 05 s' or '3.2 s'."""
  if seconds < 60:
    return f"{seconds:.1f} s"
  minutes, rest = divmod(round(seconds), 60)
  return f"{minutes} min {rest:02d} s"


def _pictures(blocks: Sequence[Block]) -> Iterator[Picture]:
  for block in blocks:
    if isinstance(block, Picture):
      yield block
    if isinstance(block, Section | Details):
      yield from _pictures(block.blocks)


def _about(run: Run, files: Sequence[str]) -> Section:
  """How the results came about, what else there is and how to go on."""
  more = {
    "commit": run.commit,
    "seeds": ", ".join(map(str, run.seeds)),
    "wall time": duration(sum(run.stages.values())) if run.stages else "",
  }
  facts = {**run.facts, **{name: text for name, text in more.items() if text}}
  folders: dict[str, list[str]] = {"": []}
  for name in files:
    folders.setdefault(name.rpartition("/")[0], []).append(name)
  parts: list[Block] = []
  if run.assumptions:
    parts += [Text("What the numbers rest on:"), Bullets(run.assumptions)]
  if run.command:
    parts += [Text("The command of this run:"), Code(run.command)]
  if run.next:
    command, words = run.next
    parts += [Text(words), Code(command)]
  parts += [Facts(facts), _links(folders.pop(""))]
  for folder, names in folders.items():
    parts.append(
      Details(f"{counted(len(names), 'file')} in {folder}/", [_links(names)])
    )
  if run.stages:
    columns = [Column("stage"), number("wall time")]
    rows = [[name, Cell(s, duration(s))] for name, s in run.stages.items()]
    parts.append(Details("stages", [Table(columns, rows)]))
  if run.settings:
    text = json.dumps(run.settings, indent=2, sort_keys=True)
    parts.append(Details("settings", [Code(text)]))
  return Section("The run", parts)


def _links(files: Sequence[str]) -> Links:
  return Links([(name, urllib.parse.quote(name)) for name in files])


def _kind(block: Block) -> str:
  if not isinstance(block, Block):
    raise TypeError(
      f"page: {block!r} is not a block, expected one of "
      f"{[kind.__name__ for kind in typing.get_args(Block)]}"
    )
  return type(block).__name__
