"""Which layers compute in integers: the Free Bits pass, and exact choices."""

import dataclasses
from collections.abc import Mapping

from fbq import precision
from fbq.deploy.mixed_layers import FLOAT, LADDER
from fbq.experiments.measure import table
from fbq.experiments.measure.table import Costs
from fbq.nets.graph import Net
from fbq.search import exact, problem
from fbq.search.free_bits import free_bits
from fbq.search.problem import Problem
from hwsim.latency_table import LatencyTable

Harm = Mapping[str, Mapping[int, float]]
INTEGERS, FLOATS = UNIFORM = "all int8", "all float"
PASS = "Free Bits of int8"
FASTEST, FOUR = "fastest", "fastest, with int4"
PRECISE = "most precise in int8's time"


def problem_of(
  net: Net, costs: Costs, latency: LatencyTable, harm: Harm
) -> Problem:
  """Times in nanoseconds, as "cycles", and harm of every choice.

  Tensors have 8 bits or are float, and so have weights; those of linear layers
  may have 4 bits too.
  """
  linear = [node.name for node in net.nodes if node.op == "linear"]
  found = problem.make(
    net.workload,
    {"cycles": latency.cycles},
    {site: {b: -x for b, x in by.items()} for site, by in harm.items()},
    bounds=[
      (r".*\.weight", 8, FLOAT),
      *((rf"{name}\.weight", 4, FLOAT) for name in linear),
    ],
    ladder=LADDER,
  )
  cycles = (*found.costs["cycles"], *table.unlike_inputs(net, costs))
  return dataclasses.replace(found, costs={**found.costs, "cycles": cycles})


def chosen(
  net: Net, latency: LatencyTable, choice: Problem
) -> dict[str, dict[str, int]]:
  """{name: assignment}: the uniform ones, then what was chosen."""
  eight = precision.uniform(net, 8)
  raised, _ = free_bits(net.workload, latency.cycles, eight, LADDER)
  fastest, _ = exact.least_latency(choice, eight)
  least = {
    site: min(choice.allowed[group]) for site, group in choice.group_of.items()
  }
  four, _ = exact.least_latency(choice, least)
  budget = int(problem.evaluate(choice, eight).costs["cycles"][0])
  precise = exact.best_value(choice, [budget]).precision(0)
  return {
    INTEGERS: eight,
    FLOATS: precision.uniform(net, FLOAT),
    PASS: raised,
    FASTEST: fastest,
    FOUR: four,
    PRECISE: precise,
  }
