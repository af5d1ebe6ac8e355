"""docs/settings.md is what the settings say."""

import pathlib

from fbq import doors
from fbq.config_words import table
from fbq.lab import settings_page

PAGE = pathlib.Path(__file__).parents[1] / "docs/settings.md"


def test_the_page_of_settings_is_current():
  made = settings_page.text()
  message = "run: python -m fbq.lab.settings_page > docs/settings.md"
  assert PAGE.read_text() == made, message


def test_every_setting_says_what_it_is_and_what_it_takes():
  for name in doors.KNOWN["experiment"]:
    for row in table(doors.resolve("experiment", name).settings):
      assert row.meaning.endswith((".", ")")), (name, row)
      assert row.expected and row.expected != "anything", (name, row)
