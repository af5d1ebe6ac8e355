"""What runs at the same time on this machine, and on which cores or GPU."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from launch.manifest import SweepError


@dataclasses.dataclass(frozen=True)
class Slot:
  """Room for one point.

  Attributes:
    cores: that it runs on. XLA and BLAS start a thread for each.
    environment: of its processes, beside this one's.
  """

  cores: tuple[int, ...]
  environment: Mapping[str, str]


def make(
  cores: Sequence[int],
  gpus: Sequence[str] = (),
  slots: int = 0,
  cores_per_point: int = 0,
  points_per_gpu: int = 1,
) -> list[Slot]:
  """The slots of a machine: per GPU where it has any, else per core.

  Args:
    cores: ids of the cores that may be used.
    gpus: ids as CUDA_VISIBLE_DEVICES has them.
    slots: number of slots; 0 for as many as there is room for.
    cores_per_point: 0 to share the cores out among the slots, or one per slot.
    points_per_gpu: that share one GPU and its memory.

  Raises:
    SweepError: more was asked for than there is.
  """
  if min(slots, cores_per_point) < 0 or points_per_gpu < 1:
    raise SweepError("slots and cores count from 0, points_per_gpu from 1")
  room = len(gpus) * points_per_gpu or len(cores) // (cores_per_point or 1)
  count = slots or room
  if count > room or count < 1:
    raise SweepError(
      f"{slots or 'no'} slots asked for, expected 1 to {room}: there are "
      f"{len(cores)} cores, {len(gpus)} GPUs, {points_per_gpu} points per GPU, "
      f"{cores_per_point or 'any number of'} cores per point"
    )
  each = cores_per_point or max(len(cores) // count, 1)
  if each * count > len(cores) and cores_per_point:
    raise SweepError(
      f"{count} points with {each} cores each, expected at most {len(cores)}"
    )
  made = []
  for i in range(count):
    mine = tuple(cores[(i * each + j) % len(cores)] for j in range(each))
    threads = str(each)
    environment = {
      "OMP_NUM_THREADS": threads,
      "OPENBLAS_NUM_THREADS": threads,
      "MKL_NUM_THREADS": threads,
    }
    if gpus:
      environment["CUDA_VISIBLE_DEVICES"] = gpus[i // points_per_gpu]
      if points_per_gpu > 1:
        share = f"{0.9 / points_per_gpu:.3f}"
        environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = share
    made.append(Slot(mine, environment))
  return made


def cores_here() -> list[int]:
  """Ids of the cores that this process may run on."""
  if hasattr(os, "sched_getaffinity"):
    return sorted(os.sched_getaffinity(0))
  return list(range(os.cpu_count() or 1))


def gpus_here(given: str | None = None) -> list[str]:
  """Ids of the GPUs to use: as given, as the environment says, or all.

  Args:
    given: as "0,2"; "none" or an empty text for none.
  """
  if given is None:
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
  if given is not None:
    return [part for part in given.split(",") if part not in ("", "none", "-1")]
  devices = Path("/dev").glob("nvidia[0-9]*")
  return [str(i) for i, _ in enumerate(sorted(devices))]
