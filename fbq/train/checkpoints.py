"""Checkpoints by orbax, which are either whole and ours or refused by name."""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fbq.train import parallel, processes

_FULL = ("No space left", "Disk quota exceeded", "RESOURCE_EXHAUSTED")


class CheckpointError(RuntimeError):
  """A checkpoint that cannot be used; the message names it."""


class Checkpoints:
  """The checkpoints of one stage, in a directory of their own.

  Orbax writes into a temporary directory and renames it, so a killed run leaves
  a whole checkpoint or none. Each carries the fingerprint of the run that wrote
  it and a digest of all its numbers, both of which must agree when it is read.

  The state is stored as one array of bytes: 330 arrays of 8 kB take 0.35 s to
  save, one of the same size takes 0.08 s; and where one array of many is
  damaged, the threads that read the others print tracebacks of their own.
  """

  def __init__(self, directory: Path, fingerprint: str):
    """
    Args:
      directory: directory of this stage alone.
      fingerprint: text that identifies configuration and stage.
    """
    # Imported here: it takes a second, which errors in a config need not wait.
    import orbax.checkpoint as ocp

    self._ocp = ocp
    self._fingerprint = fingerprint
    self._directory = Path(directory).absolute()
    self._manager: Any = None  # of process 0: others get what it reads
    if not processes.is_first():
      return
    with _may_be_full(self._directory):
      self._directory.mkdir(parents=True, exist_ok=True)
      self._manager = ocp.CheckpointManager(
        self._directory,
        options=ocp.CheckpointManagerOptions(
          max_to_keep=1,
          enable_async_checkpointing=False,
          cleanup_tmp_directories=True,
          create=False,  # orbax makes none for some processes of several
          multiprocessing_options=ocp.options.MultiprocessingOptions(
            active_processes={0}
          ),
        ),
      )

  def latest(self) -> int | None:
    """Step of the newest whole checkpoint, None if there is none."""
    return processes.from_first(lambda: self._manager.latest_step())

  def save(self, step: int, state: Any, results: Mapping[str, float]) -> None:
    """Writes `state`; `results` are numbers kept beside it.

    Of several processes all call it, and the first writes.

    Raises:
      CheckpointError: no space left; the checkpoint before is whole.
    """
    leaves = [parallel.to_host(leaf) for leaf in jax.tree.leaves(state)]
    if not processes.is_first():
      return
    content = np.frombuffer(b"".join(x.tobytes() for x in leaves), np.uint8)
    notes = {
      "fingerprint": self._fingerprint,
      "results": dict(results),
      "digest": _digest(content, _layout(state), results),
    }
    with _may_be_full(self._directory / str(step)):
      self._manager.save(
        step,
        args=self._ocp.args.Composite(
          state=self._ocp.args.StandardSave({"content": content}),
          notes=self._ocp.args.JsonSave(notes),
        ),
      )

  def restore(self, step: int, like: Any) -> tuple[Any, dict[str, float]]:
    """(state, results) of a step.

    Args:
      step: step of a checkpoint in the directory.
      like: state whose structure, shapes and types are expected.

    Returns:
      The state as numpy arrays, and what was saved beside it.

    Raises:
      CheckpointError: damaged, or of another run.
    """
    leaves, structure = jax.tree.flatten(like)
    sizes = [leaf.nbytes for leaf in leaves]
    content, results = processes.from_first(
      lambda: self._restore(step, sum(sizes), _layout(like))
    )
    values = [
      np.frombuffer(content[end - size : end].tobytes(), leaf.dtype).reshape(
        leaf.shape
      )
      for leaf, end, size in zip(leaves, np.cumsum(sizes), sizes, strict=True)
    ]
    return jax.tree.unflatten(structure, values), results

  def _restore(self, step, size, layout):
    """(bytes of all leaves, results); see `restore`."""
    notes = self._read(step, "notes", self._ocp.args.JsonRestore())
    if not isinstance(notes, dict):
      raise self._damaged(step, f"its notes are {notes!r}")
    if notes.get("fingerprint") != self._fingerprint:
      raise CheckpointError(
        f"checkpoint {self._directory / str(step)} was written by another run "
        f"({notes.get('fingerprint')}, this one is {self._fingerprint}); use "
        "another workdir or delete it"
      )
    wanted = self._ocp.args.StandardRestore(
      {"content": np.empty(size, np.uint8)}
    )
    content = self._read(step, "state", wanted)["content"]
    if content.shape != (size,):
      raise self._damaged(step, f"{content.shape} bytes, expected {size}")
    results = notes.get("results")
    if notes.get("digest") != _digest(content, layout, results):
      raise self._damaged(step, "its numbers do not have the digest written")
    return content, dict(results or {})

  def close(self) -> None:
    if self._manager:
      self._manager.close()

  def _read(self, step, item, how):
    try:
      args = self._ocp.args.Composite(**{item: how})
      return self._manager.restore(step, args=args)[item]
    except Exception as error:  # orbax raises whatever its readers raise
      raise self._damaged(step, repr(error)) from error

  def _damaged(self, step, reason):
    reason = reason if len(reason) < 400 else reason[:400] + " ..."
    return CheckpointError(
      f"checkpoint {self._directory / str(step)} is damaged: {reason}; delete "
      "it to train this stage anew"
    )


@contextlib.contextmanager
def _may_be_full(path):
  """Says so where a disk is; orbax raises what its writers raise."""
  try:
    yield
  except Exception as error:
    if not any(text in repr(error) for text in _FULL):
      raise
    raise CheckpointError(
      f"checkpoint {path} cannot be written: no space left. The one before it, "
      "if any, is whole: free some space and give the same command again"
    ) from error


def _layout(state: Any) -> str:
  """Structure, shapes and types."""
  kinds = [(str(x.dtype), x.shape) for x in jax.tree.leaves(state)]
  return f"{jax.tree.structure(state)} {kinds}"


def _digest(content: np.ndarray, layout: str, results: Any) -> str:
  """SHA-256 of everything that a resumed run takes from a checkpoint."""
  digest = hashlib.sha256(f"{layout} {json.dumps(results)}".encode())
  digest.update(content.tobytes())
  return digest.hexdigest()
