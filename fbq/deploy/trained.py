"""What was trained by any recipe, in the form that is lowered to integers."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from fbq import norms
from fbq.deploy.lowering import UnsupportedError
from fbq.nets.graph import INPUT_SITE, Net
from fbq.ptq.folding import fold
from fbq.quantizers import shared_steps
from fbq.schemes import fixed, ranges
from fbq.variables import check_numbers


def deployable(
  net: Net, scheme: fixed.Fixed, norm: str, variables: Mapping[str, Any]
) -> tuple[Net, dict[str, Any]]:
  """Network and variables that compute under `Fixed()` what was trained.

  Ranges that no rule learned are taken as they are now; batch norms that
  training folded are folded.

  Args:
    net: the network.
    scheme: scheme that the network was trained under.
    norm: what batch norms did in training, one of `norms.MODES`.
    variables: variables after training: params, batch_stats, and ranges or
      averages.

  Raises:
    UnsupportedError: grids that integer kernels without zero-points do not run,
      or tensors in floating point; names the setting.
    ValueError: variables that are not finite.
  """
  # Said before anything is folded: no kernel here has a zero-point, and none
  # mixes integers with floats.
  form = scheme.form
  for name, value, expected in (
    ("weights", form.weights, "symmetric"),
    ("activations", form.activations, "symmetric"),
    ("quantizes", form.quantizes, "both"),
  ):
    if value != expected:
      raise UnsupportedError(
        f"net {net.name!r} was trained with form.{name}={value!r}, which no "
        f"integer kernel runs here, without zero-points and all in integers; "
        f"train it with {expected!r}"
      )

  # Plain batch norms stay: requantization takes them.
  found = {kind: variables[kind] for kind in ("params", "batch_stats")}
  check_numbers(found)
  if norm == norms.CORRECT:
    net, folded = fold(net, found)
    found = {**folded, "batch_stats": {}}

  # Learned ranges are what deployment reads.
  if scheme.learns_ranges:
    return net, {**found, "ranges": dict(variables["ranges"])}

  # Under "min_max" ranges are the ends of moving averages. What shares a step
  # takes the largest, as in training.
  ends = variables["averages"]
  own = {
    site: fixed.largest(ends[site])
    for site in net.is_signed
    if site != INPUT_SITE
  }
  own = dict(shared_steps.of_step_sites(net, own, net.fixed_bits))
  for node in net.nodes:
    if node.has_weights:
      kernel = found["params"][f"{node.name}_kernel"]
      own[f"{node.name}.weight"] = ranges.weight_range(
        jnp.asarray(kernel), node, form.per_channel
      )
  return net, {**found, "ranges": own}
