"""What bounds a layer: the peak of its kernel's inner loop, and its bytes."""

from hwsim.pulp.coefficients import coefficients
from hwsim.pulp.target import Target
from hwsim.workload import Layer


def peak_macs_per_cycle(
  op: str, in_bits: int, weight_bits: int, target: Target
) -> float:
  """MAC/cycle of all cores in the inner loop, with nothing around it.

  Convolution: blocks of 4 channels x 2 pixels, without im2col and
  requantization. Depthwise: the 9 products of an output of a 3x3 kernel with
  its share of the patch and its requantization, which the loop contains.
  Linear: 16 inputs of a neuron.

  Args:
    op: "conv", "depthwise" or "linear".
  """
  key = f"a{in_bits}w{weight_bits}"
  if op == "conv":
    costs = coefficients("conv", f"{target.conv_library}|{key}o8")
    per_core = 8 * costs["k_per_iter"] / costs["inner_iter"]
  elif op == "depthwise":
    costs = coefficients("depthwise", f"{target.other_library}|{key}o8")
    outputs = costs["channels_per_group"] * 9
    per_core = outputs / (costs["out"] + costs["row"])
  elif op == "linear":
    costs = coefficients("linear", f"{target.other_library}|{key}")
    per_core = 16 / costs["per16ci"]
  else:
    raise ValueError(
      f"op is {op!r}, expected 'conv', 'depthwise' or 'linear': others have no "
      "multiply-accumulates"
    )
  return target.cores * per_core


def least_bytes(
  layer: Layer, in_bits: int, weight_bits: int, out_bits: int
) -> int:
  """Bytes of input, weights and output, packed, if each moves once."""
  inputs = 2 if layer.op == "add" else 1
  parts = (
    (inputs * layer.in_count, in_bits),
    (layer.weight_count, weight_bits),
    (layer.out_count, out_bits),
  )
  return sum(-(-count * bits // 8) for count, bits in parts)
