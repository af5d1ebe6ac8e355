"""What the tensors of a network are called in a checkpoint of a framework."""

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fbq.nets.graph import Net
from fbq.nets.node import Node
from fbq.train.torch_names import Layout

State = Mapping[str, np.ndarray]
# Style of a layout -> what stands behind the name of a module.
PARTS = {
  "torch": dict(
    kernel=".weight",
    bias=".bias",
    scale=".weight",
    offset=".bias",
    mean=".running_mean",
    var=".running_var",
  ),
  "flax": dict(
    kernel=".kernel",
    bias=".bias",
    scale=".scale",
    offset=".bias",
    mean=".mean",
    var=".var",
  ),
}
PARTS["fbq"] = PARTS["flax"] | dict(kernel="_kernel", bias="_bias")
STYLES = tuple(PARTS)
# Left out of names: what PyTorch puts around modules that are compiled, or
# spread over devices, and the collections of Flax.
_WRAPPERS = (
  *("module", "_orig_mod", "_fsdp_wrapped_module"),
  *("_checkpoint_wrapped_module", "params", "batch_stats"),
)
_OPTIMIZERS = {"optimizer", "optimizers", "optimizer_states", "opt_state"}
# Modules that hold a running average of the network beside it.
_AVERAGES = {"ema", "model_ema", "ema_model", "state_dict_ema", "averaged"}
_LONGEST = 1000  # letters of a key


class Leaf(NamedTuple):
  """A variable of a network, and where it comes from.

  Attributes:
    path: keys of the variable, collection first.
    key: name in the checkpoint.
    kind: "kernel", "vector" or "variance".
    node: node that has it.
  """

  path: tuple[str, ...]
  key: str
  kind: str
  node: Node


def plan(net: Net, layout: Layout) -> Iterator[Leaf]:
  """Every variable of the nodes that have modules in the layout."""
  for leaf in _plan(net, layout):
    yield leaf._replace(key=plain(leaf.key))


def _plan(net, layout):
  parts = PARTS[layout.style]
  for node in net.nodes:
    if node.name not in layout.modules:
      continue
    modules = layout.modules[node.name]
    norm = f"{node.name}_norm"

    def of_norm(module, node=node, norm=norm):
      for name, part in (("scale", "scale"), ("bias", "offset")):
        path = ("params", norm, name)
        yield Leaf(path, module + parts[part], "vector", node)

    if node.op == "layer_norm":
      yield from of_norm(modules.weights)
      continue
    if not node.has_weights:
      continue
    kernel = ("params", f"{node.name}_kernel")
    yield Leaf(kernel, modules.weights + parts["kernel"], "kernel", node)
    if node.bias:
      path = ("params", f"{node.name}_bias")
      yield Leaf(path, modules.weights + parts["bias"], "vector", node)
    if node.layer_scale:
      path = ("params", f"{node.name}_scale")
      yield Leaf(path, modules.scale, "vector", node)
    if node.norm:
      yield from of_norm(modules.norm)
      for name, kind in (("mean", "vector"), ("var", "variance")):
        path = ("batch_stats", norm, name)
        yield Leaf(path, modules.norm + parts[name], kind, node)


def bias_key(layout: Layout, node: Node) -> str:
  """Name of the bias that a checkpoint may have before a batch norm."""
  module = layout.modules[node.name].weights
  return plain(module + PARTS[layout.style]["bias"])


# ---- names


def plain(key: str) -> str:
  """A key without what programs put around modules, joined by dots."""
  parts = key.replace("/", ".").split(".")
  return ".".join(part for part in parts if part not in _WRAPPERS)


def is_of_optimizer(key: str) -> bool:
  """Whether a key is that of an optimizer's copy of the network."""
  return not _OPTIMIZERS.isdisjoint(key.split("."))


def is_of_average(key: str) -> bool:
  """Whether a key is that of an average of the network, a second copy."""
  return not _AVERAGES.isdisjoint(key.split("."))


def prefix_of(state: State, keys: Sequence[str]) -> tuple[str, int]:
  """(what stands before most of `keys` in a checkpoint, how many have it).

  Averages of the network count only where it is not there itself.

  Raises:
    ValueError: all of them stand there more than once, under two prefixes.
  """
  counts = _prefixes(keys, [key for key in state if not is_of_average(key)])
  counts = counts or _prefixes(keys, state)
  if not counts:
    return "", 0
  (prefix, count), *others = counts.most_common(2)
  if others and others[0][1] == count == len(set(keys)):
    both = sorted((prefix, others[0][0]))
    raise ValueError(
      f"the checkpoint has the network twice, under the prefixes {both[0]!r} "
      f"and {both[1]!r}: save the keys of one of them alone"
    )
  return prefix, count


def _prefixes(keys, found) -> collections.Counter:
  """How often each prefix stands before one of `keys`."""
  wanted, counts = set(keys), collections.Counter()
  for key in found:
    if is_of_optimizer(key) or len(key) > _LONGEST:
      continue
    for start in (0, *(i + 1 for i, c in enumerate(key) if c == ".")):
      if key[start:] in wanted:
        counts[key[:start]] += 1
  return counts
