"""The best of many candidates, a block of them at a time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

BLOCK = 512  # candidates looked at in one step
_WORST = -1.0


def first_best(
  count: jax.Array, score: Callable[[jax.Array], jax.Array]
) -> tuple[jax.Array, jax.Array]:
  """Number of the first best candidate, and whether there is one at all.

  As many blocks are looked at as the candidates need, so that no layer has too
  many and small ones cost little: the loop ends when the largest of a mapped
  batch does. Number and score are packed into one float64, since a maximum
  alone is vectorized and an argmax is not.

  Args:
    count: how many candidates there are.
    score: the scores of candidates [BLOCK], given their numbers: whole numbers
      below 2^42, or negative for what does not fit.
  """
  lanes = jnp.arange(BLOCK, dtype=jnp.float64)

  def step(state):
    start, best, found = state
    number = start + lanes
    scores = jnp.where(number < count, score(number), _WORST)
    key = jnp.max(scores * BLOCK + (BLOCK - 1 - lanes))

    # Of equal scores the first stays, as in the solver
    value = jnp.floor(key / BLOCK)
    number = start + BLOCK - 1 - (key - value * BLOCK)
    better = value > best
    return (
      start + BLOCK,
      jnp.where(better, value, best),
      jnp.where(better, number, found),
    )

  # Made of the count, so that a map over it maps the whole state: else jax
  # traces the step once more to find out that it does
  zero = 0 * count
  _, best, found = jax.lax.while_loop(
    lambda state: state[0] < count, step, (zero, zero + _WORST, zero)
  )
  return found, best >= 0
