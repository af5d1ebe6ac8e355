"""Strategies: every way fbq has to choose precisions, and the door for others.

A `Search` trains gates and ends in one assignment. A `Valuation` trains
nothing: it says what each precision of each tensor is worth, and leaves the
choice under a budget of cycles to `fbq.search.exact`. An `Order` lowers tensors
in an order until the budget is met, and tells what any strategy has to beat. It
looks at nothing that was learned, but for the share of 2-bit tensors, which it
takes from a search.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from fbq.model import Model
from fbq.nets.graph import Net
from fbq.quantizers.site_ranges import squared_errors
from fbq.schemes import scheme as schemes
from fbq.schemes.bayesian_bits import BayesianBits
from fbq.schemes.fractional import Fractional
from fbq.schemes.free_bits import FreeBits
from fbq.schemes.groups import gate_groups
from fbq.schemes.mixture import Mixture
from fbq.schemes.perturbed import Perturbed
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
from hwsim.latency_table import BITS, PULP_LADDER, Ladder

Values = dict[str, dict[int, float]]  # site -> bits -> higher is better
# Of Hutchinson's estimate: until the standard error of the median tensor is a
# tenth of its trace, or the most are made.
PROBES, MOST_PROBES, PROBE_ERROR = 32, 128, 0.1
_ALL = ("params", "gates", "ranges")


class Search(NamedTuple):
  """A strategy that trains gates.

  Attributes:
    text: what it does, for reports.
    scheme: net -> scheme with gates.
    penalty: (net, scheme, cycles int64 [L, A, W] or [L, A, W, O]) -> what it
      pays for precision.
    trained: collections that are trained.
    has_budget: whether it takes a budget, a share of the cycles of uniform 8
      bits, rather than a strength of its penalty.
  """

  text: str
  scheme: Callable[[Net], schemes.Search]
  penalty: Callable[[Net, Any, np.ndarray], Regularizer]
  trained: tuple[str, ...] = _ALL
  has_budget: bool = False


class Evidence(NamedTuple):
  """What a valuation looks at.

  Attributes:
    judge: the float network and its calibration set.
    tensors: activation site -> values before its quantizer.
    gates: variables after the middle one of a strategy's searches, by name.
    key: random key of probes.
    say: takes a sentence for the reader.
    ladder: precisions of the hardware.
  """

  judge: Judge
  tensors: Mapping[str, np.ndarray]
  gates: Mapping[str, Mapping]
  key: jax.Array
  say: Callable[[str], None]
  ladder: Ladder = PULP_LADDER


class Valuation(NamedTuple):
  """A strategy that trains nothing.

  Attributes:
    text: what it does, for reports.
    values: (net, evidence) -> what each precision of each tensor is worth.
    needs: name of the search whose gates it reads; "" for none.
  """

  text: str
  values: Callable[[Net, Evidence], Values]
  needs: str = ""


class Order(NamedTuple):
  """A control: tensors are lowered in an order that nothing learned decides.

  Attributes:
    text: what it does, for reports.
    order: (net, key) -> the free sites, what is lowered first.
    like: name of the search whose assignments tell how many of the lowered
      tensors have 2 bits.
  """

  text: str
  order: Callable[[Net, jax.Array], list[str]]
  like: str = "free-bits"


Strategy = Search | Valuation | Order

# ---- Searches by gates


def _bops(net, scheme, cycles):
  del cycles
  return bops_regularizer(net.workload, scheme.groups)


def _tensors(net, scheme, cycles):
  del cycles
  return bops_regularizer(net.workload, scheme.groups, "tensors")


def _prior(net, scheme, cycles):
  del cycles
  return bayesian_bits_regularizer(net, scheme)


def _latency(net, scheme, cycles):
  return expected_cost(net, scheme, cycles)


def _budget(net, scheme, cycles):
  return within_budget(expected_cost(net, scheme, cycles))


def _free(make, **options):
  """net -> scheme with gates of its own for every tensor."""
  return lambda net: make(gate_groups(net, False), **options)


FREE_BITS = Search(
  "Free Bits: gates of its own for every tensor, penalty on bit operations "
  "(arXiv 2307.02894, vanilla)",
  _free(FreeBits),
  _bops,
  ("params", "gates"),
)
FREE_BITS_TENSORS = Search(
  "Free Bits' gates, every tensor having the same penalty",
  _free(FreeBits),
  _tensors,
  ("params", "gates"),
)
FREE_BITS_LOCKED = Search(
  "Free Bits with the gates of a layer's input and weights locked together",
  lambda net: FreeBits(gate_groups(net, True)),
  _bops,
  ("params", "gates"),
)
BAYESIAN_BITS = Search(
  "the original Bayesian Bits: residuals, learned ranges, additive "
  "bit-operations prior (arXiv 2005.07093)",
  _free(BayesianBits),
  _prior,
)
BB_DETERMINISTIC = Search(
  "the original Bayesian Bits with deterministic gates",
  _free(BayesianBits, deterministic=True),
  _prior,
)
BB_POST_TRAINING = Search(
  "the original Bayesian Bits, weights left alone: gates and ranges learn",
  _free(BayesianBits),
  _prior,
  ("gates", "ranges"),
)
LATENCY = Search(
  "Free Bits' gates, penalty on the expected cycles of the target",
  _free(FreeBits),
  _latency,
  ("params", "gates"),
)
LATENCY_BUDGET = Search(
  "Free Bits' gates, penalty only on expected cycles above a budget; then "
  "the likeliest assignment within it",
  _free(FreeBits),
  _budget,
  ("params", "gates"),
  has_budget=True,
)
SOFTMAX = Search(
  "softmax mixture of precisions as in EdMIPS and PLiNIO, expected cycles",
  _free(Mixture),
  _latency,
)
GUMBEL = Search(
  "the mixture with one precision drawn per tensor and step (hard Gumbel)",
  lambda net: Mixture(gate_groups(net, False), "hard"),
  _latency,
)
FRACTIONAL = Search(
  "fractional bits: one real index on the ladder 2, 4, 8; expected cycles",
  _free(Fractional),
  _latency,
)
FRACTIONAL_BUDGET = Search(
  "fractional bits, penalty only on expected cycles above a budget; then "
  "the likeliest assignment within it",
  _free(Fractional),
  _budget,
  has_budget=True,
)

# ---- Choices without training


def _harm(metric):
  return lambda net, evidence: value.from_harm(
    net, sensitivities(evidence.judge, ladder=evidence.ladder).of(metric)
  )


def _from_gates(net, evidence):
  logits = np.asarray(evidence.gates["free-bits"]["gates"]["logits"])
  return value.from_gates(net, gate_groups(net, False), logits)


def _from_traces(net, evidence):
  judge = evidence.judge
  traces = hessian.network_traces(
    net,
    jax.jit(
      lambda v, x, added: Model(net, Perturbed()).apply(v, x, False, added)
    ),
    judge.variables,
    judge.batches(),
    evidence.key,
    PROBES,
    MOST_PROBES,
    PROBE_ERROR,
  )
  evidence.say(f"hessian-exact: {traces}.")
  errors = squared_errors(
    net,
    judge.variables["params"],
    evidence.tensors,
    judge.ranges,
    sorted({*BITS, *itertools.chain(*evidence.ladder)}),
  )
  return value.from_harm(net, hessian.omega(traces, errors))


LOSS_EXACT = Valuation(
  "no search: exact choice by the change of the loss that each precision "
  "of each tensor makes alone",
  _harm("loss"),
)
KL_EXACT = Valuation(
  "no search: exact choice by the KL divergence of the outputs", _harm("kl")
)
HESSIAN_EXACT = Valuation(
  "no search: exact choice by Hessian trace x squared error (HAWQ-V2, V3)",
  _from_traces,
)
GATES_EXACT = Valuation(
  "the gates of one free-bits search as log-probabilities, exact choice",
  _from_gates,
  needs="free-bits",
)

# ---- Controls


def macs_of(net: Net) -> dict[str, int]:
  """{site: multiply-accumulates of all layers that read it or hold it}."""
  found = dict.fromkeys(net.workload.sites, 0)
  for layer, reads in zip(
    net.workload.layers, net.workload.input_sites, strict=True
  ):
    if layer.has_weights:
      for site in (net.workload.weight_site(layer), *reads):
        found[site] += layer.macs
  return found


def _most_macs_first(net, key):
  del key
  macs = macs_of(net)
  return sorted(net.workload.free_sites, key=lambda site: -macs[site])


def _at_random(net, key):
  free = net.workload.free_sites
  return [free[i] for i in np.asarray(jax.random.permutation(key, len(free)))]


BY_MACS = Order(
  "control: the tensors of most multiply-accumulates are lowered first",
  _most_macs_first,
)
RANDOM = Order("control: tensors are lowered in random order", _at_random)
