"""Float checkpoints from PyTorch, loaded by name into a network's variables.

A checkpoint is a file of named arrays, .safetensors or .npz, made where PyTorch
is:

    import safetensors.torch, torchvision
    net = torchvision.models.resnet18(weights="DEFAULT")
    safetensors.torch.save_file(net.state_dict(), "resnet18.safetensors")
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fbq.nets.graph import INPUT, Net
from fbq.nets.node import Node
from fbq.train.torch_names import Layout, layout

NORM_EPSILON = 1e-5  # of `fbq.model`'s batch norm


class Report(NamedTuple):
  """What became of every leaf and every key; `str` gives a page of it.

  Attributes:
    matched: (leaf, key, shape of the leaf).
    missing: leaves of the network that the checkpoint lacks, as they were.
    unmatched: keys of the checkpoint that nothing was loaded from.
    unused: keys that a network like ours never needs.
    note: what differs between the networks beside names.
  """

  matched: tuple[tuple[str, str, tuple[int, ...]], ...]
  missing: tuple[str, ...]
  unmatched: tuple[str, ...]
  unused: tuple[str, ...]
  note: str = ""

  def __str__(self) -> str:
    lines = [f"{leaf} <- {key} {shape}" for leaf, key, shape in self.matched]
    lines += [f"{leaf}: not in the checkpoint" for leaf in self.missing]
    lines += [f"{key}: not in the network" for key in self.unmatched]
    lines += [f"{key}: not needed" for key in self.unused]
    lines.append(
      f"{len(self.matched)} leaves matched, {len(self.missing)} leaves and "
      f"{len(self.unmatched)} keys not, {len(self.unused)} keys not needed"
    )
    return "\n".join(lines + [f"note: {self.note}"] * bool(self.note))


class _Leaf(NamedTuple):
  path: tuple[str, ...]  # in the variables
  key: str  # in the checkpoint
  kind: str  # "kernel", "vector", "variance"
  node: Node


def read(path: str | Path) -> dict[str, np.ndarray]:
  """{key: array} of a .safetensors or .npz file.

  Raises:
    ValueError: missing, damaged or of another kind; names the file.
  """
  path = Path(path)
  if path.suffix not in (".safetensors", ".npz"):
    raise ValueError(
      f"checkpoint {path}: expected .safetensors or .npz; with PyTorch: "
      "safetensors.torch.save_file(net.state_dict(), 'net.safetensors')"
    )
  if not path.is_file():
    raise ValueError(f"checkpoint {path}: there is no such file")
  try:
    if path.suffix == ".npz":
      # Opened here: numpy leaves a damaged file open.
      with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
        state = {key: file[key] for key in file.files}
    else:
      try:
        from safetensors.numpy import load_file
      except ImportError as error:
        raise ModuleNotFoundError(
          f"{path}: reading it needs `pip install fbq[safetensors]`"
        ) from error
      state = load_file(path)
  except ModuleNotFoundError:
    raise
  except Exception as error:  # Damaged archives raise a dozen kinds.
    raise ValueError(
      f"checkpoint {path} is damaged: {type(error).__name__}: {error}"
    ) from error
  return _without_wrapper(state)


def load(
  net: Net,
  state: Mapping[str, np.ndarray],
  variables: Mapping[str, Any],
  allow_missing: bool = False,
  names: Layout | None = None,
  normalized: tuple[Any, Any] | None = None,
) -> tuple[dict[str, Any], Report]:
  """`variables` with the checkpoint's numbers, and a report of all of them.

  Args:
    net: the network.
    state: PyTorch's state dict as arrays, from `read`.
    variables: "params" and, with batch norm, "batch_stats" as initialized;
      other collections stay. Shapes are checked against these.
    allow_missing: whether leaves that the checkpoint lacks are kept, and keys
      that the network lacks left aside, instead of raising.
    names: layout of the checkpoint, where the network's own is not known or not
      meant.
    normalized: (mean, std) per channel of the images that the checkpoint was
      trained on, as (x - mean) / std with x in [0, 1], such as
      `torch_names.NORMALIZED`; folded into the first convolution, so that ours
      reads x. Exact but where that convolution's window reaches over the
      border: there zeros mean black for us, and the mean colour for it.

  Raises:
    ValueError: anything unmatched, wrong shapes, numbers that are not finite;
      lists them all.
  """
  names = names or layout(net)
  found = {tuple(path): leaf for path, leaf in _leaves(variables)}
  matched, missing, wrong, loaded, used = [], [], [], {}, set()
  for leaf in _plan(net, names):
    name = "/".join(leaf.path)
    if leaf.path not in found:
      raise ValueError(
        f"variables have no {name}: they are not those of {net.name}"
      )
    shape = np.shape(found.pop(leaf.path))
    if leaf.key not in state:
      missing.append(f"{name} ({leaf.key})")
      continue
    used.add(leaf.key)
    value = _convert(net, leaf, np.asarray(state[leaf.key]), names)
    if value is None or value.shape != shape:
      wrong.append(
        f"{leaf.key} has shape {state[leaf.key].shape}, which does not make "
        f"{name} {shape}"
      )
    elif not np.isfinite(value).all():
      wrong.append(f"{leaf.key} has values that are not finite")
    else:
      loaded[leaf.path] = value
      matched.append((name, leaf.key, shape))
  missing += ["/".join(path) for path in found]
  rest = [key for key in state if key not in used]
  unused = [k for k in rest if _is_unused(k, names)]
  unmatched = [k for k in rest if not _is_unused(k, names)]
  report = Report(
    tuple(matched),
    tuple(missing),
    tuple(unmatched),
    tuple(unused),
    names.note,
  )
  if wrong:
    raise ValueError(f"checkpoint for {net.name}: " + "; ".join(wrong))
  if (missing or unmatched) and not allow_missing:
    raise ValueError(
      f"checkpoint for {net.name}: the network's {missing} are not in it, its "
      f"{unmatched} are not in the network; pass allow_missing to go on"
    )
  result = _replaced(variables, loaded)
  if normalized is not None:
    result = _folded(net, result, *normalized)
  return result, report


def _without_wrapper(state):
  """Without the prefix that PyTorch's DataParallel puts before every key."""
  prefix = "module."
  if state and all(key.startswith(prefix) for key in state):
    return {key.removeprefix(prefix): value for key, value in state.items()}
  return dict(state)


def _is_unused(key, names):
  # A count that PyTorch keeps for batch norms without momentum.
  if key.endswith(".num_batches_tracked"):
    return True
  return re.fullmatch(names.unused, key) is not None


def _leaves(tree, path=()) -> Iterator[tuple[tuple[str, ...], Any]]:
  """(path, leaf) of params and batch statistics."""
  for key, value in tree.items():
    if not path and key not in ("params", "batch_stats"):
      continue
    if isinstance(value, Mapping):
      yield from _leaves(value, (*path, key))
    else:
      yield (*path, key), value


def _plan(net: Net, names: Layout) -> Iterator[_Leaf]:
  """Every leaf of nodes that have modules, with where it comes from."""
  for node in net.nodes:
    if node.name not in names.modules:
      continue
    modules = names.modules[node.name]
    norm = f"{node.name}_norm"

    def of_norm(module, node=node, norm=norm):
      yield _Leaf(("params", norm, "scale"), f"{module}.weight", "vector", node)
      yield _Leaf(("params", norm, "bias"), f"{module}.bias", "vector", node)

    if node.op == "layer_norm":
      yield from of_norm(modules.weights)
      continue
    kernel = ("params", f"{node.name}_kernel")
    yield _Leaf(kernel, f"{modules.weights}.weight", "kernel", node)
    if node.bias:
      bias = ("params", f"{node.name}_bias")
      yield _Leaf(bias, f"{modules.weights}.bias", "vector", node)
    if node.layer_scale:
      scale = ("params", f"{node.name}_scale")
      yield _Leaf(scale, modules.scale, "vector", node)
    if node.norm:
      yield from of_norm(modules.norm)
      for name, key, kind in (
        ("mean", "running_mean", "vector"),
        ("var", "running_var", "variance"),
      ):
        path = ("batch_stats", norm, name)
        yield _Leaf(path, f"{modules.norm}.{key}", kind, node)


def _convert(net, leaf, value, names) -> np.ndarray | None:
  """`value` in our layout, float32; None where it cannot be."""
  value = value.astype(np.float32)
  if leaf.kind == "kernel":
    return _kernel(net, leaf.node, value)
  if leaf.kind == "variance":
    # Ours adds its own epsilon: the sum is as it was trained.
    value = value + np.float32(names.norm_epsilon - NORM_EPSILON)
  return value.reshape(-1)  # a layer scale is [C, 1, 1]


def _kernel(net, node, value):
  if node.op == "linear" and value.ndim == 2:
    height, width, channels = net.shapes[node.inputs[0]]
    if value.shape[1] != height * width * channels:
      return None
    # PyTorch flattens channels first, we flatten them last.
    parts = value.reshape(-1, channels, height, width)
    return parts.transpose(2, 3, 1, 0).reshape(-1, len(value))
  if value.ndim == 2:  # a linear layer over channels is a 1x1 convolution
    value = value[:, :, None, None]
  if node.op in ("conv", "depthwise") and value.ndim == 4:
    return value.transpose(2, 3, 1, 0)
  return None


def _replaced(tree, loaded, path=()):
  return {
    key: _replaced(value, loaded, (*path, key))
    if isinstance(value, Mapping)
    else loaded.get((*path, key), value)
    for key, value in tree.items()
  }


def _folded(net, variables, mean, std):
  """Variables of a network that reads x instead of (x - mean) / std."""
  mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
  channels = net.input_shape[2]
  if mean.shape != (channels,) or std.shape != (channels,) or (std <= 0).any():
    raise ValueError(
      f"normalized is ({mean}, {std}), expected mean and positive std of "
      f"{channels} channels"
    )
  readers = [node for node in net.nodes if INPUT in node.inputs]
  params = dict(variables["params"])
  stats = dict(variables.get("batch_stats", {}))
  for node in readers:
    if node.op != "conv":
      raise ValueError(
        f"net {net.name!r}: {node.name!r} ({node.op}) reads the image; only a "
        "convolution can take a normalization"
      )
    name, norm = f"{node.name}_kernel", f"{node.name}_norm"
    kernel = np.asarray(params[name], np.float64) / std[:, None]
    shift = np.einsum("hwio,i->o", kernel, mean)
    params[name] = kernel.astype(np.float32)
    if node.norm:
      moved = np.asarray(stats[norm]["mean"], np.float64) + shift
      stats[norm] = {**stats[norm], "mean": moved.astype(np.float32)}
    elif node.bias:
      name = f"{node.name}_bias"
      moved = np.asarray(params[name], np.float64) - shift
      params[name] = moved.astype(np.float32)
    else:
      raise ValueError(
        f"net {net.name!r}: {node.name!r} has neither a norm nor a bias to "
        "take a normalization"
      )
  result = {**variables, "params": params}
  return result | ({"batch_stats": stats} if stats else {})
