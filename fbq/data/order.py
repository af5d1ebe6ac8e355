"""Which samples a batch holds: a function of the seed and the step alone.

Training goes through the samples again and again, each time in another random
order. A batch may begin in one pass and end in the next, so none is dropped or
short. A global batch is dealt out to the processes, so however many there are
they see together what one process sees.
"""

import functools

import numpy as np


def check_processes(batch_size: int, process_index: int, process_count: int):
  """Raises ValueError unless the processes can share a batch evenly."""
  if process_count < 1 or not 0 <= process_index < process_count:
    raise ValueError(
      f"process {process_index} of {process_count}, expected an index from 0 "
      "to count - 1"
    )
  if batch_size < 1 or batch_size % process_count:
    raise ValueError(
      f"batch_size is {batch_size}, expected a positive multiple of the "
      f"{process_count} processes that share it"
    )


def places(
  step: int, batch_size: int, process_index: int = 0, process_count: int = 1
) -> np.ndarray:
  """int64 [B / processes]: this process's places in the endless stream."""
  own = own_rows(batch_size, process_index, process_count)
  return step * batch_size + np.arange(batch_size)[own]


def own_rows(
  batch_size: int, process_index: int = 0, process_count: int = 1
) -> slice:
  """This process's rows of a batch: in one piece, as devices hold arrays."""
  rows = batch_size // process_count
  return slice(process_index * rows, (process_index + 1) * rows)


def samples(count: int, seed: int, places: np.ndarray) -> np.ndarray:
  """int64: the sample, of `count`, at each place of the training stream."""
  passes, within = np.divmod(places, count)
  result = np.empty_like(within)
  for number in np.unique(passes):
    here = passes == number
    result[here] = _permutation(count, seed, int(number))[within[here]]
  return result


def evaluation_rows(
  count: int,
  step: int,
  batch_size: int,
  process_index: int = 0,
  process_count: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
  """(samples int64, weights float32) of an evaluation batch, in order.

  What fills the last batch is its first sample again, with weight 0.
  """
  rows = places(step, batch_size, process_index, process_count)
  weights = (rows < count).astype(np.float32)
  return np.where(weights > 0, rows, step * batch_size), weights


def evaluation_steps(count: int, batch_size: int) -> int:
  """Batches that hold `count` samples, the last one perhaps filled up."""
  return -(-count // batch_size)


# 1.3 million samples take 20 ms to shuffle, and batches read the pass they are
# in and the next.
@functools.lru_cache(maxsize=4)
def _permutation(count: int, seed: int, number: int) -> np.ndarray:
  order = np.random.default_rng([seed, number]).permutation(count)
  order.flags.writeable = False
  return order
