"""Float checkpoints that were damaged, renamed, reshaped or of other types."""

import collections
import io

import jax
import numpy as np
import safetensors.numpy
from deploy_cases import variables
from fuzz import fuzzing
from layouts_test import NAMES, OWN, blank, torch_state

from fbq.train import torch_weights

STATE = torch_state(NAMES["norm beside"])
TREE = {kind: variables(OWN)[kind] for kind in ("params", "batch_stats")}
BLANK = blank(OWN)
PREFIXES = ("", "module.", "model.", "_orig_mod.", "a" * 5000 + ".", "." * 3000)


def run(seed: int, count: int) -> collections.Counter:
  """Half of the files are .npz, half .safetensors."""
  total = collections.Counter()
  for suffix, packed in (
    (".npz", npz),
    (".safetensors", safetensors.numpy.save),
  ):

    def mutate(random, packed=packed):
      state = STATE
      for _ in range(random.integers(0, 4)):
        state = arrays_changed(state, random)
      data = packed(state)
      if random.random() < 0.4:
        data = fuzzing.bytes_changed(data, random)
      return data

    total += fuzzing.fuzz(mutate, attempt, wrong, suffix, seed, -(-count // 2))
  return total


def npz(state):
  file = io.BytesIO()
  np.savez(file, **state)
  return file.getvalue()


def arrays_changed(state, random):
  """One array of another type, shape, size or name; or all with a prefix."""
  state = dict(state)
  key = list(state)[random.integers(len(state))]
  value = state[key]
  kind = random.integers(9)
  if kind == 0:
    dtype = ("int8", "float16", "float64", "bool", "uint64", "int32")
    state[key] = value.astype(dtype[random.integers(6)])
  elif kind == 1:
    state[key] = value.reshape(-1)[: random.integers(value.size + 1)].copy()
  elif kind == 2:
    state[key] = np.ascontiguousarray(value.T)
  elif kind == 3 and value.size:
    bad = (np.nan, np.inf, -1e38, 1e38, -0.0)[random.integers(5)]
    state[key] = np.where(random.random(value.shape) < 0.5, bad, value)
  elif kind == 4:
    del state[key]
  elif kind == 5:
    state[f"{key}.more"[random.integers(4) :]] = np.ones(3)
  elif kind == 6:
    state |= {f"ema.{name}": array for name, array in STATE.items()}
  elif kind == 7:
    state[key] = np.zeros((0, *value.shape), np.float32)
  else:
    prefix = PREFIXES[random.integers(len(PREFIXES))]
    state = {prefix + name: array for name, array in state.items()}
  return state or {"a": np.ones(1)}


def attempt(path):
  loaded, _ = torch_weights.load(OWN, torch_weights.read(path), BLANK)
  return loaded


def wrong(path, found):
  """Every leaf has its shape, its type, and numbers that can be."""
  flat, structure = jax.tree.flatten_with_path(found)
  if structure != jax.tree.structure(TREE):
    return "leaves are missing"
  for (place, leaf), true in zip(flat, jax.tree.leaves(TREE), strict=True):
    name = jax.tree_util.keystr(place)
    if leaf.dtype != np.float32 or leaf.shape != true.shape:
      return f"{name} is {leaf.dtype}{leaf.shape}"
    if not np.isfinite(leaf).all() or ("var" in name and leaf.min() < 0):
      return f"{name} has {leaf}"
  return ""
