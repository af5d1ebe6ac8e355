"""Checkpoints by orbax, which are either whole and ours or refused by name."""

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np


class CheckpointError(RuntimeError):
  """A checkpoint that cannot be used; the message names it."""


class Checkpoints:
  """The checkpoints of one stage, in a directory of their own.

  Orbax writes into a temporary directory and renames it, so a killed run leaves a
  whole checkpoint or none. Each carries the fingerprint of the run that wrote it and
  a digest of its numbers, both of which must agree when it is read.
  """

  def __init__(self, directory: Path, fingerprint: str):
    """
    Args:
      directory: of this stage alone.
      fingerprint: identifies configuration and stage.
    """
    # Imported here: it takes a second, which errors in a config need not wait.
    import orbax.checkpoint as ocp

    self._ocp = ocp
    self._fingerprint = fingerprint
    self._directory = Path(directory).absolute()
    self._manager = ocp.CheckpointManager(
      self._directory,
      options=ocp.CheckpointManagerOptions(
        max_to_keep=1,
        enable_async_checkpointing=False,
        cleanup_tmp_directories=True,
      ),
    )

  def latest(self) -> int | None:
    """Step of the newest whole checkpoint, None if there is none."""
    return self._manager.latest_step()

  def save(self, step: int, state: Any, results: dict[str, float]) -> None:
    """Writes `state`; `results` are numbers kept beside it."""
    state = jax.tree.map(np.asarray, state)
    notes = {
      "fingerprint": self._fingerprint,
      "digest": _digest(state),
      "results": results,
    }
    self._manager.save(
      step,
      args=self._ocp.args.Composite(
        state=self._ocp.args.StandardSave(_as_dict(state)),
        notes=self._ocp.args.JsonSave(notes),
      ),
    )

  def notes(self, step: int) -> dict[str, float]:
    """The results saved with the state of a step.

    Raises:
      CheckpointError: damaged, or of another run.
    """
    return self._notes(step)["results"]

  def restore(self, step: int, like: Any) -> Any:
    """The state of a step, with the structure, shapes and types of `like`.

    Raises:
      CheckpointError: damaged, or of another run.
    """
    notes = self._notes(step)
    abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype),
      _as_dict(like),
    )
    try:
      restored = self._manager.restore(
        step,
        args=self._ocp.args.Composite(
          state=self._ocp.args.StandardRestore(abstract)
        ),
      )["state"]
    except Exception as error:  # orbax raises whatever its readers raise
      raise self._damaged(step, repr(error)) from error
    leaves, structure = jax.tree.flatten(like)
    values = jax.tree.leaves(restored)
    for value, leaf in zip(values, leaves, strict=True):
      if np.shape(value) != np.shape(leaf):
        raise self._damaged(
          step, f"an array of shape {np.shape(value)}, not {np.shape(leaf)}"
        )
    state = jax.tree.unflatten(structure, values)
    if _digest(jax.tree.map(np.asarray, state)) != notes["digest"]:
      raise self._damaged(step, "its numbers do not have the digest written")
    return state

  def close(self) -> None:
    self._manager.close()

  def _notes(self, step):
    try:
      notes = self._manager.restore(
        step,
        args=self._ocp.args.Composite(notes=self._ocp.args.JsonRestore()),
      )["notes"]
      fingerprint = notes["fingerprint"]
    except Exception as error:
      raise self._damaged(step, repr(error)) from error
    if fingerprint != self._fingerprint:
      raise CheckpointError(
        f"checkpoint {self._directory / str(step)} was written by another run "
        f"({fingerprint}, this one is {self._fingerprint}); use another workdir or "
        "delete it"
      )
    return notes

  def _damaged(self, step, reason):
    reason = reason if len(reason) < 400 else reason[:400] + " ..."
    return CheckpointError(
      f"checkpoint {self._directory / str(step)} is damaged: {reason}; delete it "
      "to train this stage anew"
    )


def _as_dict(state: Any) -> dict[str, Any]:
  """Leaves by position: optax states are no plain trees."""
  return {f"{i:04d}": x for i, x in enumerate(jax.tree.leaves(state))}


def _digest(state: Any) -> str:
  """SHA-256 of structure, shapes, types and bytes."""
  digest = hashlib.sha256(str(jax.tree.structure(state)).encode())
  for leaf in jax.tree.leaves(state):
    array = np.ascontiguousarray(leaf)
    digest.update(f"{array.dtype}{array.shape}".encode())
    digest.update(array.tobytes())
  return digest.hexdigest()
