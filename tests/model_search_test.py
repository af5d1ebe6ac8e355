"""Search mode: gates decide what fixed mode does, and locked ones share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import CONV, IMAGES, MIXED, NET, calibrated

from fbq import nets, precision
from fbq.model import Model
from fbq.nets import Net, Node
from fbq.schemes.fixed import Fixed
from fbq.schemes.free_bits import FreeBits
from fbq.schemes.groups import gate_groups

MOBILE = nets.mobilenet_v1(1 / 32, 8, classes=4, in_channels=1, stem_stride=1)
SITES = NET.workload.sites
FREE = NET.workload.free_sites


def search_variables(logits):
  return {**calibrated(), "gates": {"logits": jnp.float32(logits)}}


@pytest.mark.parametrize("faithful", [False, True])
@pytest.mark.parametrize("noise", [None, jax.random.key(5)], ids=["", "noise"])
def test_decided_gates_equal_the_fixed_precision(noise, faithful):
  """Logits of +-20 leave the noise nothing to decide."""
  groups = gate_groups(NET, locked=False)
  logits = np.full((groups.count, 2), 20.0)
  for site, row in zip(SITES, groups.of_site, strict=True):
    if row >= 0:
      logits[row] = [
        20 if MIXED[site] > 2 else -20,
        20 if MIXED[site] > 4 else -20,
      ]
  scheme = FreeBits(groups, faithful)
  if noise is not None:
    noise = scheme.noise(noise, len(IMAGES))
  variables = search_variables(logits)
  # `Fixed` rounds that of the logits to steps of its sums, no search does
  variables["params"] = variables["params"] | {"fc_bias": jnp.zeros(3)}
  apply = jax.jit(
    lambda v, n: Model(NET, scheme).apply(v, IMAGES, False, noise=n)
  )
  found = apply(variables, noise)
  bits = precision.to_array(NET, MIXED)
  fixed = {k: v for k, v in variables.items() if k != "gates"}
  expected = Model(NET, Fixed()).apply(fixed, IMAGES, False, bits)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
  assert scheme.assignment(NET, variables) == MIXED


def test_free_gates_are_one_group_for_each_free_site():
  groups = gate_groups(NET, locked=False)
  rows = dict(zip(SITES, groups.of_site, strict=True))
  assert sorted(rows[s] for s in FREE) == list(range(groups.count))
  assert {s for s in SITES if rows[s] == -1} == set(NET.fixed_bits)


def test_locked_weights_share_the_gates_of_what_they_read():
  groups = gate_groups(NET, locked=True)
  rows = dict(zip(SITES, groups.of_site, strict=True))
  assert rows["b.out"] == rows["c.weight"]
  assert rows["d.out"] == rows["fc.weight"]  # through the pool
  alone = ("a.weight", "b.weight", "d.weight")  # read tensors of fixed bits
  assert len({rows[s] for s in (*alone, "b.out", "d.out")}) == groups.count == 5
  mobile = gate_groups(MOBILE, locked=True)
  assert mobile.count == 1 + 27  # the stem's weights, then a layer's input each


def test_all_readers_of_a_tensor_are_locked_to_it():
  net = Net(
    "two readers",
    (4, 4, 2),
    (
      Node("a", "conv", ("input",), 2, **CONV),
      Node("b", "conv", ("a",), 2, **CONV),
      Node("c", "conv", ("a",), 2, **CONV),
      Node("sum", "add", ("b", "c"), activation="relu"),
      Node("fc", "linear", ("sum",), 3, is_output=True),
    ),
  )
  groups = gate_groups(net, locked=True)
  rows = dict(zip(net.workload.sites, groups.of_site, strict=True))
  assert rows["a.out"] == rows["b.weight"] == rows["c.weight"] != -1


@pytest.mark.parametrize("noise", [None, 0.45], ids=["median", "noise"])
def test_gradients_of_locked_gates_add(noise):
  """Equal to free gates of equal logits, summed over the group."""
  free, locked = gate_groups(NET, False), gate_groups(NET, True)
  row = np.zeros(free.count, int)
  for mine, shared in zip(free.of_site, locked.of_site, strict=True):
    if mine >= 0:
      row[mine] = shared
  logits = jax.random.uniform(  # where no gate saturates
    jax.random.key(3), (locked.count, 2), minval=-0.6, maxval=0.6
  )

  def gradient(groups, logits):
    draws = noise and {
      "weights": jnp.full((groups.count, 2), noise),
      "activations": jnp.full((len(IMAGES), groups.count, 2), noise),
    }

    def loss(logits):
      network = Model(NET, FreeBits(groups))
      out = network.apply(search_variables(logits), IMAGES, False, noise=draws)
      return jnp.sum(out[:, 0] ** 2)

    return jax.jit(jax.value_and_grad(loss))(logits)

  loss, shared = gradient(locked, logits)
  same_loss, own = gradient(free, logits[row])
  np.testing.assert_allclose(loss, same_loss, rtol=1e-5)
  summed = np.zeros_like(shared)
  np.add.at(summed, row, own)
  assert (np.abs(summed).max(1) > 0).all()
  np.testing.assert_allclose(
    shared, summed, rtol=1e-4, atol=1e-5 * np.abs(summed).max()
  )


@pytest.mark.parametrize("locked", [False, True])
def test_gate_noise_lies_in_the_open_interval(locked):
  groups = gate_groups(MOBILE, locked)
  scheme = FreeBits(groups)
  noise = scheme.noise(jax.random.key(0), 500)
  assert noise["weights"].shape == (groups.count, 2)
  assert noise["activations"].shape == (500, groups.count, 2)
  for draws in noise.values():
    assert 0 < draws.min() and draws.max() < 1
  assert abs(float(noise["activations"].mean()) - 0.5) < 0.01
  assert len(np.unique(noise["activations"][:, 0, 0])) > 490  # one per sample
  other = scheme.noise(jax.random.key(1), 500)
  assert not np.isclose(noise["weights"], other["weights"]).any()


def test_noise_of_an_image_moves_that_image_alone():
  groups = gate_groups(NET, locked=True)
  scheme = FreeBits(groups)
  variables = search_variables(jnp.zeros((groups.count, 2)))
  noise = scheme.noise(jax.random.key(0), len(IMAGES))
  network = Model(NET, scheme)
  run = jax.jit(lambda n: network.apply(variables, IMAGES, False, noise=n))
  moved = noise["activations"].at[3].set(1 - noise["activations"][3])
  difference = run({**noise, "activations": moved}) - run(noise)
  changed = np.abs(difference).max(1) > 1e-4
  assert changed.tolist() == [i == 3 for i in range(len(IMAGES))]
