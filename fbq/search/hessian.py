"""Second-order sensitivities: Hessian traces by Hutchinson, as in HAWQ-V2.

A random v of independent signs has E[v' H v] = tr(H) (Hutchinson 1990), and
with signs for all tensors at once, the part of v of one tensor times its part
of H v has the trace of that tensor's block as its mean. So one product with the
Hessian serves all tensors; entries between tensors add variance, which the
standard errors contain.

H v is `jax.jvp` of `jax.grad`: forward over reverse. `fbq.ops.depthwise` has a
reverse rule of its own and no forward one. It needs none: the reverse pass is
derived first, and what is pushed forward are the plain operations of its rules.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from fbq.nets.graph import Net

Array = jax.Array
Tensors = Mapping[str, Array]


class Traces(NamedTuple):
  """Traces of the diagonal blocks of a Hessian, one for each tensor.

  Attributes:
    trace: {tensor: mean over probes}.
    standard_error: {tensor: standard deviation over probes / sqrt(probes)}; the
      choice of images is not in it.
    size: {tensor: elements}; for an activation those of one image.
    probes: probes that the means are over.
  """

  trace: dict[str, float]
  standard_error: dict[str, float]
  size: dict[str, int]
  probes: int

  def __str__(self) -> str:
    """How sure the traces are."""
    below = sum(trace < 0 for trace in self.trace.values())
    text = (
      f"{self.probes} probes; the standard error is {self.error:.1%} of the "
      "trace for the median tensor"
    )
    if below:
      text += f"; {below} of {len(self.trace)} negative, which count as zero"
    return text

  @property
  def error(self) -> float:
    """Standard error as a share of the trace, the median over tensors."""
    shares = [
      error / max(abs(self.trace[name]), 1e-30)
      for name, error in self.standard_error.items()
    ]
    return float(np.median(shares))


def _quadratic_forms(loss, tensors, key, arguments):
  """{tensor: v' H v} of its own block and of those beside it."""
  # One draw for all, of a bit each: one per tensor takes seconds to compile,
  # and a word per sign longer than the gradient.
  flat, restore = ravel_pytree(dict(tensors))
  words = jax.random.bits(key, (flat.size // 8 + 1,), jnp.uint8)
  bits = jnp.unpackbits(words)[: flat.size]
  signs = restore(jnp.where(bits, 1.0, -1.0).astype(flat.dtype))
  gradient = lambda t: jax.grad(loss)(t, *arguments)
  product = jax.jvp(gradient, (dict(tensors),), (signs,))[1]
  return {name: jnp.vdot(signs[name], product[name]) for name in tensors}


def traces(
  loss: Callable[..., Array],
  tensors: Tensors,
  batches: Iterable[tuple],
  key: Array,
  probes: int,
  most: int = 0,
  error: float = 0.0,
) -> Traces:
  """Traces of the Hessian of the sum over batches of `loss`.

  Each probe draws new signs for every batch, which averages more than one draw
  for all would.

  Args:
    loss: (tensors, *batch) -> []; compiled once.
    tensors: {name: array}, where the Hessian is taken; blocks are by name.
    batches: arguments of `loss`, of equal shapes.
    key: key that the signs are drawn from.
    probes: number of probes, at least 2; one costs a product with the Hessian
      (about two gradients) over all batches.
    most: probes are doubled up to that, while `Traces.error` is above `error`.
    error: standard error that is small enough, as a share of the trace.
  """
  # The error is a standard deviation over probes.
  if probes < 2:
    raise ValueError(f"{probes} probes, expected at least 2 for an error")

  # Batches are arguments, not constants, so one program serves all.
  batches = list(batches)
  step = jax.jit(functools.partial(_quadratic_forms, loss))
  sums: dict[str, list[float]] = {name: [] for name in tensors}
  while True:
    for probe in range(len(next(iter(sums.values()))), probes):
      probe_key = jax.random.fold_in(key, probe)
      total = dict.fromkeys(tensors, 0.0)
      for i, batch in enumerate(batches):
        forms = step(tensors, jax.random.fold_in(probe_key, i), batch)
        for name, value in jax.device_get(forms).items():
          total[name] += float(value)
      for name, value in total.items():
        sums[name].append(value)

    # Errors come from the spread over probes; each holds a sum over batches.
    found = Traces(
      {name: float(np.mean(x)) for name, x in sums.items()},
      {
        name: float(np.std(x, ddof=1) / probes**0.5) for name, x in sums.items()
      },
      {name: int(np.size(x)) for name, x in tensors.items()},
      probes,
    )
    if probes >= most or found.error <= error:
      return found
    probes = min(2 * probes, most)


def network_traces(
  net: Net,
  forward: Callable[[Any, Array, Tensors], Array],
  variables: Mapping[str, Any],
  batches: Iterable[tuple[Array, Array, Array]],
  key: Array,
  probes: int = 32,
  most: int = 0,
  error: float = 0.0,
) -> Traces:
  """Hessian traces of the mean cross-entropy in every free site.

  In weights as in HAWQ-V2 (arXiv 1911.03852), in activations the mean
  over images of the trace for one image. Batch norm keeps
  its running statistics.

  Args:
    net: the network.
    forward: (variables, images, {site: what is added to it}) -> logits [B,
      classes]: a model of the scheme `Perturbed`.
    variables: params and batch_stats.
    batches: images [B, ...], labels [B], weights [B]; see `Judge.batches`.
    key: key that the signs are drawn from.
    probes, most, error: see `traces`.
  """
  # The mean over all images, though batches may be filled up.
  batches = list(batches)
  count = float(sum(np.sum(weights) for _, _, weights in batches))
  batch = len(batches[0][0])

  def loss(added, variables, images, labels, weights):
    log_p = jax.nn.log_softmax(forward(variables, images, added))
    picked = jnp.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0]
    return -jnp.sum(weights * picked) / count

  # A change of zero for every free site, of its tensor's shape: the Hessian is
  # taken there.
  added, is_activation = {}, set()
  for site in net.workload.free_sites:
    name, kind = site.rsplit(".", 1)
    if kind == "weight":
      shape = np.shape(variables["params"][f"{name}_kernel"])
    else:
      shape = net.shapes[name]
      shape = shape[2:] if net.node[name].op == "linear" else shape
      shape = (batch, *shape)
      is_activation.add(site)
    added[site] = jnp.zeros(shape, jnp.float32)

  # Tensors of activations hold a batch; sizes are told for one image.
  found = traces(
    loss,
    added,
    [(variables, *parts) for parts in batches],
    key,
    probes,
    most,
    error,
  )
  size = {
    site: n // batch if site in is_activation else n
    for site, n in found.size.items()
  }
  return found._replace(size=size)


def omega(
  found: Traces, squared_errors: Mapping[str, Mapping[int, float]]
) -> dict[str, dict[int, float]]:
  """{site: {bits: mean Hessian eigenvalue ||Q(x) - x||^2}}, none below 0.

  A negative trace counts as zero: it would reward an error. Of a trained
  network it is mostly the noise of the estimate (Hutchinson's of few probes).
  HAWQ-V2's Omega (arXiv 1911.03852, equation 2.11). Half of it is the change of
  the loss to second order, were the error equally spread over the eigenvectors.

  Args:
    found: the traces.
    squared_errors: {site: {bits: ||Q(x) - x||^2}}, see `site_ranges`.
  """
  return {
    site: {
      bits: max(found.trace[site], 0.0) / found.size[site] * error
      for bits, error in by_bits.items()
    }
    for site, by_bits in squared_errors.items()
  }
