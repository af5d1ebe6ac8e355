"""How blocks see the operands of products of activations.

A scale leaves a sum only if all that is summed shares it. Queries and keys are
summed over the channels of a head, so no block reaches from one head into the
next; values are summed over tokens, so their blocks run along those.
"""

from typing import Any, NamedTuple

Shape = tuple[int, int, int]
HEADS, TOKENS = "heads", "tokens"


class View(NamedTuple):
  """Axes of a tensor [B, tokens, 1, channels] as blocks see them.

  Attributes:
    kind: `HEADS`: [B, tokens, heads, channels of one]; `TOKENS`: [B, channels,
      1, tokens].
    heads: number of heads; 1 of `TOKENS`.
  """

  kind: str
  heads: int = 1

  def shape(self, shape: Shape) -> Shape:
    """(height, width, channels) of what was `shape`."""
    tokens, _, channels = shape
    if self.kind == TOKENS:
      return channels, 1, tokens
    return tokens, self.heads, channels // self.heads

  def of(self, x: Any) -> Any:
    """A tensor, of numpy or jax, as blocks see it."""
    if self.kind == TOKENS:
      return x.swapaxes(1, 3)
    return x.reshape(*x.shape[:2], self.heads, -1)

  def undone(self, x: Any) -> Any:
    """What `of` was given."""
    if self.kind == TOKENS:
      return x.swapaxes(1, 3)
    return x.reshape(*x.shape[:2], 1, -1)
