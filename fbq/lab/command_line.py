"""The command line of main.py: what --help says, what is wrong in a flag."""

import ast
import difflib
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

_OVERRIDES = """\
Any setting: --config.seeds="(0,1,2)" --config.search.steps=500
All settings of a config, with bounds and meaning: --settings
A word after a colon is a choice of the config's own, as its first lines tell:
--config=configs/imagenet_free_bits.py:smoke
"""


def help_text(about: str, configs: Path) -> str:
  """What --help says before the flags.

  Args:
    about: what the program is.
    configs: directory of the configs that come with it.
  """
  lines = [about, _OVERRIDES, "Configs:"]
  for path in sorted(configs.glob("*.py")):
    said = ast.get_docstring(ast.parse(path.read_text())) or ""
    lines += [f"  {configs.name}/{path.name}", f"    {said.splitlines()[0]}"]
  # absl puts the name of the program for a single percent sign.
  return "\n".join([*lines, ""]).replace("%", "%%")


def parser(
  read: Callable[[], object], configs: Path
) -> Callable[[Sequence[str]], list[str]]:
  """What parses flags; what is wrong in them ends the program with a line.

  Args:
    read: reads the config; OSError or a flag's error if it cannot.
    configs: directory of the configs that come with the program.
  """

  def parse(arguments: Sequence[str]) -> list[str]:
    try:
      rest = flags.FLAGS(arguments)
      read()
      return rest
    except flags.Error as error:
      problem = _of_flags(str(error), arguments, configs)
    except OSError as error:
      problem = _no_config(str(error.__cause__ or error), arguments, configs)
    except (LookupError, AttributeError, TypeError) as error:
      frames = traceback.extract_tb(error.__traceback__)
      if not any("config_path.py" in frame.filename for frame in frames):
        raise  # a mistake inside of the config file
      problem = _no_setting(error, arguments)
    except Exception as error:
      if _config_of(arguments).suffix == ".py":
        raise  # a mistake inside of the config file
      problem = _no_config(str(error), arguments, configs)
    sys.exit(" ".join(f"error: {problem}".split()))

  return parse


# What absl or Python says of a value -> what the setting takes.
_EXPECTED = {
  "invalid literal for int": "a whole number without a unit",
  "could not convert": "a number without a unit",
  "Non-boolean": "True or False",
  "as a ConfigDict": "a dict as Python writes it, \"{'l1_bytes': 256000}\"",
  "as tuple": 'a tuple as Python writes it, "(1, 2)" or "(\'one\',)"',
}


def _of_flags(text: str, arguments: Sequence[str], configs: Path) -> str:
  """What absl says of a wrong flag, in a line if a user is at fault."""
  _, ours, message = text.partition("ConfigError: ")
  if ours:  # of the config file: a word after its colon
    return message
  if "--config=None" in text:
    return f"--config must have a value: a config file{_known(configs)}"
  path = _config_of(arguments)
  if "Traceback" in text or "No such file" in text or not path.is_file():
    if not path.is_file() or path.suffix != ".py":
      return _no_config(text, arguments, configs)
    sys.exit(f"error: {text}")  # a mistake inside of the config file
  setting, _, why = text.partition(": ")
  for said, expected in _EXPECTED.items():
    if said in why and setting.startswith("flag --config."):
      text = f"{setting}: expected {expected}"
      if "number" in expected:
        text += (
          "; the config has a number there: give one, or change the config"
        )
      return text
  return text


def _config_of(arguments: Sequence[str]) -> Path:
  """The file that --config names, without the words after its colon."""
  found = ""
  for text, following in zip(arguments, [*arguments[1:], ""], strict=True):
    name, equals, value = text.lstrip("-").partition("=")
    if name == "config" and text.startswith("-"):
      found = value if equals else following
  return Path(found.split(":")[0])


def _no_config(text: str, arguments: Sequence[str], configs: Path) -> str:
  """What to say where --config names no file of Python that can be read."""
  path = _config_of(arguments)
  known = {p.stem: f"{configs.name}/{p.name}" for p in configs.glob("*.py")}
  if path.is_file() and path.suffix != ".py":
    return (
      f"--config={path}: expected a config, which is a file of Python, and the "
      "network behind it: --config=configs/compress.py:model=net.onnx"
    )
  if path.is_file():  # but cannot be read
    return f"--config={path}: {text}"

  # The nearest name, or where the configs are from here
  close = difflib.get_close_matches(path.stem, known, 1)
  meant = f"; did you mean {known[close[0]]}?" if close else _known(configs)
  where = "" if Path(configs.name).is_dir() else f" (they are in {configs})"
  return f"--config={path}: No such file or directory{meant}{where}"


def _no_setting(error: Exception, arguments: Sequence[str]) -> str:
  """What to say of a flag that sets what the config has not."""
  problem: object = error
  while isinstance(problem, Exception):
    problem = problem.args[0]
  said = " ".join(str(problem).split())
  key, _, hint = said.partition(" Did you mean ")
  key = key.strip("'\"")

  # The flag at fault, which is one of those that have the name
  given = [text for text in arguments if text.startswith("--config.")]
  named = [g for g in given if key in g.split("=")[0].split(".")] or given
  text = f"{' '.join(named)}: no such setting: {key!r}"
  if hint:
    return f"{text}; did you mean {hint.split()[0]}? --settings lists them"
  group, dot, _ = named[0].split("=")[0].rpartition(".") if named else ("",) * 3
  if group.count(".") > 0:
    text += f'; where that is a dict, give it whole: {group}="{{{key!r}: ...}}"'
  return f"{text}; --settings lists them"


def _known(configs: Path) -> str:
  """The configs that there are, behind an error."""
  names = [f"{configs.name}/{path.name}" for path in configs.glob("*.py")]
  return f"; there are {', '.join(sorted(names))}" if names else ""
