"""The published rules of quantization-aware training, behind one signature.

Every rule is a `Rule`: what it learns of a tensor's range, where that starts,
and how it is updated. All quantize by `uniform`, and all keep *ranges*, the
numbers that deployment reads, whatever the paper learns:

            moves                    gradient                 optimizer
  min_max   nothing: the smallest    -                        -
            and largest numbers are
            taken as they come
  pact      range                    of what is clipped       SGD with decay
  lsq       step                     straight-through, times  SGD
                                     1 / sqrt(N Q_P)
  tqt       log2 of the range        straight-through, over   SGD
                                     its own deviation
  log_lsq   logarithm of the range   straight-through         Adam

`min_max` is that of the whitepaper (arXiv 1806.08342, section 3.1.2), `pact`
arXiv 1805.06085, `lsq` arXiv 1902.08153, `tqt` arXiv 1903.08066; `log_lsq`, the
gradient of LSQ under an optimizer that needs no scales of gradients, is fbq's.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fbq.quantizers import calibration, learned_ranges, range_rules, uniform

Array = jax.Array
PACT_DECAY = 1e-3  # of quantlib's recipes
PACT_PERCENT = 99.9
_MOMENTUM = 0.9


def straight_through(
  x: Array, range_: Array, bits: Array, signed: bool, count: int
) -> Array:
  """`uniform.quantize` whose range has the straight-through gradient.

  Args:
    x, range_, bits, signed: see `uniform.quantize`.
    count: numbers that share a range: weights, or an image's activations. N of
      LSQ.
  """
  del count
  return uniform.quantize(x, range_, bits, signed)


def _pact_quantize(x, range_, bits, signed, count):
  del count
  return uniform.quantize(x, range_, bits, signed, "pact")


def _lsq_quantize(x, range_, bits, signed, count):
  """With the gradient of the range under which it moves as LSQ's step does.

  LSQ learns the step, the range over a number n of steps that depends on the
  bits. SGD, momentum included, is linear, so a step of it on the range with a
  gradient n^2 times as large is n times that on the step: the same.
  """
  _, highest, steps = uniform.grid(bits, signed)
  scale = steps**2 / jnp.sqrt(count * jnp.maximum(highest, 1.0))
  range_ = learned_ranges.scale_gradient(range_, scale)
  return uniform.quantize(x, range_, bits, signed)


class Rule(NamedTuple):
  """What ranges do in training; your own is one more of these.

  Attributes:
    name: short, for names of runs and columns of reports.
    text: what the rule does, for reports.
    start: (x [N, ...], bits, signed) -> the first range [...] of every column.
    optimizer: (rate or its schedule) -> transformation of the ranges, which
      leaves them positive whatever their gradient. None: no range is learned,
      and those of `min_max` are taken.
    quantize: like `straight_through`. Its values are those of
      `uniform.quantize`, which deployment computes; its gradients are free.
    learning_rate: rate of the ranges where a config names none.
  """

  name: str
  text: str
  start: Callable[[np.ndarray, int, bool], np.ndarray]
  optimizer: (
    Callable[[optax.ScalarOrSchedule], optax.GradientTransformation] | None
  )
  quantize: Callable[[Array, Array, Array, bool, int], Array] = straight_through
  learning_rate: float = 1e-2


def _largest(x, bits, signed):
  del bits
  found = range_rules.min_max(x)
  return np.maximum(-found.low, found.high) if signed else found.high


def _lsq_start(x, bits, signed):
  steps = 2 ** (bits - 1) if signed else 2**bits - 1
  return learned_ranges.lsq_start(x, bits, signed) * np.float32(steps)


def _tqt_start(x, bits, signed):
  del bits
  x = x if signed else np.maximum(x, 0.0)
  return np.exp2(learned_ranges.tqt_start(x))


def _pact_start(x, bits, signed):
  """The range of least squared error if signed, else a percentile.

  PACT is of activations after a ReLU. SAWB, quantlib's start of weights, fits
  bell-shaped numbers, not the nine weights of a depthwise channel: from it
  MobileNetV1 read 16 % of the digits at 8 bits before training.
  """
  if signed:
    return calibration.best_range(x, bits, signed)
  return range_rules.percentile(x, PACT_PERCENT, False).high


def _pact_optimizer(rate):
  return learned_ranges.keep_positive(
    optax.chain(
      optax.add_decayed_weights(PACT_DECAY), optax.sgd(rate, _MOMENTUM)
    )
  )


def _lsq_optimizer(rate):
  return learned_ranges.keep_positive(optax.sgd(rate, _MOMENTUM))


def _tqt_optimizer(rate):
  # From the natural logarithm, whose gradient `in_log_space` gives, to base 2
  # and back.
  return learned_ranges.in_log_space(
    optax.chain(
      optax.scale(float(np.log(2.0))),
      learned_ranges.tqt_normalized(),
      optax.sgd(rate, _MOMENTUM),
      optax.scale(float(np.log(2.0))),
    )
  )


def _log_lsq_optimizer(rate):
  return learned_ranges.in_log_space(optax.adam(rate))


LOG_LSQ = Rule(
  "log_lsq",
  "ranges of least squared error, then Adam on their logarithm by the "
  "straight-through gradient",
  calibration.best_range,
  _log_lsq_optimizer,
)
LSQ = Rule(
  "lsq",
  "learned step size: 2 E|x| / sqrt(Q_P), then SGD by the straight-through "
  "gradient over sqrt(N Q_P)",
  _lsq_start,
  _lsq_optimizer,
  _lsq_quantize,
)
TQT = Rule(
  "tqt",
  "trained quantization thresholds: the largest magnitude, then SGD on log2 by "
  "a gradient normalized by its own deviation",
  _tqt_start,
  _tqt_optimizer,
)
PACT = Rule(
  "pact",
  "parameterized clipping: ranges of least squared error for weights and a "
  "percentile of activations, then SGD by the gradient of what is clipped, "
  "with decay",
  _pact_start,
  _pact_optimizer,
  _pact_quantize,
)
MIN_MAX = Rule(
  "min_max",
  "the whitepaper's: the smallest and largest weights of the moment, moving "
  "averages of those of activations; nothing is learned",
  _largest,
  None,
)
