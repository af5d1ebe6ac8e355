"""The strategies of a shootout: every way fbq has to choose precisions.

Searchers train gates and end in one assignment per setting; value strategies
train nothing, say what each precision of each tensor is worth, and leave the
choice under a budget of cycles to `fbq.search.exact`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from fbq.model import Model
from fbq.nets.graph import Net
from fbq.quantizers.site_ranges import squared_errors
from fbq.schemes.bayesian_bits import BayesianBits
from fbq.schemes.fractional import Fractional
from fbq.schemes.free_bits import FreeBits
from fbq.schemes.groups import gate_groups
from fbq.schemes.mixture import Mixture
from fbq.schemes.perturbed import Perturbed
from fbq.schemes.scheme import Search
from fbq.search import hessian, value
from fbq.search.judge import Judge
from fbq.search.sensitivity import sensitivities
from fbq.train.regularizers import (
  Regularizer,
  bayesian_bits_regularizer,
  bops_regularizer,
  expected_cost,
  within_budget,
)

LEARNED_RANGES = ("params", "gates", "ranges")


class Searcher(NamedTuple):
  """A search by training.

  Attributes:
    text: what it does, for the report.
    scheme: with gates.
    regularizer: what it pays for precision.
    trained: collections.
    has_budget: whether its settings are budgets, shares of the cycles of
      uniform 8 bits, rather than strengths.
  """

  text: str
  scheme: Search
  regularizer: Regularizer
  trained: tuple[str, ...]
  has_budget: bool = False


def searchers(net: Net, cycles: np.ndarray) -> dict[str, Callable]:
  """By name, what makes the `Searcher` of each strategy that trains.

  Args:
    net: that is searched.
    cycles: int64 [L, A, W].
  """
  with_weights = ("params", "gates")
  free, locked = gate_groups(net, False), gate_groups(net, True)

  def by_latency(scheme):
    return expected_cost(net, scheme, cycles)

  def free_bits(text, groups):
    penalty = bops_regularizer(net.workload, groups)
    return lambda: Searcher(text, FreeBits(groups), penalty, with_weights)

  def bayesian_bits(text, trained, **options):
    scheme = BayesianBits(free, **options)
    return lambda: Searcher(
      text, scheme, bayesian_bits_regularizer(net, scheme), trained
    )

  def for_latency(text, scheme, trained=LEARNED_RANGES):
    return lambda: Searcher(text, scheme, by_latency(scheme), trained)

  def for_budget(text, scheme, trained=LEARNED_RANGES):
    return lambda: Searcher(
      text, scheme, within_budget(by_latency(scheme)), trained, True
    )

  return {
    "free-bits": free_bits(
      "Free Bits: gates of its own for every tensor, penalty on bit operations "
      "(arXiv 2307.02894, vanilla)",
      free,
    ),
    "free-bits-locked": free_bits(
      "Free Bits with the gates of a layer's input and weights locked together",
      locked,
    ),
    "bayesian-bits": bayesian_bits(
      "the original Bayesian Bits: residuals, learned ranges, additive "
      "bit-operations prior (arXiv 2005.07093)",
      LEARNED_RANGES,
    ),
    "bb-deterministic": bayesian_bits(
      "the original Bayesian Bits with deterministic gates",
      LEARNED_RANGES,
      deterministic=True,
    ),
    "bb-post-training": bayesian_bits(
      "the original Bayesian Bits, weights left alone: gates and ranges learn",
      ("gates", "ranges"),
    ),
    "latency": for_latency(
      "Free Bits' gates, penalty on the expected cycles of the target",
      FreeBits(free),
      with_weights,
    ),
    "latency-budget": for_budget(
      "Free Bits' gates, penalty only on expected cycles above a budget; then "
      "the likeliest assignment within it",
      FreeBits(free),
      with_weights,
    ),
    "softmax": for_latency(
      "softmax mixture of precisions as in EdMIPS and PLiNIO, expected cycles",
      Mixture(free),
    ),
    "gumbel": for_latency(
      "the mixture with one precision drawn per tensor and step (hard Gumbel)",
      Mixture(free, "hard"),
    ),
    "fractional": for_latency(
      "fractional bits: one real index on the ladder 2, 4, 8; expected cycles",
      Fractional(free),
    ),
    "fractional-budget": for_budget(
      "fractional bits, penalty only on expected cycles above a budget; then "
      "the likeliest assignment within it",
      Fractional(free),
    ),
  }


class Evidence(NamedTuple):
  """What value strategies look at.

  Attributes:
    judge: the float network and its calibration set.
    tensors: activation site -> values before its quantizer.
    gates: variables of a finished search, by name of its strategy.
    key: of random probes.
  """

  judge: Judge
  tensors: Mapping[str, np.ndarray]
  gates: Mapping[str, Mapping]
  key: jax.Array


Values = dict[str, dict[int, float]]
PROBES = 32
LOSS, KL, HESSIAN, GATES = (
  "loss-exact",
  "kl-exact",
  "hessian-exact",
  "gates-exact",
)
VALUE_TEXTS = {
  LOSS: "no search: exact choice by the change of the loss that each precision "
  "of each tensor makes alone",
  KL: "no search: exact choice by the KL divergence of the outputs",
  HESSIAN: "no search: exact choice by Hessian trace x squared error "
  "(HAWQ-V2, V3)",
  GATES: "the gates of one free-bits search as log-probabilities, exact choice",
}


def values(net: Net, strategy: str, evidence: Evidence) -> Values:
  """{site: {bits: higher is better}} of a value strategy."""
  judge = evidence.judge
  if strategy in (LOSS, KL):
    metric = "loss" if strategy == LOSS else "kl"
    return value.from_harm(net, sensitivities(judge).of(metric))
  if strategy == GATES:
    logits = np.asarray(evidence.gates["free-bits"]["gates"]["logits"])
    return value.from_gates(net, gate_groups(net, False), logits)
  assert strategy == HESSIAN, strategy
  traces = hessian.network_traces(
    net,
    jax.jit(
      lambda v, x, added: Model(net, Perturbed()).apply(v, x, False, added)
    ),
    judge.variables,
    judge.batches(),
    evidence.key,
    PROBES,
  )
  errors = squared_errors(
    net, judge.variables["params"], evidence.tensors, judge.ranges
  )
  return value.from_harm(net, hessian.omega(traces, errors))
