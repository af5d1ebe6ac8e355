"""Pages: self-contained files made from the templates beside this module.

Pictures are embedded, the style is inline and nothing is loaded from elsewhere,
so a page can be mailed. `base.html` has the style, `macros.html` what pages
share.
"""

import base64
import importlib.resources
import json
from typing import Any


def render(template: str, **values: Any) -> str:
  """The page as HTML; every text among the values is escaped.

  Raises:
    jinja2.UndefinedError: the template asks for a value that is not given.
  """
  import jinja2

  folder = importlib.resources.files("fbq.report")
  environment = jinja2.Environment(
    loader=jinja2.FunctionLoader(
      lambda name: (folder / name).read_text("utf-8")
    ),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters.update(
    grouped=lambda number: f"{number:,}",
    percent=lambda value, digits=2: f"{value * 100:.{digits}f}",
    signed=lambda value, digits=1: f"{value * 100:+z.{digits}f}",
    duration=_duration,
    embedded=_embedded,
    pretty=lambda value: json.dumps(value, indent=2, sort_keys=True),
  )
  return environment.get_template(template).render(**values)


def _embedded(png: bytes) -> str:
  return base64.b64encode(png).decode()


def _duration(seconds: float) -> str:
  """For instance '2 min 05 s' or '3.2 s'."""
  if seconds < 60:
    return f"{seconds:.1f} s"
  minutes, rest = divmod(round(seconds), 60)
  return f"{minutes} min {rest:02d} s"
