"""What settings take, in words, and the table of them for people."""

import itertools
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import annotated_types
import pydantic
import pydantic.fields
from pydantic_core import core_schema


class Chosen(NamedTuple):
  """Metadata of a setting that is a group which its own content chooses.

  Attributes:
    kind: (settings given) -> subclass of `fbq.config.Settings`.
  """

  kind: Callable[[Mapping], type[pydantic.BaseModel]]


class Expected(NamedTuple):
  """Metadata of a type: what it takes, for people."""

  text: str


class Check(NamedTuple):
  """Metadata of a type: what must hold of its values.

  Attributes:
    holds: (value of the type) -> whether it can be used.
    text: what can, for people.
  """

  holds: Callable[[Any], object]
  text: str

  def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
    return core_schema.no_info_after_validator_function(
      self._checked, handler(source)
    )

  def _checked(self, value):
    if not self.holds(value):
      raise ValueError(self.text)
    return value


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
  kind: type[pydantic.BaseModel],
  prefix: str = "",
  defaults: Mapping | None = None,
  values: pydantic.BaseModel | None = None,
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
    default = defaults.get(name, default_of(field))
    value = getattr(values, name, None)
    each = _each(field.annotation)
    if each is not None:  # a dict of groups
      named = value or {"NAME": None}
      for key, item in named.items():
        yield from table(each, f"{prefix}{name}.{key}.", {}, item)
      continue
    group = type(value) if isinstance(value, pydantic.BaseModel) else None
    group = group or group_of(field.annotation)
    if group is not None and default is not None:
      yield from table(group, f"{prefix}{name}.", default, value)
      continue
    is_needed = field.is_required() and name not in defaults
    yield Row(
      f"{prefix}{name}",
      expected(field),
      "" if is_needed else shown(default),
      " ".join((field.description or "").split()),
    )


def expected(field: pydantic.fields.FieldInfo) -> str:
  """What a field takes, in words: 'a whole number, 1 to 1,000'."""
  return words(field.annotation, field.metadata)


_KINDS = {
  int: "a whole number",
  float: "a number",
  str: "a text",
  bool: "True or False",
  Any: "anything",
}


def words(annotation: Any, metadata: Sequence[Any] = ()) -> str:
  """What a value of a type takes, in words.

  Args:
    annotation: type of a field, or of what is in it.
    metadata: bounds of the field, and `Expected`.
  """
  origin = typing.get_origin(annotation)
  arguments = typing.get_args(annotation)
  if origin is Annotated:
    base, *more = arguments
    fields = [m.metadata for m in more if hasattr(m, "metadata")]
    plain = [m for m in more if not hasattr(m, "metadata")]
    return words(base, (*plain, *itertools.chain(*fields), *metadata))
  said = [m.text for m in metadata if isinstance(m, Expected | Check)]
  if said:
    return said[-1]
  if origin is Literal:
    return f"one of {', '.join(map(repr, arguments))}"
  if origin in (typing.Union, types.UnionType):
    return " or ".join(map(words, arguments))
  if origin is tuple and Ellipsis in arguments:
    return f"a tuple, each {words(arguments[0])}"
  if origin is tuple:
    return f"({', '.join(map(words, arguments))})"
  if origin is dict:
    return f"a dict of {words(arguments[1])}"
  kind = _KINDS.get(annotation, getattr(annotation, "__name__", "a value"))
  bounds = _bounds(metadata)
  return f"{kind}, {bounds}" if bounds else kind


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


def group_of(annotation):
  """The Settings class behind an annotation, None if there is none."""
  if typing.get_origin(annotation) in (typing.Union, types.UnionType):
    first, *_ = typing.get_args(annotation)
    return group_of(first)  # a group or None
  is_group = isinstance(annotation, type) and issubclass(
    annotation, pydantic.BaseModel
  )
  return annotation if is_group else None


def _each(annotation):
  """The group of settings that a dict has many of; None if there is none."""
  if typing.get_origin(annotation) is Annotated:
    return _each(typing.get_args(annotation)[0])
  if typing.get_origin(annotation) is not dict:
    return None
  return group_of(typing.get_args(annotation)[1])


def default_of(field):
  """The default of a field, groups of settings as dicts."""
  if field.is_required():
    group = group_of(field.annotation)
    return {} if group is not None else None
  return _dumped(field.get_default(call_default_factory=True))


def _dumped(value):
  """Settings in a default as dicts, which a ConfigDict takes."""
  if isinstance(value, pydantic.BaseModel):
    return value.model_dump()
  if isinstance(value, Mapping):
    return {key: _dumped(item) for key, item in value.items()}
  return value


def shown(value: Any) -> str:
  """`value` as Python writes it, on one line and not endless."""
  return cut(repr(value))


def cut(text: str, most: int = 400) -> str:
  """A text on one line and of at most about so many letters."""
  text = " ".join(text.split())
  if len(text) <= most:
    return text
  return f"{text[: most - 100]} ... ({len(text)} letters)"
