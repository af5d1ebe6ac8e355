"""Sums over the layers of a table, of very many candidates."""

import jax
import jax.numpy as jnp
import numpy as np

_CHUNK = 1 << 17  # candidates that one compiled call scores


def score(costs: np.ndarray, codes: np.ndarray) -> np.ndarray:
  """Total cycles of `P` candidates, exactly: int64[P].

  Each chunk of candidates is one compiled pass with a loop over layers inside;
  while it runs, the next one is made ready. Measured for 28 layers on two
  cores: 1.9e8 candidates/s (`benchmarks/hwsim.py`). Column-major codes halve
  that, as do tables of two layers at once; a single call for all candidates
  divides it by three, because of page faults.

  Args:
    costs: int64[L, K] of `latency_table.flat_costs`.
    codes: uint8[P, L] of `latency_table.encode`, below K.
  """
  if codes.ndim != 2 or codes.shape[1] != len(costs):
    raise ValueError(
      f"codes has shape {codes.shape}, expected [P, {len(costs)}]"
    )
  total = np.empty(len(codes), np.int64)
  before = 0, np.empty(0, np.int64)
  with jax.enable_x64(True):
    table = jnp.asarray(costs)
    for start in range(0, len(codes), _CHUNK):
      part = _padded(codes[start : start + _CHUNK], costs.shape[1])
      running = start, _score(table, part)
      _store(total, *before)
      before = running
    _store(total, *before)
  return total


def aligned(shape: tuple[int, ...]) -> np.ndarray:
  """An empty uint8 array that XLA reads in place: its address is 64 n.

  Where `score` must copy its codes first, it takes 1.5 times as long.
  """
  size = int(np.prod(shape))
  memory = np.empty(size + 64, np.uint8)
  start = -memory.ctypes.data % 64
  return memory[start : start + size].reshape(shape)


def _padded(codes, count):
  """Checked codes, rounded up to one of few sizes: each is compiled once."""
  if (top := int(codes.max(initial=0))) >= count:
    raise ValueError(
      f"codes go up to {top}, expected at most {count - 1}: were they encoded "
      "with the same output_bits as the costs?"
    )
  more = min(_CHUNK, 1 << max(8, (len(codes) - 1).bit_length())) - len(codes)
  return np.pad(codes, ((0, more), (0, 0))) if more else codes


def _store(total, start, part):
  stop = min(start + len(part), len(total))
  total[start:stop] = np.asarray(part)[: stop - start]


@jax.jit
def _score(costs, codes):
  total = jnp.zeros(codes.shape[0], costs.dtype)
  for layer in range(costs.shape[0]):
    total += costs[layer].at[codes[:, layer]].get(mode="promise_in_bounds")
  return total
