"""Float checkpoints of frameworks, loaded by name into a network's variables.

A checkpoint is a file of named arrays, .safetensors or .npz; or a .pt or .pth
of PyTorch, of which tensors alone are read, without PyTorch (`torch_file`).
Such a file is best made one of arrays:

    import safetensors.torch, torchvision
    net = torchvision.models.resnet18(weights="DEFAULT")
    safetensors.torch.save_file(net.state_dict(), "resnet18.safetensors")
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax import dtypes

from fbq.files import user_path
from fbq.nets.graph import Net
from fbq.train import image_norm, layout_keys, layouts, torch_file

NORM_EPSILON = 1e-5  # of `fbq.model`'s batch norm
_TORCH = (".pt", ".pth")
_SHOWN = 5  # keys of a message


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


def read(path: str | Path) -> dict[str, np.ndarray]:
  """{key: array} of a .safetensors, .npz or .pt file, keys without wrappers.

  What PyTorch's DataParallel and compile put into names is left out, and so are
  Flax's collections; see `layout_keys.plain`.

  Raises:
    ValueError: missing, damaged or of another kind; names the file.
  """
  path = user_path(path)
  if path.suffix not in (".safetensors", ".npz", *_TORCH):
    raise ValueError(
      f"checkpoint {path}: expected .safetensors, .npz, .pt or .pth; with "
      "PyTorch: "
      "safetensors.torch.save_file(net.state_dict(), 'net.safetensors')"
    )
  if not path.is_file():
    package, colon, _ = str(path).partition(":")
    hint = f"; the package {package} is not installed" if colon else ""
    raise ValueError(f"checkpoint {path}: there is no such file{hint}")
  try:
    if path.suffix == ".npz":
      # Opened here: numpy leaves a damaged file open.
      with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
        state = {key: file[key] for key in file.files}
    elif path.suffix in _TORCH:
      state = torch_file.read(path)
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
      f"checkpoint {path} is damaged: {type(error).__name__}: "
      f"{str(error)[:200]}"
    ) from error

  found, names = {}, {}
  for key, value in state.items():
    short = layout_keys.plain(key)
    if short in found:
      raise ValueError(
        f"checkpoint {path} has both {names[short]!r} and {key!r}, which are "
        "the same but for wrappers: save one of them alone"
      )
    found[short], names[short] = value, key
  return found


def load(
  net: Net,
  state: Mapping[str, np.ndarray],
  variables: Mapping[str, Any],
  allow_missing: bool = False,
  names: Any = None,
  normalized: tuple[Any, Any] | None = None,
) -> tuple[dict[str, Any], Report]:
  """`variables` with the checkpoint's numbers, and a report of all of them.

  Keys may have a prefix, such as "model."; what stands beside it is not needed.

  Args:
    net: the network.
    state: a state dict as arrays, from `read`.
    variables: "params" and, with batch norm, "batch_stats" as initialized;
      other collections stay. Shapes are checked against these.
    allow_missing: whether leaves that the checkpoint lacks are kept, and keys
      that the network lacks left aside, instead of raising.
    names: layout of the checkpoint, as `layouts.layout_of` takes it; derived
      if None.
    normalized: (mean, std) per channel of the images that the checkpoint was
      trained on, as (x - mean) / std with x in [0, 1], such as
      `torch_names.NORMALIZED`; folded into the layers that read the image, see
      `image_norm.folded`.

  Raises:
    ValueError: no layout, anything unmatched, wrong shapes or types, numbers
      that are not finite, negative variances; lists the first of them.
  """
  names = layouts.layout_of(net, state, names)
  plan = list(layout_keys.plan(net, names))
  prefix, _ = layout_keys.prefix_of(state, [leaf.key for leaf in plan])

  # Every leaf is found, of the right shape, and a number.
  found = {tuple(path): leaf for path, leaf in _leaves(variables)}
  matched, missing, wrong, loaded, used = [], [], [], {}, set()
  for leaf in plan:
    name, key = "/".join(leaf.path), prefix + leaf.key
    if leaf.path not in found:
      raise ValueError(
        f"variables have no {name}: they are not those of {net.name}"
      )
    shape = np.shape(found.pop(leaf.path))
    if key not in state:
      missing.append(f"{name} ({key})")
      continue
    used.add(key)
    value, problem = _value(net, leaf, state[key], names, shape)
    if problem:
      wrong.append(f"{key} {problem}")
    else:
      loaded[leaf.path] = value
      matched.append((name, key, shape))

  # A bias before a batch norm, which ours has not, is a part of its mean.
  for leaf in plan:
    key = prefix + layout_keys.bias_key(names, leaf.node)
    if leaf.path[-1] != "mean" or leaf.node.bias or key not in state:
      continue
    used.add(key)
    if (mean := loaded.get(leaf.path)) is None:
      continue
    bias, problem = _value(net, leaf, state[key], names, mean.shape)
    if problem:
      wrong.append(f"{key} {problem}")
    else:
      loaded[leaf.path] = mean - bias
      matched.append(("/".join(leaf.path), key, bias.shape))

  missing += ["/".join(path) for path in found]
  rest = [key for key in state if key not in used]
  unused = [k for k in rest if _is_unused(k, state[k], prefix, names)]
  unmatched = [k for k in rest if k not in set(unused)]
  report = Report(
    tuple(matched),
    tuple(missing),
    tuple(unmatched),
    tuple(unused),
    names.note,
  )
  where = f"checkpoint for {net.name}" + f", prefix {prefix!r}" * bool(prefix)
  if wrong:
    raise ValueError(f"{where}: {_some(wrong, '; ')}")
  if (missing or unmatched) and not allow_missing:
    raise ValueError(
      f"{where}: {len(missing)} variables of the network are not in it "
      f"({_some(missing)}) and {len(unmatched)} of its arrays are not in the "
      f"network ({_some(unmatched)}); give the checkpoint of this network, or "
      "a layout that says where each is (config.checkpoint_layout)"
    )

  result = _replaced(variables, loaded)
  if normalized is not None:
    result = image_norm.folded(net, result, *normalized)
  return result, report


def _some(items, separator=", "):
  """The first of many, so that a message is no page."""
  shown = [item if len(item) < 200 else item[:200] + ".." for item in items]
  more = len(items) - _SHOWN
  shown = shown[:_SHOWN] + [f"and {more} more"] * (more > 0)
  return separator.join(shown) or "none"


def _is_unused(key, value, prefix, names):
  """Whether a key is of something else than weights."""
  if not key.startswith(prefix) or layout_keys.is_of_optimizer(key):
    return True
  if layout_keys.is_of_average(key) and not layout_keys.is_of_average(prefix):
    return True
  # A step, an epoch, or what PyTorch counts for norms without momentum.
  if np.ndim(value) == 0 or key.endswith(".num_batches_tracked"):
    return True
  return re.fullmatch(names.unused, key.removeprefix(prefix)) is not None


def _leaves(tree, path=()) -> Iterator[tuple[tuple[str, ...], Any]]:
  """(path, leaf) of params and batch statistics."""
  for key, value in tree.items():
    if not path and key not in ("params", "batch_stats"):
      continue
    if isinstance(value, Mapping):
      yield from _leaves(value, (*path, key))
    else:
      yield (*path, key), value


def _value(net, leaf, given, names, shape) -> tuple[np.ndarray, str]:
  """(an array in our layout, float32, what is wrong with it or "")."""
  given = np.asarray(given)
  if not dtypes.issubdtype(given.dtype, np.floating):
    return given, f"has numbers of type {given.dtype}, expected floats"
  with np.errstate(over="ignore"):
    value = given.astype(np.float32)
  if not np.isfinite(value).all():
    return value, "has values that are not finite"
  if leaf.kind == "kernel":
    value = _kernel(net, leaf.node, value, names.style)
  else:
    value = value.reshape(-1)  # a layer scale is [C, 1, 1]
  if value is None or value.shape != shape:
    return given, (
      f"has shape {given.shape}, which does not make {'/'.join(leaf.path)} "
      f"{shape}"
    )
  if leaf.kind == "variance":
    if value.min() < 0:
      return value, f"has a negative variance, {value.min():.4g}"
    # Ours adds its own epsilon: the sum is as it was trained.
    value = value + np.float32(names.norm_epsilon - NORM_EPSILON)
  return value, ""


def _kernel(net, node, value, style):
  """A kernel as ours, [h, w, I, O] or [I, O]; None where it cannot be."""
  if style != "torch" or not value.size:
    return value
  if node.op == "linear" and value.ndim in (2, 4):
    height, width, channels = net.shapes[node.inputs[0]]
    if value[0].size != height * width * channels:
      return None
    # PyTorch flattens channels first, we flatten them last.
    parts = value.reshape(-1, channels, height, width)
    return parts.transpose(2, 3, 1, 0).reshape(-1, len(value))
  if node.op == "channel_conv" and value.ndim == 3:  # one of one channel
    return value.transpose(2, 1, 0)[None]
  if node.op == "conv_transpose":  # which has its inputs first
    return value.transpose(2, 3, 0, 1) if value.ndim == 4 else None
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
