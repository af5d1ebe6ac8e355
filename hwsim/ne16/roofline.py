"""What bounds a layer on NE16: the products of its array, and its bytes."""

from hwsim.ne16.kernels import MODES
from hwsim.pulp.roofline import least_bytes

__all__ = ["least_bytes", "peak_macs_per_cycle"]


def peak_macs_per_cycle(mode: str, weight_bits: int) -> float:
  """MAC/cycle of the array with nothing around it (docs/facts/ne16.md 1).

  9 columns x 9 blocks x 16 channels of a bit of the weights each; 1x1 jobs read
  all bits of a weight at once, linear ones 256 inputs.

  Args:
    mode: one of `hwsim.ne16.kernels.MODES`.
    weight_bits: 2 to 8.
  """
  if mode not in MODES:
    raise ValueError(f"mode is {mode!r}, expected one of {MODES}")
  if mode == "1x1":
    return 144.0
  per_bit = {"3x3": 9 * 9 * 16, "depthwise": 9 * 9, "linear": 256}
  return per_bit[mode] / weight_bits
