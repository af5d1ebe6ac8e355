"""How far the gates of a search are: what metrics.jsonl has of them."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fbq.model import Model
from fbq.precision import BITS
from fbq.train import parallel

_SURE = 0.9  # probability from which on a group counts as decided


def of(
  model: Model,
  variables: Mapping[str, Any],
  run: Mapping[str, jax.Array],
  step: int,
  row: int | None = None,
) -> dict[str, float]:
  """{name: number} of a search at a step; {} where nothing has gates.

  weight_bits, activation_bits: mean, over the tensors of a kind whose bits are
  free, of the bits that their gates make them expect.
  decided: share of the groups in which one precision has a probability of 0.9.
  open_4, open_8, ...: share of the groups in which so many bits or more have a
  probability above a half.

  Args:
    model: model that is trained.
    variables: its variables after the step.
    run: data of the run.
    step: steps that are done.
    row: which of several runs that are trained as one program, if they are.
  """
  scheme: Any = model.scheme
  if "gates" not in variables or not hasattr(scheme, "distribution"):
    return {}
  gates = jax.tree.map(parallel.to_host, variables["gates"])
  if row is not None:
    gates = jax.tree.map(lambda leaf: leaf[row], gates)

  # What a scheme reads of a run are numbers, such as a temperature; the key and
  # the teacher's variables stay where they are.
  numbers = {
    name: parallel.to_host(value)
    for name, value in run.items()
    if name != "key" and getattr(value, "ndim", 9) < 2
  }
  data = scheme.data(numbers, step)
  shares = np.asarray(scheme.distribution({"gates": gates}, data), np.float64)
  ladder = np.array(getattr(scheme, "ladder", BITS), np.float64)
  expected = shares @ ladder

  # Tensors of one group count each: what is locked together are several.
  workload = model.net.workload
  weights = {workload.weight_site(layer) for layer in workload.layers}
  bits: dict[str, list[float]] = {"weight_bits": [], "activation_bits": []}
  for site, group in scheme.groups.rows(model.net).items():
    if group >= 0:
      kind = "weight_bits" if site in weights else "activation_bits"
      bits[kind].append(float(expected[group]))
  at_least = np.cumsum(shares[:, ::-1], axis=1)[:, ::-1]
  return {
    **{kind: float(np.mean(found)) for kind, found in bits.items() if found},
    "decided": float(np.mean(shares.max(axis=1) >= _SURE)),
    **{
      f"open_{int(b)}": float(np.mean(at_least[:, i] > 0.5))
      for i, b in enumerate(ladder)
      if i
    },
  }
