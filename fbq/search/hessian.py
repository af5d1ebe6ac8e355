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
  """

  trace: dict[str, float]
  standard_error: dict[str, float]
  size: dict[str, int]


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
  """
  # The error is a standard deviation over probes.
  if probes < 2:
    raise ValueError(f"{probes} probes, expected at least 2 for an error")

  # Batches are arguments, not constants, so one program serves all.
  batches = list(batches)
  step = jax.jit(functools.partial(_quadratic_forms, loss))
  sums = {name: np.zeros(probes) for name in tensors}
  for probe in range(probes):
    probe_key = jax.random.fold_in(key, probe)
    for i, batch in enumerate(batches):
      forms = step(tensors, jax.random.fold_in(probe_key, i), batch)
      for name, value in jax.device_get(forms).items():
        sums[name][probe] += value

  # Errors come from the spread over probes; each holds a sum over all batches.
  return Traces(
    {name: float(x.mean()) for name, x in sums.items()},
    {name: float(x.std(ddof=1) / probes**0.5) for name, x in sums.items()},
    {name: int(np.size(x)) for name, x in tensors.items()},
  )


def network_traces(
  net: Net,
  forward: Callable[[Any, Array, Tensors], Array],
  variables: Mapping[str, Any],
  batches: Iterable[tuple[Array, Array, Array]],
  key: Array,
  probes: int = 32,
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
    probes: see `traces`.
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
    loss, added, [(variables, *parts) for parts in batches], key, probes
  )
  size = {
    site: n // batch if site in is_activation else n
    for site, n in found.size.items()
  }
  return found._replace(size=size)


def omega(
  found: Traces, squared_errors: Mapping[str, Mapping[int, float]]
) -> dict[str, dict[int, float]]:
  """{site: {bits: mean Hessian eigenvalue ||Q(x) - x||^2}}.

  HAWQ-V2's Omega (arXiv 1911.03852, equation 2.11). Half of it is the change of
  the loss to second order, were the error equally spread over the eigenvectors.

  Args:
    found: the traces.
    squared_errors: {site: {bits: ||Q(x) - x||^2}}, see `site_ranges`.
  """
  return {
    site: {
      bits: found.trace[site] / found.size[site] * error
      for bits, error in by_bits.items()
    }
    for site, by_bits in squared_errors.items()
  }
