"""Prints what MX formats cost a vision transformer on two published clusters.

One line for each format and cluster: cycles and energy of the products, and how
many of the layers the dot-product unit takes. A format without a unit saves
traffic and no cycles.
"""

import fbq
from fbq.quantizers.microscaling import FORMATS
from fbq.schemes.published_formats import priced
from hwsim import mx


def main():
  workload = fbq.build("vit", width=64, depth=2, heads=2, patch=8).workload
  for name in ("MXFP8 E4M3", "MXFP6 E2M3", "MXFP4", "MXINT8", "NVFP4"):
    format_ = priced(FORMATS[name])
    formats = dict.fromkeys(workload.sites, format_)
    for target in mx.TARGETS:
      costs = mx.network_costs(workload, formats, target).values()
      cycles = sum(cost.cycles for cost in costs)
      joules = sum(cost.joules for cost in costs)
      taken = sum(cost.way == "unit" for cost in costs)
      print(
        f"{name:11} {target.name:8}{cycles / 1e6:9.2f} Mcycles"
        f"{1e3 * joules:7.2f} mJ {taken:3} of {len(costs)} layers in the unit"
      )


if __name__ == "__main__":
  main()
