"""Prints the exact front of one's own table: every assignment worth having.

The table is what one measured: cycles of two layers at 2, 4 and 8 bits of their
input (rows) and weights (columns), and the harm that each tensor does there. A
line for each assignment that no other beats in both: cycles, harm, bits.
"""

import numpy as np

import fbq
import hwsim

WORKLOAD = hwsim.Workload(
  name="own",
  layers=(
    hwsim.Layer("mix", "conv", 16, 32, 32, 32),
    hwsim.Layer("head", "conv", 32, 10, 32, 32),
  ),
  sources=((-1,), (0,)),
  input_sites=(("x",), ("y",)),
  output_sites=("y", None),
)
MIX = [[21, 33, 38], [40, 29, 38], [47, 44, 40]]
HEAD = [[14, 22, 25], [26, 19, 25], [31, 29, 27]]
HARM = {"x": 0.56, "mix.weight": 0.25, "y": 0.38, "head.weight": 0.5}  # 2 bits


def main():
  # Each bit more divides the harm by four.
  value = {
    s: {b: -h * 4.0 ** (2 - b) for b in (2, 4, 8)} for s, h in HARM.items()
  }
  problem = fbq.problem.make(WORKLOAD, {"cycles": np.array([MIX, HEAD])}, value)
  found = fbq.exact.front(problem)
  for i, cycles in enumerate(found.costs["cycles"]):
    print(cycles, f"{-found.value[i]:.6f}", found.precision(i))


if __name__ == "__main__":
  main()
