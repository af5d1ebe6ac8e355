"""Where the batches of a training step come from: drawn in it, or given to it.

A step is `step(state, run, *given)`, and its batch is `sample(key, *given)`.
Images that live on the device are drawn in the step from the key, and nothing
is given. Images in files are read by the host, ahead of the step, and the batch
is what is given (`as_given`); so are those that lie on the device as they are
and are cut out there (`from_device`). A feed tells these apart, nothing else
does: `feed(run, start_step)` is a context that yields, for every step from
`start_step` on, the tuple of what is given to it.
"""

import collections
import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from fbq.data import resident
from fbq.train import parallel

Run = Mapping[str, jax.Array]
Batch = tuple[Any, Any]
Feed = Callable[[Run, int], AbstractContextManager[Iterator[tuple]]]

_END = object()


def as_given(key: jax.Array, batch: Batch) -> Batch:
  """The `sample` of a step that is given its batch."""
  del key
  return batch


@contextlib.contextmanager
def nothing(run: Run, start_step: int) -> Iterator[Iterator[tuple]]:
  """The feed of a step that draws its batch itself."""
  del run, start_step
  yield itertools.repeat(())


def from_host(
  batches: Callable[[int, int], Iterator[Any]],
  place: Callable[[Any], Batch] = jax.device_put,
  ahead: int = 2,
) -> Feed:
  """The feed of a step that is given its batch.

  Args:
    batches: (seed, start_step) -> endless batches; number `n` is a function of
      the seed and of `n` alone, as `fbq.data` promises, so a run that resumes,
      or looks for its first bad step, sees what it saw.
    place: puts a batch of numpy arrays, or what it is made of, where the step
      wants it; called in the thread that reads ahead.
    ahead: batches read before they are asked for.
  """

  @contextlib.contextmanager
  def feed(run: Run, start_step: int):
    source = batches(seed_of(run), start_step)
    with read_ahead(source, place, ahead) as placed:
      yield ((batch,) for batch in placed)

  return feed


def from_device(
  pixels: resident.Pixels, held: resident.Resident, mesh: Mesh | None = None
) -> Feed:
  """The feed of a step whose images lie on the device.

  Batches are cut out there ahead of the step: no pixel waits for the host.

  Args:
    pixels: arrays on the device, or everywhere on the mesh; see `hold`.
    held: what batches are drawn from.
    mesh: mesh over which batches are spread; None is one device.
  """
  cut = jax.jit(
    functools.partial(resident.cut, padding=held.padding),
    out_shardings=None if mesh is None else parallel.by_row(mesh),
  )
  everywhere = mesh and parallel.everywhere(mesh)

  def place(drawn):
    return cut(pixels, jax.device_put(drawn, everywhere))

  return from_host(held.draws, place)


def hold(held: resident.Resident, mesh: Mesh | None) -> resident.Pixels:
  """The pixels of a training set on the device, or everywhere on a mesh."""
  return jax.device_put(held.pixels, mesh and parallel.everywhere(mesh))


def first(feed: Feed, run: Run) -> tuple:
  """What the first step of a run is given."""
  with feed(run, 0) as fed:
    return next(fed)


def seed_of(run: Run) -> int:
  """The seed of a run's batches: `s` where its key is `jax.random.key(s)`."""
  return int(np.asarray(jax.random.key_data(run["key"])).reshape(-1)[-1])


@contextlib.contextmanager
def read_ahead(
  source: Iterable, prepare: Callable[[Any], Any], count: int
) -> Iterator[Iterator]:
  """Yields `map(prepare, source)`, made in a thread up to `count` items ahead.

  So the host decodes the next batches while the device is at the present one.
  An error in the source is raised where its item is asked for. The source is
  closed at the end, if it can be.

  Args:
    source: read by one thread, in order.
    prepare: what is done to each item, in the thread.
    count: number of items ready or being made, at least 1.
  """
  # One thread: items are made in order, and the source need not be safe.
  iterator = iter(source)

  def take():
    item = next(iterator, _END)
    return item if item is _END else prepare(item)

  with ThreadPoolExecutor(1, "read-ahead") as pool:
    waiting = collections.deque(pool.submit(take) for _ in range(count))

    # Each item that is taken has the next one started, so `count` are under
    # way.
    def items():
      while (item := waiting.popleft().result()) is not _END:
        waiting.append(pool.submit(take))
        yield item

    # However the block is left, nothing reads the source afterwards. A
    # generator at work cannot be closed, so closing waits for what the thread
    # is at.
    try:
      yield items()
    finally:
      for future in waiting:
        future.cancel()
      pool.submit(getattr(iterator, "close", lambda: None)).result()
