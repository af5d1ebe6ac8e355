"""Settings: each is stated once, with its type, default, bound and meaning.

A group of settings is a subclass of `Settings`, its fields are documented by
the string below each:

  class Stage(Settings):
    batch_size: int = Field(32, ge=2, le=2**20)
    "Images of a step."

A ConfigDict is converted once, by `of`; what does not fit raises ConfigError, a
line that names the setting, what was given and what was expected. `configured`
makes the ConfigDict of an experiment that has every setting, so that each can
be given on the command line. `fbq.config_words.table` lists them for people.
"""

import difflib
import numbers
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self, TypeVar

import pydantic
from ml_collections import ConfigDict
from pydantic import Field

from fbq import doors
from fbq.config_words import Check as Check
from fbq.config_words import Chosen as Chosen
from fbq.config_words import Expected as Expected
from fbq.config_words import cut, default_of, group_of, shown, words

S = TypeVar("S", bound="Settings")
LARGEST = 10**9  # of counts: nothing that is counted here has more

Count = Annotated[int, Field(ge=1, le=LARGEST)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e9)]
NotNegative = Annotated[float, Field(ge=0, le=1e9)]


class ConfigError(ValueError):
  """A setting that cannot be used; the message names it."""


class Settings(pydantic.BaseModel):
  """A group of settings, frozen; see the module."""

  model_config = pydantic.ConfigDict(
    frozen=True,
    extra="forbid",
    strict=True,
    allow_inf_nan=False,
    arbitrary_types_allowed=True,
    use_attribute_docstrings=True,
    validate_default=False,
  )

  def with_(self, **changes: Any) -> Self:
    """These settings with others in place of some, checked again."""
    return of(type(self), self.model_dump() | changes)


def require(condition: bool, name: str, value: Any, expected: str) -> None:
  """Raises ConfigError that says what was given and what was expected."""
  if not condition:
    raise ConfigError(f"config.{name} is {shown(value)}, expected {expected}")


def brought(kind: str, name: Any, setting: str) -> Any:
  """What stands behind the name in a setting, see `fbq.doors`.

  Raises:
    ConfigError: nothing does, or something else.
  """
  try:
    return doors.resolve(kind, name)
  except doors.DoorError as error:
    raise ConfigError(f"config.{setting}: {error}") from error


def of(kind: type[S], given: Mapping | ConfigDict, where: str = "config") -> S:
  """The settings `given` as an object of `kind`, complete and checked.

  Args:
    kind: group of settings.
    given: ConfigDict or nested mapping; what it leaves out has its default.
    where: name of `given` in messages.

  Raises:
    ConfigError: the first setting that does not fit.
  """
  plain = _plain(given)
  try:
    return kind.model_validate(_completed(kind, plain))
  except pydantic.ValidationError as error:
    raise ConfigError(_sentence(kind, error, plain, where)) from None


def configured(experiment: str, **given: Any) -> ConfigDict:
  """All settings of an experiment as a ConfigDict, to be changed by flags.

  Args:
    experiment: name behind the door, see `fbq.doors`.
    **given: settings, nested, that differ from the defaults.
  """
  settings = brought("experiment", experiment, "experiment").settings
  complete = _completed(settings, {"experiment": experiment} | given)
  return ConfigDict(complete)


def chosen(text: str, **choices: Sequence[str] | str) -> dict[str, str]:
  """What the words after a config's colon choose: 'resnet8,smoke', 'bits=4'.

  Args:
    text: words joined by commas, each one of the choices or "name=value".
    **choices: by name, the words there are, the default first; or a text, the
      default of what can be any text.

  Returns:
    {name: word}, defaults among them.

  Raises:
    ConfigError: a word that chooses nothing.
  """
  found = {}
  for word in filter(None, text.split(",")):
    # A bare word belongs to the choice that has it
    name, equals, value = word.partition("=")
    if not equals:
      value = word
      names = [n for n, c in choices.items() if not isinstance(c, str)]
      name = next((n for n in names if word in choices[n]), "")

    # What chooses nothing is told with all that would
    known = choices.get(name, ())
    if name not in choices or not (isinstance(known, str) or value in known):
      takes = "; ".join(
        f"{n}=TEXT" if isinstance(c, str) else f"{n}: {', '.join(c)}"
        for n, c in choices.items()
      )
      raise ConfigError(
        f"{word!r} after the config's colon, expected words joined by commas: "
        f"{takes}"
      )
    if name in found:
      raise ConfigError(f"{word!r} after the config's colon: {name} twice")
    found[name] = value

  return {
    name: found.get(name, known if isinstance(known, str) else known[0])
    for name, known in choices.items()
  }


def _completed(kind, given):
  """`given` with the defaults of what it leaves out, in the order of `kind`."""
  complete = {}
  for name, field in kind.model_fields.items():
    group = group_of(field.annotation)
    value = given.get(name)
    default = default_of(field)
    for part in field.metadata:
      if isinstance(part, Chosen) and isinstance(value, Mapping):
        group = part.kind(value)
    if group is not None and isinstance(value or default, Mapping):
      complete[name] = _completed(group, {**(default or {}), **(value or {})})
    elif name in given or not field.is_required():
      complete[name] = value if name in given else default
  return complete | {k: v for k, v in given.items() if k not in complete}


# ---- Conversion and messages


def _plain(value):
  """Dicts, tuples and Python's own numbers in place of their relatives."""
  match value:
    case ConfigDict():
      return _plain(value.to_dict())
    case Mapping():
      return {key: _plain(item) for key, item in value.items()}
    case list() | tuple():
      return tuple(map(_plain, value))
    case bool() | Settings():
      return value
    case numbers.Integral():
      return int(value)
    case numbers.Real():
      return float(value)
  return value


def _sentence(kind, error, given, where):
  """The first error of a validation as one line."""
  problem = error.errors()[0]
  own = problem.get("ctx", {}).get("error")
  if isinstance(own, ConfigError):
    return str(own)

  # Down to the setting at fault; what is wrong inside of a value is shown whole
  names, annotation, field, value = [where], kind, None, given
  for part in problem["loc"]:
    group = group_of(annotation)
    if group is not None and part not in group.model_fields:
      return _unknown(".".join([*names, str(part)]), str(part), group)
    if group is not None:
      field = group.model_fields[part]
      annotation = field.annotation
    elif typing.get_origin(annotation) is dict:
      annotation = typing.get_args(annotation)[1]
      field = None
    else:
      break
    names.append(str(part))
    value = value.get(part) if isinstance(value, Mapping) else None

  name = ".".join(names)
  takes = (
    "settings"
    if group_of(annotation)
    else words(annotation, field.metadata if field else ())
  )
  if problem["type"] == "missing":
    return f"{name} is missing, expected {takes}"
  if own is not None:
    takes = cut(str(own))
  type_name = f" ({type(value).__name__})" * problem["type"].endswith("_type")
  return f"{name} is {shown(value)}{type_name}, expected {takes}"


def _unknown(name, key, group):
  known = list(group.model_fields)
  close = difflib.get_close_matches(key, known, 1)
  hint = f"; did you mean {close[0]!r}?" if close else "."
  return f"{name} is no setting{hint} Known: {', '.join(known)}."
