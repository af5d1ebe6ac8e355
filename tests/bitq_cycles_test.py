"""Formats chosen by latency: the exact optimum on a cluster with MX units."""

import itertools

import numpy as np
import pytest
from hwsim_mx_test import E2M1, E4M3, WORKLOAD

from fbq.search import bitq
from hwsim import mx
from hwsim.bfp import movement_table
from hwsim.bfp.scoring import encode, score


def losses():
  random = np.random.default_rng(0)
  return {
    site: {E4M3: 0.0, E2M1: float(random.uniform(0, 0.02))}
    for site in WORKLOAD.sites
  }


@pytest.mark.parametrize("target", mx.TARGETS)
def test_optimum_by_cycles_is_that_of_brute_force(target):
  table = mx.cycle_table(WORKLOAD, (E4M3, E2M1), target)
  choice = bitq.make(WORKLOAD, losses(), table)
  alphas = [0.02, 0.1, 1.0]
  found = bitq.optima(choice, alphas)

  sites = WORKLOAD.sites
  every = np.array(list(itertools.product(range(2), repeat=len(sites))))
  cycles = score(table, encode(table, WORKLOAD, every))
  loss = np.zeros(len(every))
  for column, site in zip(every.T, sites, strict=True):
    loss += np.array(list(losses()[site].values()))[column]
  for alpha, objective, moved in zip(
    alphas, found.objective, found.movement_bits, strict=True
  ):
    best = np.argmin(loss + alpha * cycles / choice.largest)
    assert np.isclose(
      objective, loss[best] + alpha * cycles[best] / choice.largest
    )
    assert moved == cycles[best]


def test_latency_and_traffic_choose_differently():
  """MXDOTP has no unit for MXFP4, which moves the least."""
  formats, alphas = (E4M3, E2M1), [1.0]
  by_traffic, by_cycles = (
    bitq.optima(bitq.make(WORKLOAD, losses(), table), alphas).formats[0]
    for table in (
      movement_table(WORKLOAD, formats, 4 * mx.MXDOTP.memory_bytes),
      mx.cycle_table(WORKLOAD, formats, mx.MXDOTP),
    )
  )
  assert set(by_traffic.values()) == {E2M1}
  assert by_cycles["a.weight"] == by_cycles["input.out"] == E4M3
