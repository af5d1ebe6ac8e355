"""Quantizers give one result: eager, compiled, and mapped over bits or ranges.

Each is mapped over three settings, and compared with one eager call for each.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import paper_rules
from absl.testing import parameterized
from compiling import AS_SHIPPED

from fbq.quantizers import (
  affine,
  bayesian_bits,
  bfp,
  minifloat,
  mixtures,
  qat_rules,
  uniform,
)

RANDOM = np.random.default_rng(0)
X, G = RANDOM.normal(size=(2, 6, 8)).astype(np.float32)
BITS = jnp.int32([2, 4, 8])
RANGE = jnp.float32(1.3)
SHARES = jnp.float32([0.0, 0.3, 1.0])

# Name -> (function of x, its range and one setting; three settings).
QUANTIZERS = {
  "uniform": (lambda x, r, b: uniform.quantize(x, r, b, True), BITS),
  "unsigned": (lambda x, r, b: uniform.quantize(x, r, b, False), BITS),
  "ranges": (
    lambda x, r, share: uniform.quantize(x, share * r, jnp.int32(4), True),
    jnp.float32([0.2, 1.0, 9.0]),
  ),
  "affine": (
    lambda x, r, b: affine.quantize(x, affine.grid(-r, 2 * r, b, "affine")),
    BITS,
  ),
  "symmetric": (
    lambda x, r, b: affine.quantize(x, affine.grid(-r, r, b, "symmetric")),
    BITS,
  ),
  "restricted": (
    lambda x, r, b: affine.quantize(x, affine.grid(-r, r, b, "restricted")),
    BITS,
  ),
  "nested": (
    lambda x, r, z: bayesian_bits.nested_quantize(x, r, (z, 1.0 - z), True),
    SHARES,
  ),
  "residual": (
    lambda x, r, z: bayesian_bits.residual_quantize(x, r, (z, z), True),
    SHARES,
  ),
  "mixed": (
    lambda x, r, p: mixtures.mixed_quantize(x, r, (p, 1.0 - p), True),
    SHARES,
  ),
  "fractional": (
    lambda x, r, i: mixtures.fractional_quantize(x, r, i, True),
    2.0 * SHARES,
  ),
  "bfp": (
    lambda x, r, b: bfp.quantize(x, bfp.Format(b, jnp.int32(3), 4), top=2),
    BITS,
  ),
  "bfp blocks": (
    lambda x, r, size: bfp.quantize(
      x, bfp.Format(5, 3, size), top=2, sizes=(1, 3, 8)
    ),
    jnp.int32([1, 3, 8]),
  ),
  "minifloat": (
    lambda x, r, b: minifloat.quantize(
      x, minifloat.Minifloat(jnp.int32(2), b), (2, 4), "nearest"
    ),
    BITS,
  ),
  "lsq": (lambda x, r, b: qat_rules.LSQ.quantize(x, r, b, True, 48), BITS),
  "pact": (lambda x, r, b: qat_rules.PACT.quantize(x, r, b, False, 8), BITS),
  "lsq steps": (
    lambda x, r, b: paper_rules.lsq_quantize(x, r / 8, b, True, 48),
    BITS,
  ),
}
# Sums of products, which compiled code may round once instead of twice.
SUMS = ("nested", "mixed", "fractional")


class VariantsTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.named_parameters((name, name) for name in QUANTIZERS)
  def test_results_are_those_of_eager_code(self, name):
    quantize, settings = QUANTIZERS[name]

    def both(x, setting):
      y, vjp = jax.vjp(lambda v, r: quantize(v, r, setting), x, RANGE)
      return y, *vjp(jnp.asarray(G))

    run = self.variant(jax.vmap(both, (None, 0)))
    if hasattr(run, "lower"):
      run = run.lower(X, settings).compile(AS_SHIPPED)
    found = run(X, settings)
    with jax.disable_jit():
      one_by_one = [both(jnp.asarray(X), setting) for setting in settings]
    expected = jax.tree.map(lambda *parts: jnp.stack(parts), *one_by_one)
    tolerance = dict(rtol=1e-6, atol=1e-6) if name in SUMS else dict(rtol=0)
    chex.assert_trees_all_close(found[:2], expected[:2], **tolerance)
    # The range's gradient is a sum over the tensor, in another order.
    chex.assert_trees_all_close(found[2], expected[2], rtol=1e-5, atol=1e-6)
