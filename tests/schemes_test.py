"""Every search: decided it is the fixed precision, undecided it learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from model_cases import CONV, IMAGES, MIXED, NET, calibrated

from fbq import precision
from fbq.model import Model
from fbq.nets import Net, Node
from fbq.quantizers import uniform
from fbq.schemes.bayesian_bits import DEAD, BayesianBits
from fbq.schemes.fixed import Fixed, Form
from fbq.schemes.fractional import Fractional, bounded
from fbq.schemes.free_bits import FreeBits
from fbq.schemes.groups import gate_groups
from fbq.schemes.mixture import Mixture
from fbq.train import steps

FREE = gate_groups(NET, False)
LABELS = jnp.arange(len(IMAGES)) % 3
SEARCHES = {
  "free bits": FreeBits,
  "bayesian bits": BayesianBits,
  "faithful": functools.partial(BayesianBits, prunes=True, faithful=True),
  "mixture": Mixture,
  "hard draws": functools.partial(Mixture, sampling="hard"),
  "fractional": Fractional,
}
RUN = {
  "temperature": jnp.float32([1.0, 0.1]),
  "temperature_steps": jnp.int32(100),
}


@jax.jit
def run_fixed(variables, bits):
  return Model(NET, Fixed()).apply(variables, IMAGES, False, bits)


def started(scheme, gates=None):
  """Variables of the tiny net with all that the scheme adds."""
  variables = {k: v for k, v in calibrated().items() if k != "gates"}
  if getattr(scheme, "faithful", False) and isinstance(scheme, BayesianBits):
    kept = variables["ranges"].items()
    ranges = {s: r for s, r in kept if not s.endswith("weight")}
    variables["ranges"] = ranges
  made = steps.complete(Model(NET, scheme), variables)
  # `Fixed` rounds that of the logits to steps of its sums, no search does
  made["params"] = made["params"] | {"fc_bias": jnp.zeros(3)}
  return {**made, "gates": {**made["gates"], **(gates or {})}}


def decided(scheme):
  """Gates that leave no doubt about `MIXED`."""
  level = np.zeros(FREE.count, int)
  for site, row in FREE.rows(NET).items():
    if row >= 0:
      level[row] = precision.BITS.index(MIXED[site])
  if isinstance(scheme, Fractional):
    return {"index": jnp.float32(level)}
  if isinstance(scheme, Mixture):
    return {"logits": 1e4 * jax.nn.one_hot(level, 3)}
  return {"logits": jnp.where(level[:, None] > jnp.arange(2), 30.0, -30.0)}


def ranges_of_fixed(variables):
  """Ranges with which `Fixed` computes what gates of Bayesian Bits do at MIXED.

  The original grid is symmetric: its step is 2 max / (2^b - 1) where that of
  `uniform` is range / 2^(b-1), so the range of a weight grows by
  2^b / (2^b - 1), and by a hair, so that -max itself does not round to the one
  code that `Fixed` has more, its lowest; weights below -max do.
  """
  found = dict(variables["ranges"])
  for node, layer in zip(NET.nodes, NET.workload.layers, strict=True):
    if node.has_weights:
      site = f"{node.name}.weight"
      levels = 2.0 ** MIXED[site]
      growth = jnp.float32(levels / (levels - 1.0) * (1.0 + 1e-6))
      shape = (layer.out_channels,) if node.op != "linear" else ()
      found[site] = jnp.broadcast_to(found[site] * growth, shape)
  return found


@pytest.mark.parametrize("name", SEARCHES)
def test_a_decided_search_has_the_fixed_precision(name):
  scheme = SEARCHES[name](FREE)
  variables = started(scheme, decided(scheme))
  found = scheme.assignment(NET, variables)
  assert found == MIXED
  precision.check_assignment(NET, found)
  noise = scheme.noise(jax.random.key(7), len(IMAGES))
  data = scheme.data(RUN, jnp.int32(0))
  run = jax.jit(
    lambda n: Model(NET, scheme).apply(variables, IMAGES, False, data, n)
  )
  if isinstance(scheme, BayesianBits):
    ranges = ranges_of_fixed(variables)
  else:
    ranges = variables["ranges"]
  bits = precision.to_array(NET, MIXED)
  expected = run_fixed({**variables, "ranges": ranges}, bits)
  exact = isinstance(scheme, (Mixture, Fractional))
  # Of the same steps all but the last bit of logits, which `Fixed` rounds
  close = dict(rtol=3e-7, atol=0)
  tolerance = close if exact else dict(rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(run(None), expected, **tolerance)
  if noise is not None:
    np.testing.assert_allclose(run(noise), expected, **tolerance)
  shares = scheme.distribution(variables, data)
  assert np.asarray(precision.BITS)[shares.argmax(1)].tolist() == [
    MIXED[site] for site, row in FREE.rows(NET).items() if row >= 0
  ]
  np.testing.assert_allclose(shares.sum(1), 1.0, rtol=1e-6)


# Few layers: there is a gradient to compile for every scheme.
SMALL = Net(
  "small",
  (4, 4, 2),
  (
    Node("a", "conv", ("input",), 4, **CONV),
    Node("b", "conv", ("a",), 4, **CONV),
    Node("fc", "linear", ("b",), 3, is_output=True),
  ),
)


@pytest.mark.parametrize("name", SEARCHES)
def test_gradients_reach_gates_and_ranges(name):
  """One trace serves every draw and temperature, and computes as eager code."""
  groups = gate_groups(SMALL, True)
  scheme = SEARCHES[name](groups)
  images = IMAGES[:, :4, :4]
  variables = Model(SMALL).init(jax.random.key(1), images, False)
  variables = steps.complete(Model(SMALL, scheme), variables)
  undecided = {
    key: jnp.linspace(0.1, 0.7, value.size).reshape(value.shape)
    for key, value in variables["gates"].items()
  }
  variables = {**variables, "gates": undecided}
  traces = []

  def loss(kinds, noise, data):
    traces.append(1)
    logits, _ = Model(SMALL, scheme).apply(
      {**variables, **kinds}, images, True, data, noise, mutable="batch_stats"
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, LABELS)
    return losses.mean()

  gradient = jax.jit(jax.value_and_grad(loss))
  kinds = {kind: variables[kind] for kind in ("gates", "ranges", "params")}
  # A single draw may close a gate, which then sees nothing.
  total, losses = None, []
  for i in range(8):
    noise = scheme.noise(jax.random.key(i), len(images))
    data = scheme.data(RUN, jnp.int32(10 * i))
    value, found = gradient(kinds, noise, data)
    losses.append(float(value))
    found = jax.tree.map(jnp.abs, found)
    total = found if total is None else jax.tree.map(jnp.add, total, found)
  assert len(traces) == 1
  assert losses[-1] == pytest.approx(float(loss(kinds, noise, data)), rel=1e-4)
  moves = noise is not None or isinstance(scheme, Mixture)
  assert (len(set(losses)) > 1) == moves
  for value in jax.tree.leaves(total):
    assert np.isfinite(value).all()
  for key, value in total["gates"].items():
    assert (value > 0).any(), key
    if not key.endswith("channels"):
      assert (value.reshape(groups.count, -1).max(1) > 0).all(), key
  for site, value in total["ranges"].items():
    learned = not (isinstance(scheme, FreeBits) and site.endswith("weight"))
    assert (value.max() > 0) == learned, site
  for key, value in total["params"].items():
    if key.endswith("kernel"):
      assert value.max() > 0, key


# ---- Bayesian Bits -----------------------------------------------------------


def test_dead_gates_learn_nothing_in_the_faithful_mode_alone():
  logits = jnp.float32([DEAD - 0.01, 3.0])
  for faithful in (False, True):
    scheme = BayesianBits(FREE, faithful=faithful)
    opened = scheme.gate(logits, jnp.float32([0.999, 0.999]), True)
    assert opened.tolist() == [0.0 if faithful else 1.0, 1.0]
    total = lambda v, s=scheme: s.gate(v, jnp.float32(0.9), True).sum()
    assert (jax.grad(total)(logits)[0] == 0) == faithful


def test_gates_are_drawn_or_their_hard_sigmoid_and_whole_out_of_training():
  logits = jnp.float32([-1.0, -0.9, 0.5])
  scheme = BayesianBits(FREE, deterministic=True)
  assert scheme.noise(jax.random.key(0), 4) is None
  soft = scheme.gate(logits, None, True)
  expected = np.clip(1.2 / (1 + np.exp(-1.5 * np.asarray(logits))) - 0.1, 0, 1)
  np.testing.assert_allclose(soft, expected, rtol=1e-5)
  assert scheme.gate(logits, None, False).tolist() == [0, 1, 1]
  noise = BayesianBits(FREE).noise(jax.random.key(0), 4)
  assert noise["weights"].shape == noise["activations"].shape == (7, 2)
  assert not np.isclose(noise["weights"], noise["activations"]).any()


def test_pruned_channels_are_zero_in_every_mode():
  scheme = BayesianBits(FREE, prunes=True)
  closed = jnp.float32([30.0, -30.0, 30.0, -30.0])
  variables = started(scheme, {"a.weight.channels": closed})
  _, seen = Model(NET, scheme).apply(
    variables, IMAGES, False, mutable="intermediates"
  )
  offset = variables["params"]["a_norm"]
  statistics = variables["batch_stats"]["a_norm"]
  constant = offset["bias"] - statistics["mean"] * offset["scale"] / jnp.sqrt(
    statistics["var"] + 1e-5
  )
  tensor = seen["intermediates"]["a"][0]
  np.testing.assert_allclose(
    tensor[..., 1::2], np.broadcast_to(constant[1::2], (8, 3, 3, 2)), rtol=1e-5
  )
  assert np.ptp(tensor[..., ::2], axis=(0, 1, 2)).min() > 0.1
  assert "fc.weight.channels" not in variables["gates"]


def test_a_ladder_must_start_at_2_and_double():
  assert BayesianBits(FREE, ladder=(2, 4, 8, 16)).start()["logits"].shape == (
    FREE.count,
    3,
  )
  for ladder in ((4, 8), (2,), (2, 8), (2, 4, 8, 16, 32, 64)):
    with pytest.raises(ValueError, match="ladder is"):
      BayesianBits(FREE, ladder=ladder)


# ---- mixture and fractional bits ---------------------------------------------


def test_temperature_falls_geometrically():
  steps = [0, 50, 100, 200]
  found = [Mixture(FREE).data(RUN, jnp.int32(step)) for step in steps]
  np.testing.assert_allclose(found, [1.0, 0.1**0.5, 0.1, 0.1], rtol=1e-6)


def test_hard_draws_follow_the_shares():
  scheme = Mixture(FREE, sampling="hard")
  logits = jnp.tile(jnp.float32([0.0, 1.0, 2.0]), (FREE.count, 1))
  keys = jax.random.split(jax.random.key(0), 4000)
  noise = jax.vmap(lambda key: scheme.noise(key, 1))(keys)
  drawn = jax.nn.one_hot(jnp.argmax(logits + noise, -1), 3).mean((0, 1))
  shares = scheme.distribution({"gates": {"logits": logits}})
  np.testing.assert_allclose(drawn, shares[0], atol=0.01)
  with pytest.raises(ValueError, match="sampling is 'gumbel'"):
    Mixture(FREE, sampling="gumbel")


def test_an_index_off_the_ladder_finds_back():
  index = jnp.float32([-0.5, -0.5, 1.0, 1.0, 2.5, 2.5])
  g = jnp.float32([1, -1, 1, -1, 1, -1])
  value, vjp = jax.vjp(bounded, index)
  assert value.tolist() == [0, 0, 1, 1, 2, 2]
  assert vjp(g)[0].tolist() == [0, -1, 1, -1, 1, 0]


def test_halves_round_to_more_bits():
  scheme = Fractional(FREE)
  index = jnp.linspace(-1.0, 3.0, FREE.count)
  found = scheme.assignment(NET, {"gates": {"index": index}})
  for site, row in FREE.rows(NET).items():
    if row >= 0:
      nearest = min(
        range(3), key=lambda i, v=float(index[row]): (abs(v - i), -i)
      )
      assert found[site] == precision.BITS[nearest]


def test_outputs_are_integers_where_they_are_judged():
  """Not in training, not where a tensor stays in float; slopes stay."""
  variables = started(FreeBits(FREE))
  variables["params"]["fc_bias"] = jnp.float32([0.01, 0.2, -0.3])
  bits = precision.to_array(NET, MIXED)

  def logits(bias, quantizes="both", train=False):
    params = variables["params"] | {"fc_bias": bias}
    scheme = Fixed(form=Form(quantizes=quantizes))
    found, _ = Model(NET, scheme).apply(
      {**variables, "params": params}, IMAGES, train, bits, mutable=True
    )
    return found

  bias = variables["params"]["fc_bias"]
  nothing = jnp.zeros(3)
  for case in (("both", True), ("weights", False), ("activations", False)):
    added = logits(bias, *case) - logits(nothing, *case)
    np.testing.assert_allclose(
      added, np.broadcast_to(bias, added.shape), atol=1e-6, err_msg=str(case)
    )

  ranges, site = variables["ranges"], NET.site_of[NET.node["fc"].inputs[0]]
  unit = uniform.step(ranges["fc.weight"], MIXED["fc.weight"], True)
  unit *= uniform.step(ranges[site], MIXED[site], False)
  added = logits(bias) - logits(nothing)
  np.testing.assert_allclose(
    added,
    np.broadcast_to(np.rint(bias / unit) * unit, added.shape),
    atol=1e-6,
  )
  assert not np.allclose(added, bias, atol=1e-3)
  slope = jax.grad(lambda b: logits(b).sum())(bias)
  np.testing.assert_array_equal(slope, len(IMAGES))
