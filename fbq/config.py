"""Settings: each is stated once, with its type, default, bound and meaning.

A group of settings is a subclass of `Settings`, its fields are documented by
the string below each:

  class Stage(Settings):
    batch_size: int = Field(32, ge=2, le=2**20)
    "Images of a step."

A ConfigDict is converted once, by `of`; what does not fit raises ConfigError, a
line that names the setting, what was given and what was expected. `configured`
makes the ConfigDict of an experiment that has every setting, so that each can
be given on the command line; `table` lists them for people.
"""

import difflib
import numbers
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar

import annotated_types
import pydantic
from ml_collections import ConfigDict
from pydantic import Field

from fbq import doors

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
    raise ConfigError(f"config.{name} is {_shown(value)}, expected {expected}")


def expect(condition: bool, expected: str) -> None:
  """`require` for validators, where pydantic knows the name and the value."""
  if not condition:
    raise ValueError(expected)


def brought(kind: str, name: Any, setting: str) -> Any:
  """What stands behind the name in a setting, see `fbq.doors`.

  Raises:
    ConfigError: nothing does, or something else.
  """
  try:
    return doors.resolve(kind, name)
  except doors.DoorError as error:
    raise ConfigError(f"config.{setting}: {error}") from error


def of(kind: type[S], given: Mapping, where: str = "config") -> S:
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
    name, equals, value = word.partition("=")
    if not equals:
      value = word
      names = [n for n, c in choices.items() if not isinstance(c, str)]
      name = next((n for n in names if word in choices[n]), "")
    known = choices.get(name, ())
    if name not in choices or not (isinstance(known, str) or value in known):
      takes = "; ".join(
        f"{n}: {'any text' if isinstance(c, str) else ', '.join(c)}"
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
    group = _group(field.annotation)
    value = given.get(name)
    default = _default(field)
    for part in field.metadata:
      if isinstance(part, Chosen) and isinstance(value, Mapping):
        group = part.kind(value)
    if group is not None and isinstance(value or default, Mapping):
      complete[name] = _completed(group, {**(default or {}), **(value or {})})
    elif name in given or not field.is_required():
      complete[name] = value if name in given else default
  return complete | {k: v for k, v in given.items() if k not in complete}


def _default(field):
  """The default of a field, groups of settings as dicts."""
  if field.is_required():
    group = _group(field.annotation)
    return {} if group is not None else None
  return _dumped(field.get_default(call_default_factory=True))


def _dumped(value):
  """Settings in a default as dicts, which a ConfigDict takes."""
  if isinstance(value, Settings):
    return value.model_dump()
  if isinstance(value, Mapping):
    return {key: _dumped(item) for key, item in value.items()}
  return value


# ---- What a table for people shows


class Row(NamedTuple):
  """A setting.

  Attributes:
    name: with its groups, joined by dots.
    expected: type and bounds, in words.
    default: as Python writes it; "" if it must be given.
    meaning: what it does.
  """

  name: str
  expected: str
  default: str
  meaning: str


def table(
  kind: type[Settings],
  prefix: str = "",
  defaults: Mapping | None = None,
  values: Settings | None = None,
) -> Iterator[Row]:
  """A row for every setting of a group and of the groups in it.

  Args:
    kind: group of settings.
    prefix: names of the groups that it is in.
    defaults: values where its own defaults do not count.
    values: settings that tell which group a `Chosen` one is.
  """
  defaults = defaults or {}
  for name, field in kind.model_fields.items():
    default = defaults.get(name, _default(field))
    value = getattr(values, name, None)
    group = type(value) if isinstance(value, Settings) else None
    group = group or _group(field.annotation)
    if group is not None and default is not None:
      yield from table(group, f"{prefix}{name}.", default, value)
      continue
    is_needed = field.is_required() and name not in defaults
    yield Row(
      f"{prefix}{name}",
      expected(field),
      "" if is_needed else _shown(default),
      " ".join((field.description or "").split()),
    )


def expected(field: pydantic.fields.FieldInfo) -> str:
  """What a field takes, in words: 'a whole number, 1 to 1,000'."""
  return _words(field.annotation, field.metadata)


_KINDS = {
  int: "a whole number",
  float: "a number",
  str: "a text",
  bool: "True or False",
}


def _words(annotation, metadata=()):
  origin = typing.get_origin(annotation)
  arguments = typing.get_args(annotation)
  if origin is Annotated:
    base, *more = arguments
    more = [m for m in more if not isinstance(m, pydantic.fields.FieldInfo)] + [
      part
      for m in more
      if isinstance(m, pydantic.fields.FieldInfo)
      for part in m.metadata
    ]
    return _words(base, (*more, *metadata))
  said = [m.text for m in metadata if isinstance(m, Expected)]
  if said:
    return said[-1]
  if origin is Literal:
    return f"one of {', '.join(map(repr, arguments))}"
  if origin in (typing.Union, types.UnionType):
    return " or ".join(_words(kind) for kind in arguments)
  if origin is tuple:
    if Ellipsis in arguments:
      return f"a tuple, each {_words(arguments[0])}"
    return f"({', '.join(map(_words, arguments))})"
  if origin is dict:
    return f"a dict of {_words(arguments[1])}"
  words = _KINDS.get(annotation, getattr(annotation, "__name__", "a value"))
  bounds = _bounds(metadata)
  return f"{words}, {bounds}" if bounds else words


def _bounds(metadata):
  """For instance '1 to 1,000', 'above 0', '0 to below 1'."""
  low = high = ""
  for bound in metadata:
    match bound:
      case annotated_types.Ge(ge=value):
        low = _number(value)
      case annotated_types.Gt(gt=value):
        low = f"above {_number(value)}"
      case annotated_types.Le(le=value):
        high = _number(value)
      case annotated_types.Lt(lt=value):
        high = f"below {_number(value)}"
  if low and high:
    return f"{low} to {high}"
  return low if low.startswith("above") else f"at least {low}" if low else high


def _number(value):
  return f"{value:,}" if isinstance(value, int) else f"{value:g}"


class Chosen(NamedTuple):
  """Metadata of a setting that is a group which its own content chooses.

  Attributes:
    kind: (settings given) -> subclass of `Settings`.
  """

  kind: Callable[[Mapping], type[Settings]]


class Expected(NamedTuple):
  """Metadata of a type: what it takes, for people."""

  text: str


def checked(kind: Any, check: Callable[[Any], bool], text: str) -> Any:
  """The type `kind` of values for which `check` holds; `text` says which."""

  def validate(value):
    expect(bool(check(value)), text)
    return value

  return Annotated[kind, pydantic.AfterValidator(validate), Expected(text)]


def described(kind: Any, text: str) -> Any:
  """The type `kind`, of which messages say `text`."""
  return Annotated[kind, Expected(text)]


# ---- Conversion and messages


def _group(annotation):
  """The Settings class behind an annotation, None if there is none."""
  if typing.get_origin(annotation) in (typing.Union, types.UnionType):
    first, *_ = typing.get_args(annotation)
    return _group(first)  # a group or None
  is_group = isinstance(annotation, type) and issubclass(annotation, Settings)
  return annotation if is_group else None


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


def _shown(value):
  """`value` as Python writes it, on one line and not endless."""
  text = " ".join(repr(value).split())
  return text if len(text) <= 200 else f"{text[:150]} ... ({len(text)} letters)"


def _sentence(kind, error, given, where):
  """The first error of a validation as one line."""
  problem = error.errors()[0]
  own = problem.get("ctx", {}).get("error")
  if isinstance(own, ConfigError):
    return str(own)

  # Down to the setting at fault; what is wrong inside of a value is shown whole
  names, annotation, field, value = [where], kind, None, given
  for part in problem["loc"]:
    group = _group(annotation)
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
    if _group(annotation)
    else _words(annotation, field.metadata if field else ())
  )
  if problem["type"] == "missing":
    return f"{name} is missing, expected {takes}"
  if own is not None:
    takes = str(own)
  type_name = f" ({type(value).__name__})" * problem["type"].endswith("_type")
  return f"{name} is {_shown(value)}{type_name}, expected {takes}"


def _unknown(name, key, group):
  known = list(group.model_fields)
  close = difflib.get_close_matches(key, known, 1)
  hint = f"; did you mean {close[0]!r}?" if close else "."
  return f"{name} is no setting{hint} Known: {', '.join(known)}."
