"""What runs at the same time on this machine, and on which cores or GPU."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from launch.manifest import SweepError


class Slot(NamedTuple):
  """Room for one point.

  Attributes:
    cores: ids of the cores that it runs on; none for all.
    environment: variables of its process, beside the launcher's.
  """

  cores: Sequence[int]
  environment: Mapping[str, str]


def make(count: int, gpus: str | None) -> list[Slot]:
  """The slots of this machine, which share its cores and GPUs out.

  Args:
    count: number of slots; 0 for one per GPU or, without GPUs, per core.
    gpus: ids like "0,2" or "none"; by default CUDA_VISIBLE_DEVICES, or all.
  """
  cores = list(range(os.cpu_count() or 1))
  if hasattr(os, "sched_getaffinity"):
    cores = sorted(os.sched_getaffinity(0))
  devices = [str(i) for i, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]
  given = os.environ.get("CUDA_VISIBLE_DEVICES") if gpus is None else gpus
  if given is not None:
    devices = [i for i in given.split(",") if i not in ("", "none", "-1")]
  count, most = count or len(devices or cores), max(len(devices), len(cores))
  if not 1 <= count <= most:
    raise SweepError(
      f"--slots={count}, expected 1 to {most}: this machine has {len(cores)} "
      f"cores and {len(devices)} GPUs"
    )

  each = max(len(cores) // count, 1)
  made = []
  for i in range(count):
    mine = [cores[(i * each + j) % len(cores)] for j in range(each)]
    environment = {"OMP_NUM_THREADS": str(each)}  # BLAS; XLA looks at cores
    if devices:
      environment["CUDA_VISIBLE_DEVICES"] = devices[i % len(devices)]
      if count > len(devices):
        share = f"{0.9 / math.ceil(count / len(devices)):.3f}"
        environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = share
    made.append(Slot(mine, environment))
  return made
