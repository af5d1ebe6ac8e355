"""What axe finds on pages, and how they look: python tests/axe.py PAGE...

Needs chromium, and axe.min.js of the npm package axe-core, named by FBQ_AXE:
neither is part of this project. Every page is looked at at 390 and 1,280
pixels, light and dark, with all that a click shows shown. `--shots DIRECTORY`
leaves pictures of all four there.
"""

import argparse
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

WIDTHS = (390, 1280)
SCHEMES = ("light", "dark")
GRAVE = ("serious", "critical")
_NAMES = ("chromium", "chromium-browser", "google-chrome")
# A page without a click, and one with all details open.
_OPEN = "document.querySelectorAll('details').forEach(d => d.open = true)"
_RUN = (
  "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)"
)


class Finding(NamedTuple):
  """Something that axe holds against a page.

  Attributes:
    page: name of the file.
    width, scheme: where it was seen.
    impact: "minor", "moderate", "serious" or "critical".
    rule: axe's name of the rule.
    help: what the rule asks.
    places: selectors of the elements.
  """

  page: str
  width: int
  scheme: str
  impact: str
  rule: str
  help: str
  places: tuple[str, ...]


class Browser:
  """A chromium without a window, spoken to through two pipes."""

  def __init__(self, to: IO[bytes], back: IO[bytes]):
    """
    Args:
      to: takes commands.
      back: gives answers and events.
    """
    self._to, self._back = to, back
    self._session: str | None = None
    self._numbers = itertools.count(1)
    self._left = b""
    target = self.ask("Target.createTarget", url="about:blank")
    found = self.ask(
      "Target.attachToTarget", targetId=target["targetId"], flatten=True
    )
    self._session = found["sessionId"]
    self.ask("Page.enable")

  def ask(self, method: str, **given: Any) -> dict[str, Any]:
    """What the browser answers to a command of the DevTools protocol."""
    number = next(self._numbers)
    message = {"id": number, "method": method, "params": given}
    if self._session:
      message["sessionId"] = self._session
    self._send(json.dumps(message).encode() + b"\0")
    while True:
      answer = self._next()
      if answer.get("id") == number:
        if "error" in answer:
          raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

  def value(self, script: str) -> Any:
    """What a script gives, awaited."""
    found = self.ask(
      "Runtime.evaluate",
      expression=script,
      awaitPromise=True,
      returnByValue=True,
    )
    if "exceptionDetails" in found:
      raise RuntimeError(f"{script[:80]}: {found['exceptionDetails']}")
    return found["result"].get("value")

  def show(self, page: Path, width: int, scheme: str) -> None:
    """Loads a page."""
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    self.ask("Emulation.setEmulatedMedia", features=media)
    self.ask(
      "Emulation.setDeviceMetricsOverride",
      width=width,
      height=900,
      deviceScaleFactor=1,
      mobile=width < 600,
    )
    self.ask("Page.navigate", url=page.resolve().as_uri())
    while self.value("document.readyState") != "complete":
      pass

  def picture(self) -> bytes:
    """The whole page as PNG."""
    height = self.value("document.documentElement.scrollHeight")
    width = self.value("window.innerWidth")
    area = dict(x=0, y=0, width=width, height=min(height, 12000), scale=1)
    found = self.ask(
      "Page.captureScreenshot", captureBeyondViewport=True, clip=area
    )
    return b64decode(found["data"])

  def _send(self, text: bytes) -> None:
    while text:
      text = text[self._to.write(text) or 0 :]

  def _next(self) -> dict[str, Any]:
    while b"\0" not in self._left:
      self._left += os.read(self._back.fileno(), 1 << 20)
    one, _, self._left = self._left.partition(b"\0")
    return json.loads(one)


def program() -> str | None:
  """Where chromium is, or None."""
  return next(filter(None, map(shutil.which, _NAMES)), None)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
  """A browser, which ends with the block."""
  theirs_in, to = os.pipe()
  back, theirs_out = os.pipe()

  def hand_over():  # they are to be 3 and 4
    os.dup2(theirs_in, 100)
    os.dup2(theirs_out, 101)
    os.dup2(100, 3)
    os.dup2(101, 4)

  with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
    process = subprocess.Popen(
      [
        program() or "chromium",
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *("--hide-scrollbars", "--remote-debugging-pipe"),
        f"--user-data-dir={profile}",
      ],
      preexec_fn=hand_over,
      pass_fds=(3, 4, theirs_in, theirs_out),
      stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    with os.fdopen(to, "wb", 0) as out, os.fdopen(back, "rb") as answers:
      try:
        yield Browser(out, answers)
      finally:
        process.terminate()
        process.wait()


def findings(
  pages: list[Path], axe: Path | None, shots: Path | None = None
) -> Iterator[Finding]:
  """What is held against pages.

  Args:
    pages: HTML files.
    axe: axe.min.js; None: nothing is asked.
    shots: directory for pictures of them.
  """
  script = axe.read_text() if axe else ""
  with browser() as window:
    for page, width, scheme in itertools.product(pages, WIDTHS, SCHEMES):
      window.show(page, width, scheme)
      if shots:
        name = f"{page.parent.name}-{width}-{scheme}.png"
        (shots / name).write_bytes(window.picture())
      if not axe:
        continue
      window.value(_OPEN)
      window.value(f"{script};0")
      for found in window.value(_RUN):
        places = tuple(str(node["target"]) for node in found["nodes"])
        yield Finding(
          f"{page.parent.name}/{page.name}",
          width,
          scheme,
          found["impact"],
          found["id"],
          found["help"],
          places,
        )


def main() -> None:
  """Prints what is found; ends with an error if something is serious."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("pages", nargs="+", type=Path)
  parser.add_argument("--shots", type=Path)
  given = parser.parse_args()
  axe = os.environ.get("FBQ_AXE")
  found = findings(given.pages, Path(axe) if axe else None, given.shots)
  grave = 0
  for one in found:
    grave += one.impact in GRAVE
    print(
      f"{one.page} {one.width} {one.scheme}: {one.impact}: {one.rule}: "
      f"{one.help}: {len(one.places)} places: {', '.join(one.places[:3])}"
    )
  print(f"{grave} serious or critical")
  sys.exit(bool(grave))


if __name__ == "__main__":
  main()
