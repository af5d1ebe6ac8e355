"""The pass with care: what it lowers, and where it cannot be had."""

import numpy as np
import pytest

from fbq import config as config_lib
from fbq import precision
from fbq.config import ConfigError
from fbq.experiments.free_bits.config import FreeBits
from fbq.lab import costs, hardware_pass
from fbq.lab.hardware_pass import Care
from fbq.search import quantile
from fbq.search.free_bits import free_bits
from hwsim.pulp import doubt, many
from tests.configs import tiny

NET = tiny.separable()


def given(**changes):
  config = tiny.get_config()
  config.update(changes)
  return config_lib.of(FreeBits, config)


@pytest.mark.parametrize("outputs", ["reader", 8])
def test_a_pass_with_care_lowers_what_most_draws_keep(outputs):
  settings = given(target="xpulpnn_v1", output_bits=outputs)
  own = costs.build(settings, NET.workload)
  care = Care(quantile=0.9, draws=10)
  careful = hardware_pass.of(settings, care, own, NET.workload)
  plain = hardware_pass.of(settings, Care(), own, NET.workload)
  constants, _ = doubt.draws(own.target, 10)
  drawn = many.latency_tables(NET.workload, constants).cycles
  start = precision.uniform(NET, 2)

  def reached(bits):
    way = "site" if outputs == "reader" else 8
    return sorted(many.network_cycles(drawn, NET.workload, bits, way))[8]

  raised, changes = careful(NET.workload, start)
  assert reached(raised) <= reached(start)
  view = drawn if outputs == "reader" else drawn[..., -1]
  assert raised == quantile.free_bits(NET.workload, view, start, 0.9)

  # Told in the cycles of the target itself
  change = sum(c.cycles_after - c.cycles_before for c in changes)
  totals = [own.total(NET.workload, bits) for bits in (start, raised)]
  assert change == np.diff(totals)[0]
  assert plain(NET.workload, start) == free_bits(
    NET.workload, own.cycles, start
  )


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(target="gap9_ne16"), "care.quantile is 0.9, expected 0 where"),
    (dict(target="xpulp_v2_iss"), "care.quantile: .*times kernels by 'iss'"),
    (
      dict(target_overrides={"code_reserved_bytes": 0, "l2_bytes": 124_000}),
      "care.quantile",
    ),
  ],
)
def test_where_nothing_can_be_drawn_is_said(changes, message):
  settings = given(**changes)
  own = costs.build(settings, NET.workload)
  with pytest.raises(ConfigError, match=message):
    hardware_pass.of(settings, Care(quantile=0.9), own, NET.workload)
