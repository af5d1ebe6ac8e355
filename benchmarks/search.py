"""Speed of the exact searches, and what they find.

    python -m benchmarks.search

One row per figure with the aim beside it: medians of processor time, warm (the
latency table made, everything called once). Bits are searched for
MobileNetV1-0.75-224, block formats for the networks of configs/digits_bitq.py.
The values are random sensitivities, lognormal over sites, that fall by 4^-bits.
"""

import argparse
import functools
import statistics
import time

import numpy as np

from benchmarks.hwsim import mobilenet_v1, report
from configs import digits_bitq
from fbq import config
from fbq.experiments.bitq.config import BitQ, cost_table
from fbq.lab import networks
from fbq.search import bitq, exact, milp
from fbq.search.problem import SIZE, make
from hwsim.latency_table import BITS
from hwsim.pulp import XPULPNN_V1, latency_table


def milliseconds(function, repeats):
  """Median processor time of a call, in ms, after one to warm up."""
  function()
  times = []
  for _ in range(repeats):
    start = time.process_time()
    function()
    times.append(time.process_time() - start)
  return f"{1e3 * statistics.median(times):.3g} ms"


def values(net, seed=0):
  random = np.random.default_rng(seed)
  return {
    site: {bits: -scale * (2.0**bits - 1) ** -2 for bits in BITS}
    for site, scale in zip(
      net.sites, random.lognormal(size=len(net.sites)), strict=True
    )
  }


def rows(net, cycles, title):
  """All figures of one view of the latency table."""
  problem = make(net, {"cycles": cycles}, values(net))
  front = exact.front(problem)
  middle = int(front.costs["cycles"][len(front.value) // 2])
  report(f"{title}: {len(front.value)} points on the front", "")
  report("  making the problem", milliseconds(lambda: make(
    net, {"cycles": cycles}, values(net)), 9))  # fmt: skip
  whole = functools.partial(exact.front, problem)
  report("  exact front", milliseconds(whole, 9), "< 100 ms")
  span = int(np.ptp(front.costs["cycles"]))
  thin = exact.front(problem, span // 100)
  report(
    f"  front within {thin.error / span:.2%} of its span,"
    f" {len(thin.value)} points",
    milliseconds(lambda: exact.front(problem, span // 100), 9),
  )
  lambdas = np.geomspace(1e3, 1e12, 1024)
  report(
    "  1,024 trade-off points",
    milliseconds(lambda: exact.tradeoffs(problem, lambdas), 9),
    "< 50 ms",
  )
  report(
    "  one budget",
    milliseconds(lambda: exact.best_value(problem, [middle]), 9),
  )
  size = int(exact.best_value(problem, [middle]).costs[SIZE][0] * 0.95)
  tight = make(net, {"cycles": cycles}, values(net), limits={SIZE: size})
  report(
    "  one budget, the size limited too",
    milliseconds(lambda: exact.best_value(tight, [middle]), 5),
  )
  report(
    "  the same by HiGHS",
    milliseconds(lambda: milp.best_value(tight, {"cycles": middle}), 1),
  )
  start = dict.fromkeys(net.sites, 4) | dict(net.fixed_bits)
  report(
    "  least latency above 4 bits",
    milliseconds(lambda: exact.least_latency(problem, start), 9),
  )
  found = exact.distance(problem, cycles, start)
  report(
    "  cycles: 4 bits / greedy / least",
    " / ".join(f"{count / 1e6:.2f}M" for count in found),
    f"greedy is {found.greedy / found.least - 1:.1%} above",
  )


def formats(name):
  """The whole front of BitQ's formats of 8 bits for a small network."""
  settings = config.of(BitQ, digits_bitq.get_config(name))
  net = networks.build(settings.net).workload
  word = settings.words["BitQ8"]
  table = cost_table(word, net, settings.memory_bytes)
  random = np.random.default_rng(0)
  losses = {
    site: {
      f: scale * 4.0 ** (f.exponent_bits - 8) * f.block_size**0.5
      for f in word.grid
    }
    for site, scale in zip(
      net.sites, random.lognormal(size=len(net.sites)), strict=True
    )
  }
  choice = bitq.make(net, losses, table)
  front = bitq.front(choice, 0.01)
  report(
    f"{name}: front of formats within 1 %, {len(front.loss)} points",
    milliseconds(lambda: bitq.front(choice, 0.01), 3),
    "seconds",
  )


def main():
  argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
  net = mobilenet_v1()
  table = latency_table(net, XPULPNN_V1)
  rows(net, table.for_output_bits(8), "8-bit outputs")
  rows(net, table.cycles, "outputs at the bits of their sites")
  for name in digits_bitq.NETS:
    formats(name)


if __name__ == "__main__":
  main()
