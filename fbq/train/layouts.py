"""Where the tensors of a network stand in a checkpoint of a framework.

A `Layout` is published for a network of `fbq.nets`, brought by whoever brings a
checkpoint, or derived from the checkpoint: from the names of its modules, if
they are those of the nodes, or from shapes that only one module has. What could
be meant in two ways is not derived.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fbq.nets.graph import Net
from fbq.train import torch_names
from fbq.train.layout_keys import PARTS, State, plan, prefix_of
from fbq.train.torch_names import Layout, Modules

# Names of the modules of node N that are looked for, besides N itself.
_WEIGHTS = ("{}.conv", "{}.linear", "{}.0", "{}.Conv_0")
_NORMS = (
  *("{}_norm", "{}.norm", "{}_bn", "{}.bn", "{}.1", "bn_{}", "norm_{}"),
  "{}.BatchNorm_0",
)
_SHOWN = 60  # letters of a key in a message


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
  # Derived, made by a function, or given as it is
  if given is None:
    return _derived(net, state)
  found = _called(given, net) if callable(given) else given
  if isinstance(found, Layout):
    return found

  # A mapping is checked whole: a name misspelt would leave a layer at zero
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
  parts = PARTS[style]
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
  for style, parts in PARTS.items():
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
