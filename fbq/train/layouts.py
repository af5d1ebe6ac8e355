"""Where the tensors of a network stand in a checkpoint of a framework.

A `Layout` is published for a network of `fbq.nets`, brought by whoever brings a
checkpoint, or derived from the checkpoint: from the names of its modules, if
they are those of the nodes, or from shapes that only one module has. What could
be meant in two ways is not derived.
"""

import collections
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fbq.nets.graph import Net
from fbq.nets.node import Node
from fbq.train import torch_names
from fbq.train.torch_names import Layout, Modules

State = Mapping[str, np.ndarray]
# Style of a layout -> what stands behind the name of a module.
_PARTS = {
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
_PARTS["fbq"] = _PARTS["flax"] | dict(kernel="_kernel", bias="_bias")
STYLES = tuple(_PARTS)
# Left out of names: what PyTorch puts around modules that are compiled, or
# spread over devices, and the collections of Flax.
_WRAPPERS = (
  *("module", "_orig_mod", "_fsdp_wrapped_module"),
  *("_checkpoint_wrapped_module", "params", "batch_stats"),
)
_OPTIMIZERS = {"optimizer", "optimizers", "optimizer_states", "opt_state"}
_LONGEST = 1000  # letters of a key
_SHOWN = 60  # of them in a message
# Names of the modules of node N that are looked for, besides N itself.
_WEIGHTS = ("{}.conv", "{}.linear", "{}.0", "{}.Conv_0")
_NORMS = (
  *("{}_norm", "{}.norm", "{}_bn", "{}.bn", "{}.1", "bn_{}", "norm_{}"),
  "{}.BatchNorm_0",
)


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
  parts = _PARTS[layout.style]
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
  return plain(module + _PARTS[layout.style]["bias"])


# ---- names


def plain(key: str) -> str:
  """A key without what programs put around modules, joined by dots."""
  parts = key.replace("/", ".").split(".")
  return ".".join(part for part in parts if part not in _WRAPPERS)


def is_of_optimizer(key: str) -> bool:
  """Whether a key is that of an optimizer's copy of the network."""
  return not _OPTIMIZERS.isdisjoint(key.split("."))


def prefix_of(state: State, keys: Sequence[str]) -> tuple[str, int]:
  """(what stands before most of `keys` in a checkpoint, how many have it).

  Raises:
    ValueError: all of them stand there more than once, under two prefixes.
  """
  wanted, counts = set(keys), collections.Counter()
  for key in state:
    if is_of_optimizer(key) or len(key) > _LONGEST:
      continue
    for start in (0, *(i + 1 for i, c in enumerate(key) if c == ".")):
      if key[start:] in wanted:
        counts[key[:start]] += 1
  if not counts:
    return "", 0
  (prefix, count), *others = counts.most_common(2)
  if others and others[0][1] == count == len(wanted):
    both = sorted((prefix, others[0][0]))
    raise ValueError(
      f"the checkpoint has the network twice, under the prefixes {both[0]!r} "
      f"and {both[1]!r}: save the keys of one of them alone"
    )
  return prefix, count


# ---- which layout


def layout_of(
  net: Net,
  state: State,
  given: Layout | Mapping[str, Any] | Callable[[Net], Any] | None = None,
) -> Layout:
  """The layout of a checkpoint of a network.

  Args:
    net: the network.
    state: arrays of the checkpoint, from `torch_weights.read`.
    given: the layout; or {node: name of its module}, in which a batch norm is
      called NODE_norm; or a function of the network that gives either. None:
      it is derived.

  Raises:
    ValueError: it cannot be derived, or what is given is no layout.
  """
  if given is None:
    return _derived(net, state)
  found = _called(given, net) if callable(given) else given
  if isinstance(found, Layout):
    return found
  if not isinstance(found, Mapping) or not all(
    isinstance(value, str | Modules) for value in found.values()
  ):
    raise ValueError(
      f"the layout for {net.name} is a {type(found).__name__}, expected a "
      "fbq.train.torch_names.Layout or {node: name of its module}"
    )
  known = {*net.node, *(f"{name}_norm" for name in net.node)}
  if unknown := sorted(set(map(str, found)) - known):
    raise ValueError(
      f"the layout for {net.name} has {unknown[:5]}, which are no nodes of it; "
      f"those are {', '.join(list(net.node)[:5])}, .."
    )
  return Layout(
    {
      name: value
      if isinstance(value := found[name], Modules)
      else Modules(value, found.get(f"{name}_norm", f"{value}_norm"))
      for name in net.node
      if name in found
    }
  )


def _called(function, net):
  try:
    return function(net)
  except Exception as error:  # Whoever brought it wrote it.
    raise ValueError(f"no layout for {net.name}: {error!r}") from error


def torch(net: Net) -> Layout:
  """PyTorch modules that are called as the nodes, batch norms NODE_norm."""
  return _named(net, "torch")


def flax(net: Net) -> Layout:
  """Flax modules that are called as the nodes, batch norms NODE_norm."""
  return _named(net, "flax")


def fbq(net: Net) -> Layout:
  """Variables of `fbq.model` itself, as arrays params/NODE_kernel and so on."""
  return _named(net, "fbq")


def _named(net, style):
  return Layout(
    {n: Modules(n, f"{n}_norm", f"{n}_scale") for n in net.node}, style=style
  )


def _derived(net, state):
  """The layout that a checkpoint has; ValueError unless it is beyond doubt."""
  candidates = [_by_names(net, state, style) for style in ("torch", "flax")]
  candidates += [fbq(net), *_by_shapes(net, state)]
  if net.name.split("-")[0] in torch_names.FAMILIES:
    candidates.insert(0, torch_names.layout(net))

  # All of it, or what is nearest, whose gaps a message can then name.
  best, most = None, 0.5
  for layout in candidates:
    keys = [leaf.key for leaf in plan(net, layout)]
    share = prefix_of(state, keys)[1] / max(len(keys), 1)
    if share > most:
      best, most = layout, share
  if best is not None:
    return best
  shown = ", ".join(key[:_SHOWN] for key in list(state)[:3])
  prefix = os.path.commonprefix(list(state)).rpartition(".")[0][:_SHOWN]
  raise ValueError(
    f"the checkpoint's names are not those of net {net.name!r}, nor do shapes "
    f"tell them apart: it has {len(state)} arrays such as {shown} (common "
    f"prefix: {prefix or 'none'}); give a "
    "layout (config.checkpoint_layout), a function of the network that gives "
    "{node: name of its module}"
  )


def _by_names(net, state, style):
  """The layout of modules that are called nearly as the nodes."""
  parts = _PARTS[style]
  kernels = [n.name + parts["kernel"] for n in net.nodes if n.has_weights]
  before, _ = prefix_of(state, kernels)

  def first(node, forms, part):
    names = [form.format(node.name) for form in forms]
    return next((n for n in names if before + n + parts[part] in state), None)

  modules = {}
  for node in net.nodes:
    part = "scale" if node.op == "layer_norm" else "kernel"
    weights = first(node, ("{}", *_WEIGHTS), part) or node.name
    norm = first(node, _NORMS, "mean")
    if norm is None and "conv" in node.name:  # conv1 and bn1
      norm = node.name.replace("conv", "bn")
    scales = [f"{node.name}_scale", f"{node.name}.layer_scale"]
    scale = next((s for s in scales if before + s in state), scales[0])
    modules[node.name] = Modules(weights, norm or f"{node.name}_norm", scale)
  return Layout(modules, style=style)


def _by_shapes(net, state) -> Iterator[Layout]:
  """Layouts in which every module is the only one of its shape."""
  for style, parts in _PARTS.items():
    modules, used = {}, set()
    for node in net.nodes:
      if node.op == "layer_norm" or node.layer_scale:
        break
      if not node.has_weights:
        continue
      weights = _only(state, parts["kernel"], _is_kernel(net, node, style))
      norm = "none"
      if node.norm:
        features = (net.shapes[node.name][2],)
        norm = _only(state, parts["mean"], lambda x, f=features: x.shape == f)
      if weights is None or norm is None or {weights, norm} & used:
        break
      modules[node.name] = Modules(weights, norm)
      used |= {weights, norm} - {"none"}
    else:
      yield Layout(modules, style=style)


def _only(state, part, fits):
  """The one module whose array `part` fits; None if there are several."""
  found = [
    key.removesuffix(part)
    for key, value in state.items()
    if key.endswith(part) and fits(value)
  ]
  return found[0] if len(found) == 1 else None


def _is_kernel(net, node, style):
  layer = net.workload.layers[net.workload.index[node.name]]
  window = (layer.kernel_height, layer.kernel_width)
  inputs = 1 if node.op == "depthwise" else layer.in_channels
  if node.op == "linear":
    window = ()
  shape = (*window, inputs, layer.out_channels)
  if style == "torch":
    shape = (shape[-1], shape[-2], *window)
  return lambda value: value.shape == shape
