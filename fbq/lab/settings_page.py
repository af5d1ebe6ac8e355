"""docs/settings.md: python -m fbq.lab.settings_page > docs/settings.md."""

from collections.abc import Iterator

from fbq import doors
from fbq.config import Settings
from fbq.config_words import table
from fbq.lab.settings import Judged, OnTarget, Training

_HEAD = """# Settings

Every setting of every experiment, made by `python -m fbq.lab.settings_page`.
`python main.py --config=... --settings` shows those of one config with their
values; `--config.NAME=VALUE` changes one, `--config.search.steps=400` one in a
group. A default that is empty must be given.
"""
_SHARED = {
  Training: "Every experiment that trains",
  OnTarget: "Experiments that cost a network on hardware",
  Judged: "Experiments that fine-tune points and recommend one",
}


def text() -> str:
  """The page, as Markdown."""
  parts = [_HEAD]
  for kind, title in _SHARED.items():
    parts += [f"## {title}\n", *_rows(kind, ())]
  for name in doors.KNOWN["experiment"]:
    kind = doors.resolve("experiment", name).settings
    shared = [k for k in _SHARED if issubclass(kind, k)]
    links = "; ".join(_SHARED[k][0].lower() + _SHARED[k][1:] for k in shared)
    parts.append(f"## `{name}`\n\n{_about(kind)}")
    if links:
      parts.append(f"Beside these, the settings of: {links}.\n")
    parts += _rows(kind, shared)
  for name in doors.KNOWN["data"]:
    kind = doors.resolve("data", name).settings
    parts += [f"## `data.name={name}`\n\n{_about(kind)}", *_rows(kind, ())]
  return "\n".join(parts)


def _about(kind: type[Settings]) -> str:
  return f"{(kind.__doc__ or '').strip()}\n"


def _rows(kind: type[Settings], shared) -> Iterator[str]:
  """A table of the settings that do not stand in `shared` as they are."""
  known = {row for each in shared for row in table(each)}
  rows = [row for row in table(kind) if row not in known]
  yield "| setting | default | takes | meaning |\n|---|---|---|---|"
  for row in rows:
    default = f"`{row.default}`" if row.default else ""
    cells = (f"`{row.name}`", default, row.expected, row.meaning)
    yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
  yield ""


if __name__ == "__main__":
  print(text(), end="")
