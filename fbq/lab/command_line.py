"""The command line of main.py: what --help says, what is wrong in a flag."""

import ast
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
      problem = _of_flags(str(error), configs)
    except OSError as error:
      problem = f"{error.__cause__ or error}{_known(configs)}"
    except (LookupError, AttributeError, TypeError) as error:
      frames = traceback.extract_tb(error.__traceback__)
      if not any("config_path.py" in frame.filename for frame in frames):
        raise  # a mistake inside of the config file
      problem = error
      while isinstance(problem, Exception):
        problem = problem.args[0]
      given = [text for text in arguments if text.startswith("--config.")]
      problem = f"{' '.join(given)}: no such setting: {problem}; --settings "
      problem += "lists them"
    sys.exit(" ".join(f"error: {problem}".split()))

  return parse


def _of_flags(text: str, configs: Path) -> str:
  """What absl says of a wrong flag, in a line if a user is at fault."""
  _, ours, message = text.partition("ConfigError: ")
  if ours:  # of the config file: a word after its colon
    return message
  if "No such file" in text or "--config=None" in text:
    return text.rstrip(".") + _known(configs)
  if "Traceback" in text:
    sys.exit(f"error: {text}")  # a mistake inside of the config file
  if "invalid literal for int" in text or "could not convert" in text:
    text += "; the config has a number there: give one, or change the config"
  return text


def _known(configs: Path) -> str:
  """The configs that there are, behind an error."""
  names = [f"{configs.name}/{path.name}" for path in configs.glob("*.py")]
  return f"; there are {', '.join(sorted(names))}" if names else ""
