"""Which kind of device a program is written for: some forms differ by it.

    with backend.written_for("cuda"):
      text = jax.jit(step).trace(*arguments).lower(lowering_platforms=("cuda",))

so what a GPU or TPU would run can be looked at where there is none. `jax.jit`
keeps one program for each kind.
"""

import contextlib
from contextlib import AbstractContextManager

import jax

_PLATFORM = jax.make_user_context(None)


def written_for(platform: str) -> AbstractContextManager[None]:
  """Within, programs are traced for `platform`: "cpu", "cuda", "tpu", ..."""
  return _PLATFORM(platform)


def is_cpu() -> bool:
  """Whether what is traced here will run on a CPU.

  By default it runs where jax puts its arrays.
  """
  return (_PLATFORM.value or jax.default_backend()) == "cpu"


def is_one_nvidia_gpu() -> bool:
  """Whether what is traced here will run on a single NVIDIA GPU.

  Kernels of our own (`fbq.depthwise`) are not split over devices; those that
  compile them have compute capability 8.0, Ampere, or more.
  """
  if _PLATFORM.value:
    return _PLATFORM.value == "cuda"
  if jax.default_backend() != "gpu" or jax.device_count() > 1:
    return False
  (device,) = jax.devices()
  if "NVIDIA" not in device.device_kind:
    return False
  return float(device.compute_capability) >= 8.0


def products(exact: bool) -> AbstractContextManager[None]:
  """Within, float32 products are exact to float32, or as fast as they can be.

  On a GPU fast ones keep 11 bits of their operands (TF32), on a TPU 8; those of
  a CPU are exact anyway. Training steps are fast; what is tested, calibrated or
  proven is exact.
  """
  if is_cpu():
    return contextlib.nullcontext()
  return jax.default_matmul_precision("highest" if exact else "default")
