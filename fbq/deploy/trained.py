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


def deployable(
  net: Net, scheme: fixed.Fixed, norm: str, variables: Mapping[str, Any]
) -> tuple[Net, dict[str, Any]]:
  """Network and variables that compute under `Fixed()` what was trained.

  Ranges that no rule learned are taken as they are now; batch norms that
  training folded are folded.

  Args:
    net: the network.
    scheme: it was trained under.
    norm: of `norms.MODES`, the same.
    variables: after training: params, batch_stats, and ranges or averages.

  Raises:
    UnsupportedError: grids that integer kernels without zero-points do not run,
      or tensors in floating point; names the setting.
  """
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
  found = {kind: variables[kind] for kind in ("params", "batch_stats")}
  if norm == norms.CORRECT:
    net, folded = fold(net, found)
    found = {**folded, "batch_stats": {}}
  if scheme.learns_ranges:
    return net, {**found, "ranges": dict(variables["ranges"])}
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
