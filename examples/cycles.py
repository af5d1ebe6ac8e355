"""Prints the cycles of a network on a PULP core, at bits that one gives.

One line for each assignment: all tensors at 8 bits, all at 4, the first and the
last layer's weights at 8 besides, and that after the Free Bits pass, which
raises bits wherever the core is faster for it. Then what the pass raised. A
layer writes its output at the bits at which the next one reads it.
"""

import fbq
import hwsim


def main():
  net = fbq.build("mobilenet_v1", width=0.25, resolution=32, classes=10)
  workload = net.workload
  table = hwsim.pulp.latency_table(workload, hwsim.XPULPNN_V1)

  eight, four = (fbq.precision.uniform(net, bits) for bits in (8, 4))
  rules = [(r"(conv1|classifier)\.weight", 8)]
  mixed = fbq.precision.apply_rules(net, four, rules)
  raised, changes = fbq.free_bits(workload, table.cycles, mixed)

  for name, bits in (
    ("8 bits", eight),
    ("4 bits", four),
    ("mixed", mixed),
    ("mixed, raised", raised),
  ):
    cycles = hwsim.total_cycles(table, workload, bits, output_bits="site")
    size = hwsim.weight_bytes(workload, bits)
    print(f"{name:14}{cycles:10,} cycles{size:9,} bytes")
  print("layer: (input, weights, output) bits before -> after")
  for change in changes:
    print(f"{change.layer}: {change.before} -> {change.after}")


if __name__ == "__main__":
  main()
