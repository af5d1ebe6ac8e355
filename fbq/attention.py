"""The two products of attention, of tokens as images one pixel wide."""

import jax
import jax.numpy as jnp

Array = jax.Array


def product(op: str, first: Array, second: Array, heads: int) -> Array:
  """What the node "scores" or "attend" makes of its inputs."""
  return (
    scores(first, second, heads) if op == "scores" else attend(first, second)
  )


def scores(queries: Array, keys: Array, heads: int) -> Array:
  """[B, N, heads, M] of [B, N, 1, D] and [B, M, 1, D]: q k / sqrt(D / heads).

  Vaswani et al., arXiv 1706.03762, eq. 1, before the softmax.
  """
  queries, keys = (_split(x, heads) for x in (queries, keys))
  products = jnp.einsum("bnhd,bmhd->bnhm", queries, keys)
  return products * queries.shape[-1] ** -0.5


def attend(weights: Array, values: Array) -> Array:
  """[B, N, 1, D] of weights [B, N, heads, M] and values [B, M, 1, D]."""
  heads = weights.shape[2]
  summed = jnp.einsum("bnhm,bmhd->bnhd", weights, _split(values, heads))
  return summed.reshape(*summed.shape[:2], 1, -1)


def _split(x, heads):
  """[B, N, 1, D] as [B, N, heads, D / heads]."""
  return x.reshape(*x.shape[:2], heads, -1)
