"""The network that settings name, checked before anything is made of it."""

import inspect
import math

from fbq import nets
from fbq.config import ConfigError, brought, require
from fbq.config_words import shown
from fbq.lab.settings import NetSettings

_LARGEST = 2**31  # numbers in a tensor


def build(settings: NetSettings, where: str = "net") -> nets.Net:
  """The network; whether it fits the data, the data set asks.

  Args:
    settings: builder and its arguments.
    where: name of these settings in messages.

  Raises:
    ConfigError: an unknown builder, arguments that it does not take, or a
      network that nothing could hold.
  """
  name = settings.builder
  make = brought("net", name, f"{where}.builder")
  taken = "a function that gives a Net"
  require(callable(make), f"{where}.builder", name, taken)
  # Arguments of another builder, as a config has them, are told with its own
  try:
    signature = inspect.signature(make)
  except ValueError as error:  # of builtins, which give no Net
    raise ConfigError(f"config.{where}.builder {name!r}: {error}") from error
  try:
    signature.bind(**settings.arguments)
  except TypeError as error:
    raise ConfigError(
      f"config.{where}.arguments is {shown(settings.arguments)}: {error}; "
      f"{name!r} takes {', '.join(signature.parameters)}"
    ) from error
  try:
    net = make(**settings.arguments)
  except (ValueError, TypeError, ArithmeticError, MemoryError) as error:
    raise ConfigError(f"config.{where}.builder {name!r}: {error}") from error
  require(isinstance(net, nets.Net), f"{where}.builder", name, taken)

  # Sizes that come of senseless arguments, such as 10^30 channels
  for layer, shape in net.shapes.items():
    whole = all(type(side) is int and side >= 1 for side in shape)
    require(
      whole and math.prod(shape) < _LARGEST,
      f"{where}.arguments",
      settings.arguments,
      f"whole numbers of features, of which {layer} would have {shape}",
    )
  most = max(net.input_shape[:2])
  for node in net.nodes:
    require(
      type(node.stride) is int and 1 <= node.stride <= most,
      f"{where}.arguments",
      settings.arguments,
      f"strides of 1 to {most}, the size of the image; {node.name} has "
      f"{node.stride}",
    )
  return net
