"""Small tiling problems for hypothesis, any of which has a solution."""

from fractions import Fraction

from hwsim_bfp_numpy import compulsory
from hypothesis import strategies as st

from hwsim.bfp.movement import Nest


@st.composite
def problems(draw):
  """A small nest, prices per element and a memory that holds some tile."""
  sizes = [draw(st.sampled_from((1, 1, 3)))]
  sizes += [draw(st.integers(1, top)) for top in (2, 5, 5, 6, 6, 4, 3)]
  nest = Nest(*sizes, stride=draw(st.integers(1, 3)))
  price = st.builds(
    Fraction, st.integers(12, 200), st.sampled_from((1, 3, 8, 48))
  )
  given_prices = [draw(price) for _ in range(3)]
  whole = sum(
    int(count) * p
    for count, p in zip(compulsory(nest), given_prices, strict=True)
  )
  least = sum(given_prices)
  part = draw(st.floats(0, 1.1)) ** 2
  return nest, given_prices, int(least + 1 + Fraction(part) * (whole - least))
