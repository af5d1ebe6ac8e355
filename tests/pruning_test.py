"""Pruned channels: which, how they stay zero, what they save."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from model_cases import CONV, NET

from fbq.nets import Net, Node
from fbq.schemes.bayesian_bits import BayesianBits
from fbq.schemes.groups import gate_groups
from fbq.schemes.pruning import kept_channels, pruned_workload, zeroed
from fbq.train import optimizer

CHAIN = Net(
  "chain",
  (6, 6, 2),
  (
    Node("a", "conv", ("input",), 4, (3, 3), 2, 1, **CONV),
    Node("b", "depthwise", ("a",), 0, (3, 3), 1, 1, **CONV),
    Node("c", "conv", ("b",), 5, (1, 1), **CONV),
    Node("fc", "linear", ("c",), 3, is_output=True),
  ),
)


def test_channels_with_open_gates_are_kept():
  scheme = BayesianBits(gate_groups(CHAIN, False), prunes=True)
  logits = {
    "a.weight.channels": jnp.float32([6.0, -0.93, -0.94, -6.0]),
    "b.weight.channels": jnp.ones(4),
    "c.weight.channels": jnp.ones(5),
  }
  kept = kept_channels(CHAIN, scheme, {"gates": logits})
  assert kept["a"].tolist() == [True, True, False, False]
  assert kept.keys() == {"a", "b", "c"}  # not the classifier


def test_zeroed_channels_stay_zero_in_training():
  kept = {"a": np.array([True, False, True, False])}
  params = {"a_kernel": jnp.ones((3, 3, 2, 4)), "c_kernel": jnp.ones((1, 1))}
  params = zeroed(params, kept)
  assert params["a_kernel"].sum((0, 1, 2)).tolist() == [18, 0, 18, 0]
  updates = optimizer.holding(optimizer.make(10, 0.1, warmup=0.0), kept)
  state = updates.init({"params": params})
  gradients = {"params": {name: jnp.ones_like(v) for name, v in params.items()}}
  for _ in range(3):
    change, state = updates.update(gradients, state, {"params": params})
    params = optax.apply_updates(params, change["params"])
  assert (params["a_kernel"][..., 1::2] == 0).all()
  assert (params["a_kernel"][..., ::2] < 1).all()
  assert (params["c_kernel"] < 1).all()


def test_a_chain_without_its_pruned_channels():
  kept = {
    "a": np.array([True, True, True, False]),
    "b": np.array([True, False, True, True]),
    "c": np.array([True, True, True, False, False]),
  }
  layers = pruned_workload(CHAIN, kept).layers
  # a and b keep the channels that both keep: 0 and 2.
  found = {x.name: (x.in_channels, x.out_channels) for x in layers}
  assert found == {"a": (2, 2), "b": (2, 2), "c": (2, 3), "fc": (3 * 9, 3)}
  same = pruned_workload(
    CHAIN, {name: mask | True for name, mask in kept.items()}
  )
  assert same == CHAIN.workload


def test_what_cannot_be_taken_out_is_an_error():
  with pytest.raises(ValueError, match="all channels of 'c' are pruned"):
    pruned_workload(CHAIN, {"c": np.zeros(5, bool)})
  some = np.array([True, True, True, False])
  with pytest.raises(ValueError, match=r"'sum' \(add\) joins, are pruned"):
    pruned_workload(NET, {"c": some})
  with pytest.raises(ValueError, match=r"'b' prunes channels of 'a'.*'sum'"):
    pruned_workload(NET, {"b": some})
