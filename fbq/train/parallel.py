"""Training on many devices: one mesh, its shardings, and what is put on it.

The mesh has two axes. Over "data" the images of a batch are spread, while the
state is on every device: gradients and the statistics of batch norms are sums
over all of them, which XLA's partitioner adds where it sees a batch spread and
a state that is not. Over "point" whole runs are, which need no sums.

What a step computes does not depend on the number of devices but for the order
of its sums; random draws are the same ones (`jax_threefry_partitionable`).
"""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

POINT, DATA = "point", "data"


def mesh_of(batch_size: int, points: int = 1) -> Mesh:
  """Devices as (point, data): as many as `points` and then batches allow.

  Points come first, since they need no communication. One process leaves
  devices aside that neither divides; of several none can be left out.

  Args:
    batch_size: images of a batch, over all devices.
    points: runs trained as one program.

  Raises:
    ValueError: the devices of several processes cannot share the work evenly.
  """
  # Every (points, images) split of some of the devices that divides the work.
  devices = jax.devices()
  shapes = [
    (p, d)
    for p in range(1, len(devices) + 1)
    for d in range(1, len(devices) // p + 1)
    if points % p == 0 and batch_size % d == 0
  ]

  # A process whose devices are left out would wait in every collective.
  if jax.process_count() > 1:
    shapes = [(p, d) for p, d in shapes if p * d == len(devices)]
    if not shapes:
      raise ValueError(
        f"batch_size is {batch_size}, expected a multiple of the "
        f"{len(devices)} devices of {jax.process_count()} processes"
      )

  # Points first, as they need no communication; then as many devices as fit.
  shape = max(shapes)
  count = shape[0] * shape[1]
  return jax.make_mesh(
    shape,
    (POINT, DATA),
    axis_types=(AxisType.Auto,) * 2,
    devices=devices[:count],
  )


def everywhere(mesh: Mesh) -> NamedSharding:
  """For arrays that every device has whole."""
  return NamedSharding(mesh, PartitionSpec())


def by_point(mesh: Mesh) -> NamedSharding:
  """For arrays whose leading axis counts points."""
  return NamedSharding(mesh, PartitionSpec(POINT))


def by_row(mesh: Mesh) -> NamedSharding:
  """For arrays whose leading axis counts images of a batch."""
  return NamedSharding(mesh, PartitionSpec(DATA))


def put(tree: Any, sharding: NamedSharding | None) -> Any:
  """`tree`, of which every process has all, on the devices of a mesh.

  Args:
    tree: tree of arrays.
    sharding: None leaves it where it is.
  """
  if sharding is None:
    return tree
  if sharding.is_fully_addressable:
    return jax.device_put(tree, sharding)
  return jax.tree.map(lambda leaf: _put_own_part(leaf, sharding), tree)


def _put_own_part(leaf, sharding):
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    data = _put_own_part(jax.random.key_data(leaf), sharding)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
  leaf = np.asarray(leaf)
  return jax.make_array_from_callback(
    leaf.shape, sharding, lambda index: leaf[index]
  )


def feed(batch: Any, mesh: Mesh | None) -> Any:
  """Arrays of a whole batch, made of the rows that each process has.

  Args:
    batch: this process's rows, host arrays [B / processes, ...].
    mesh: mesh of the training; None is this process's own device.
  """
  if mesh is None:
    return jax.device_put(batch)
  sharding = by_row(mesh)
  return jax.tree.map(
    lambda rows: jax.make_array_from_process_local_data(
      sharding, np.asarray(rows)
    ),
    batch,
  )


def to_host(array: Any) -> np.ndarray:
  """All of an array on a mesh, in every process; all of them ask for it."""
  if isinstance(array, jax.Array) and not (
    array.is_fully_addressable or array.is_fully_replicated
  ):
    from jax.experimental import multihost_utils

    array = multihost_utils.process_allgather(array, tiled=True)
  return np.asarray(array)


def home(tree: Any) -> Any:
  """`tree` of arrays on a mesh on this process's own device.

  What follows a training, such as tests of accuracy, is each process's own.
  Through the host: parts taken from a sharded array would be sums over all
  devices, which eight virtual ones on two busy cores may wait for in vain.
  """

  def bring(leaf):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      data = bring(jax.random.key_data(leaf))
      return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jnp.asarray(to_host(leaf))

  return jax.tree.map(bring, tree)


def no_transfers(holds: bool) -> contextlib.AbstractContextManager:
  """Within, data that go between host and device unasked are an error.

  Args:
    holds: not for a first step, whose compilation reads constants.
  """
  return jax.transfer_guard("disallow" if holds else "allow")


def spread(batch: Any, mesh: Mesh | None) -> Any:
  """`batch` with its images over the data axis; for use in a compiled step.

  Args:
    batch: tree of arrays [B, ...].
    mesh: mesh of the training; None leaves it to the compiler. Within
      `jax.shard_map` the mesh of that counts.
  """
  rows = PartitionSpec(DATA)
  if DATA in jax.sharding.get_abstract_mesh().axis_names:
    return lax.with_sharding_constraint(batch, rows)
  if mesh is None:
    return batch
  return lax.with_sharding_constraint(batch, NamedSharding(mesh, rows))


def own_rows(tree: Any, axis_name: str | None) -> Any:
  """The rows of `tree` that are this device's under `jax.pmap`.

  Args:
    tree: tree of arrays [B, ...].
    axis_name: axis of the map; None is no map: all rows.
  """
  if axis_name is None:
    return tree
  count = lax.axis_size(axis_name)

  def cut(leaf):
    if len(leaf) % count:
      raise ValueError(
        f"batch_size is {len(leaf)}, expected a multiple of {count} devices"
      )
    rows = len(leaf) // count
    return lax.dynamic_slice_in_dim(
      leaf, lax.axis_index(axis_name) * rows, rows
    )

  return jax.tree.map(cut, tree)


def own_noise(
  draw: Callable, key: jax.Array, rows: int, axis_name: str | None
) -> Any:
  """What `draw(key, rows)` gives, or its part of a draw for all devices.

  Args:
    draw: function of a scheme that makes random draws; some of what it gives
      has an axis of rows, in front.
    key: key, the same on every device.
    rows: number of rows on this device.
    axis_name: axis of the map, see `own_rows`.
  """
  if axis_name is None:
    return draw(key, rows)
  whole = rows * lax.axis_size(axis_name)
  longer = jax.eval_shape(lambda k: draw(k, whole + 1), key)
  return jax.tree.map(
    lambda drawn, other: (
      drawn if drawn.shape == other.shape else own_rows(drawn, axis_name)
    ),
    draw(key, whole),
    longer,
  )


def mean(tree: Any, axis_name: str | None) -> Any:
  """`tree` averaged over the devices of `jax.pmap`, if there is an axis."""
  return tree if axis_name is None else lax.pmean(tree, axis_name)


def pmap_step(step: Callable, axis_name: str) -> Callable:
  """`step(states, runs)` by `jax.pmap`, for forks that are built on it.

  States and runs have a leading axis of devices, as `jax.device_put_replicated`
  and `flax.jax_utils.replicate` make them; all devices go through the same
  training. The states given are donated.

  Args:
    step: step of `steps.train_step`, for a model with this `axis_name`.
    axis_name: axis over which batch norms and gradients are averaged.
  """
  return jax.pmap(inspect.unwrap(step), axis_name, donate_argnums=0)
