"""What was measured on: a name for tables, and facts for readers."""

import os
import platform
from pathlib import Path

from fbq.deploy import onnx_fast


def about() -> dict[str, str]:
  """Processor, runtime and cores; "target" names both, for tables."""
  import onnxruntime

  processor = _processor()
  version = onnxruntime.__version__
  return {
    "target": f"onnxruntime {version}, one core of {processor}"[:100],
    "processor": processor,
    "instructions": _instructions(),
    "sums of int8": "cut off at 16 bits"
    if onnx_fast.saturates()
    else "exact, of 32 bits",
    "cores": str(os.cpu_count()),
    "onnxruntime": version,
    "unit": "nanoseconds",
  }


def _processor() -> str:
  for line in _cpu_lines("model name"):
    return line
  return platform.processor() or platform.machine()


def _instructions() -> str:
  """Those that integer kernels use, of x86; "" where it is not said."""
  known = ("avx2", "avx_vnni", "avx512bw", "avx512_vnni", "amx_int8")
  for line in _cpu_lines("flags"):
    return " ".join(name for name in known if name in line.split())
  return ""


def _cpu_lines(key):
  path = Path("/proc/cpuinfo")
  if not path.exists():
    return
  for line in path.read_text().splitlines():
    name, _, value = line.partition(":")
    if name.strip() == key:
      yield value.strip()
