"""What a terminal shows: how far a run is, tables, flags, the end by Ctrl-C."""

import io
import math
import pathlib
import time

import pytest
from rich.console import Console

from fbq.lab import command_line, running
from fbq.report import cells, means, sentences
from fbq.report.blocks import Column, Table, number
from fbq.train import heartbeat
from fbq.train.heartbeat import Doing
from fbq.train.log import Log, Stopwatch

ROOT = pathlib.Path(__file__).parents[1]


class Clock:
  """A clock that tests move."""

  def __init__(self, monkeypatch):
    self.now = 50.0
    monkeypatch.setattr(heartbeat.time, "perf_counter", lambda: self.now)


def test_a_line_tells_step_loss_speed_and_the_time_left(monkeypatch):
  clock = Clock(monkeypatch)
  doing = Doing("search", 1200)
  assert str(doing) == "search: step 0 of 1,200"
  clock.now += 100  # of compilation, which comes once
  doing.move(200, {"loss": 0.5}, {"images_per_second": 1234.4})
  assert str(doing) == "search: step 200 of 1,200, loss 0.500, 1,234 images/s"
  clock.now += 30
  doing.move(300, {"loss": 0.25}, {})
  # 100 steps took 30 s, so the 900 that are left take 270
  assert str(doing) == "search: step 300 of 1,200, loss 0.250, 4 min left"


@pytest.mark.parametrize("width", [12, 24, 40, 60, 100])
def test_what_matters_least_goes_first_where_a_terminal_is_narrow(
  width, monkeypatch
):
  clock = Clock(monkeypatch)
  doing = Doing("seed0-search-locked-0.0012", 2000)
  for step in (100, 200):
    clock.now += 10
    doing.move(step, {"loss": 1.0, "accuracy": 0.5}, {"waiting": 0.25})
  text = doing.fitted(width)
  assert len(text) <= width
  assert ("200/2000 3 min left" in text) == (width >= 24)
  assert ("25% waiting" in text) == (width == 100)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_forced_colours_make_no_terminal_of_a_pipe(
  is_terminal, tmp_path, monkeypatch
):
  """A bar is drawn on a terminal; a file gets lines, wide enough for tables."""

  class Stream(io.StringIO):
    def isatty(self):
      return is_terminal

  monkeypatch.setenv("FORCE_COLOR", "1")
  monkeypatch.delenv("COLUMNS", raising=False)
  monkeypatch.setattr("sys.stdout", out := Stream())
  log = Log(tmp_path / "metrics.jsonl")
  with log.alive(lambda: "", 0.02), log.bar("float", 10, 0) as move:
    move(4, {"loss": 2.0}, {})
    time.sleep(0.1)
  drawn, line = "\x1b[2K", "float: step 4 of 10, loss 2.000"
  assert (drawn in out.getvalue()) == is_terminal
  assert (line in out.getvalue()) != is_terminal
  assert is_terminal or log.console.width == 120


def test_no_terminal_hears_of_a_training_and_of_what_is_none(tmp_path):
  out = io.StringIO()
  log = Log(tmp_path / "metrics.jsonl", Console(file=out, width=200))
  clock = Stopwatch()
  with log.alive(lambda: str(clock), 0.02):
    time.sleep(0.1)  # nothing is done, so nothing is said
    quiet = out.getvalue()
    with clock.measure("calibration"):
      time.sleep(0.1)
    with log.bar("float", 10, 0) as move:
      move(4, {"loss": 2.0}, {})
      time.sleep(0.1)
  assert quiet == ""
  assert "calibration: 0 s so far" in out.getvalue()
  assert "float: step 4 of 10, loss 2.000" in out.getvalue()
  said = out.getvalue()
  time.sleep(0.1)
  assert out.getvalue() == said, "it goes on after its end"


TABLE = Table(
  [
    Column("mark", "sign"),
    Column("assignment"),
    number("cycles"),
    *(number(f"column\n{i}") for i in range(6)),
    Column("left to the page", "long"),
  ],
  [["★", f"locked-85%+FB{i} = another-name", 10**6, *range(6), "x"]
   for i in range(3)],
  label="what is shown",
)  # fmt: skip


@pytest.mark.parametrize("width, shown", [(120, 6), (60, 3), (40, 1)])
def test_a_table_keeps_names_and_drops_the_last_columns(width, shown):
  out = io.StringIO()
  Console(file=out, width=width).print(cells.printed(TABLE))
  lines = out.getvalue().splitlines()
  assert max(map(len, lines)) <= width
  for i in range(3):
    assert f"locked-85%+FB{i}" in out.getvalue()
  assert "1,000,000" in out.getvalue() and "another-name" in out.getvalue()
  headed = next(line for line in lines if "assignment" in line)
  assert len(headed.split()) == 3 + shown
  assert ("more column" in lines[-1]) == (shown < 6)
  if shown < 6:
    assert lines[-1].startswith(f"{6 - shown} more column")


def test_help_lists_every_config_and_how_a_setting_is_changed():
  text = command_line.help_text("about", ROOT / "configs") % ()
  for path in (ROOT / "configs").glob("*.py"):
    assert f"configs/{path.name}\n" in text
  assert "--config.search.steps=500" in text and "--settings" in text


def test_a_dict_in_a_flag_is_told_how_to_be_given():
  configs = ROOT / "configs"
  flag = "--config.target_overrides"
  given = ["main.py", f"--config={configs / 'profile_pulp.py'}"]
  text = f"flag {flag}=l1_bytes=9: Failed to parse 'l1_bytes=9' as a ConfigDict"
  said = command_line._of_flags(text, [*given, f"{flag}=l1_bytes=9"], configs)
  assert "expected a dict as Python writes it, \"{'l1_bytes'" in said
  said = command_line._no_setting(
    KeyError("l1_bytes"), [*given, "--config.points=3", f"{flag}.l1_bytes=9"]
  )
  assert said.startswith(f"{flag}.l1_bytes=9: no such setting: 'l1_bytes'")
  assert f"give it whole: {flag}=\"{{'l1_bytes': ...}}\"" in said


def test_ctrl_c_ends_in_a_line_that_says_how_to_go_on(capsys):
  with pytest.raises(SystemExit) as ended, running.interruptible():
    raise KeyboardInterrupt
  assert ended.value.code == 130
  assert "give the same command again" in capsys.readouterr().err


def test_a_change_is_more_or_less_and_never_negative():
  assert sentences.more_or_less(-0.17, "cycles") == "17.0% fewer cycles"
  assert sentences.more_or_less(-0.524) == "52.4% less"
  assert sentences.more_or_less(0.0541) == "5.4% more"


@pytest.mark.parametrize(
  "value, lost, below",
  [
    (0.005, "loses 0.50 points", "0.50 points below"),
    (-0.0028, "gains 0.28 points", "0.28 points above"),
    (-1e-9, "loses 0.00 points", "0.00 points below"),
  ],
)
def test_no_sentence_has_a_negative_loss(value, lost, below):
  loss = means.Mean(value, math.nan, 1)
  assert sentences.points_lost(loss) == lost
  assert sentences.points_below(loss) == below


def test_nouns_agree_with_their_numbers():
  assert sentences.counted(1, "pass", "passes") == "1 pass"
  assert sentences.counted(1234, "seed") == "1,234 seeds"
  words = sentences.bits_in_words({"a.weight": 8, "b.out": 2, "c.out": 4})
  assert words == (
    "weights: 8 bits in 1 tensor; activations: 2 bits in 1, 4 in 1 tensors"
  )
