"""What products of activations move and cost: brute force, exact choice."""

import dataclasses
import itertools
import json
import math
from fractions import Fraction

import bfp_oracle
import golden_cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense_cases import attention

from fbq import block_formats
from fbq.model import Model
from fbq.schemes.block_float import BlockFloat, Data
from fbq.search import bitq, block_noise
from hwsim import mx, proxies
from hwsim.bfp import (
  Memories,
  Nest,
  best_tiling,
  block_format,
  layer_bits,
  movement_table,
  nest_of,
  network_traffic,
)
from hwsim.bfp.table import encode, score
from hwsim.workload import Layer

GOLDEN = json.loads((golden_cases.GOLDEN / "dense_golden.json").read_text())


def walked(sizes, tile, order):
  """Elements of A, B and C that loops over tiles fetch, one after the other.

  Args:
    sizes: rows M, columns N and sum K.
    tile: their tile sizes.
    order: the three loops, outermost first.
  """
  tensors = ("mk", "kn", "mn")
  starts = {
    loop: range(0, size, step)
    for loop, size, step in zip("mnk", sizes, tile, strict=True)
  }
  ends = dict(zip("mnk", zip(sizes, tile, strict=True), strict=True))
  held, moved = [None] * 3, [0] * 3
  for at in itertools.product(*(starts[loop] for loop in order)):
    place = dict(zip(order, at, strict=True))
    for i, tensor in enumerate(tensors):
      key = tuple(place[loop] for loop in tensor)
      if held[i] != key:
        held[i] = key
        moved[i] += math.prod(
          min(ends[loop][1], ends[loop][0] - place[loop]) for loop in tensor
        )
  return moved


@pytest.mark.parametrize("sizes", [(5, 4, 6), (7, 3, 2), (4, 9, 1)])
def test_least_movement_of_a_matmul_is_that_of_brute_force(sizes):
  """All tiles and all orders of loops, walked one tile after the other."""
  m, n, k = sizes
  layer = Layer("a", "matmul", k, n, m, 3)  # three heads
  assert nest_of(layer, 2) == Nest(6, 1, n, k, m, 1, 1, 1)
  found = []
  for tile in itertools.product(*(range(1, s + 1) for s in sizes)):
    tm, tn, tk = tile
    held = tm * tk, tk * tn, tm * tn
    for order in itertools.permutations("mnk"):
      found.append((held, walked(sizes, tile, order)))
  for prices in ((8, 8, 8), (4, 9, 32), (Fraction(33, 4), 2, 16)):
    for memory in (60, 100, 150, 300, 10**4):
      fits = [
        sum(p * c * f for p, c, f in zip(prices, moved, (1, 1, 2), strict=True))
        for held, moved in found
        if sum(p * h for p, h in zip(prices, held, strict=True)) <= memory
      ]
      if fits:
        best = best_tiling(nest_of(layer), prices, memory)
        assert best.bits == 3 * min(fits), (prices, memory)


@pytest.mark.parametrize("case", GOLDEN["matmul_movement"][::6])
def test_golden_movement(case):
  """An own search of all integer tiles and three loops innermost."""
  nest = Nest(case["g"], 1, case["N"], case["K"], case["M"], 1, 1, 1)
  prices = [Fraction(q) for q in case["q"]]
  best = best_tiling(nest, prices, 8192 * case["memory_kB"], out_moves=1)
  assert float(best.bits) == case["bits"]


def test_a_transposed_convolution_is_pointwise():
  layer = Layer("up", "conv_transpose", 6, 3, 5, 4, 2, 2, 2)
  nest = nest_of(layer, 2)
  assert nest == Nest(1, 2, 12, 6, 5, 4, 1, 1)
  assert math.prod(nest.sizes) == 2 * layer.macs
  assert nest.k * nest.h * nest.w == layer.out_count
  assert nest.k * nest.c == layer.weight_count


FORMATS = (
  block_format(8, 4, 4),
  block_format(4, 4, 4),
)


def test_traffic_and_table_agree_and_price_both_operands():
  net = attention()
  work, memory = net.workload, 3000
  random = np.random.default_rng(0)
  table = movement_table(work, FORMATS, memory)
  for _ in range(4):
    formats = {s: FORMATS[random.integers(2)] for s in work.sites}
    traffic = network_traffic(work, formats, Memories(memory, 300))
    bits = dict(zip(net.node, layer_bits(table, work, formats), strict=True))
    assert {t.name: t.dram_bits for t in traffic} == {
      t.name: bits[t.name] for t in traffic
    }
    assert sum(bits.values()) == sum(t.dram_bits for t in traffic)

  # Through a memory that holds all, each operand moves once, as it is stored.
  formats = dict.fromkeys(work.sites, FORMATS[0])
  formats |= {"v.out": FORMATS[1]}
  (av,) = (
    t for t in network_traffic(work, formats, Memories(10**8)) if t.name == "av"
  )
  of_rows = lambda rows, along, bits: rows * (along * bits + -(-along // 4) * 4)
  assert av.tensor_bits == (
    of_rows(10 * 2, 10, 8),
    of_rows(8, 10, 4),
    2 * of_rows(10, 8, 8),
  )


@pytest.mark.parametrize("cost", ["traffic", "cycles"])
def test_exact_choice_with_products_of_activations(cost):
  """Of all assignments of two formats to the sites of a block of attention."""
  net = attention(2, 4, 2)
  work = net.workload
  if cost == "traffic":
    table = movement_table(work, FORMATS, 1200)
  else:
    small = dataclasses.replace(mx.VMXDOTP, memory_bytes=300, dma_bytes=1)
    table = mx.cycle_table(work, FORMATS, small)
  random = np.random.default_rng(1)
  losses = {
    site: dict(zip(FORMATS, (0.0, random.uniform(0, 0.01)), strict=True))
    for site in work.sites
  }
  choice = bitq.make(work, losses, table)
  alphas = [0.01, 0.05, 0.3]
  found = bitq.optima(choice, alphas)

  # Sites that adders join are one, so a column is a group.
  groups = choice.groups
  picks = np.array(list(itertools.product(range(2), repeat=len(groups))))
  rows = np.zeros((len(picks), len(work.sites)), int)
  loss = np.zeros(len(picks))
  for column, group in zip(picks.T, groups, strict=True):
    for site in group:
      rows[:, work.sites.index(site)] = column
      loss += np.array(list(losses[site].values()))[column]
  moved = score(table, encode(table, work, rows))
  for alpha, objective in zip(alphas, found.objective, strict=True):
    best = (loss + alpha * moved / choice.largest).min()
    np.testing.assert_allclose(objective, best, rtol=1e-12)
  assert len(picks) > 4000 and len({*map(str, found.formats)}) > 1


def test_weights_share_the_formats_of_activations():
  work = attention().workload
  with pytest.raises(ValueError, match="layer 'qk' multiplies two activations"):
    movement_table(work, FORMATS, 3000, FORMATS[:1])
  with pytest.raises(ValueError, match="layer 'qk'.*product of two activation"):
    proxies.bops_table(work)


def test_bit_operations_of_products_count_both_operands():
  net = attention()
  work = net.workload
  bits = dict.fromkeys(work.sites, 8) | {"k.out": 4, "weights.out": 2}
  free = bits | dict(work.fixed_bits)
  expected = sum(
    free[work.operands(i)[0]] * free[work.operands(i)[1]] * layer.macs
    for i, layer in enumerate(work.layers)
    if layer.macs
  )
  assert proxies.bops(work, free) == expected


def test_blocks_of_operands_lie_along_the_sum():
  """The model's product is that of operands in blocks of their own sums."""
  net = attention()
  images = jax.random.normal(jax.random.key(2), (2, 3, 3, 3))
  variables = Model(net).init(jax.random.key(0), images, False)
  form = block_format(3, 8, 4)
  sites = net.workload.sites
  rows = block_formats.to_array(
    net, dict.fromkeys(sites, block_format(25, 8, 1))
  ).copy()
  for site in ("q.out", "k.out", "v.out", "weights.out"):
    rows[sites.index(site)] = form[:3]
  data = Data(jnp.asarray(rows), jnp.zeros(len(sites), jnp.int32))
  _, seen = Model(net, BlockFloat((1, 4))).apply(
    variables, images, False, data, mutable=["intermediates"]
  )
  seen = {k: np.asarray(v[0]) for k, v in seen["intermediates"].items()}
  rounded = lambda x, tile: bfp_oracle.by_formula(x, 3, tile, "nearest")
  split = lambda x: x.reshape(2, 10, 2, 4)
  q, k = (rounded(split(seen[n]), (1, 1, 1, 4)) for n in "qk")
  scores = np.einsum("bnhd,bmhd->bnhm", q, k) / 2
  np.testing.assert_allclose(seen["qk"], scores, rtol=1e-5, atol=1e-6)
  weights = rounded(np.maximum(seen["weights"], 0), (1, 1, 1, 4))
  v = split(rounded(seen["v"], (1, 4, 1, 1)))  # along tokens
  av = np.einsum("bnhm,bmhd->bnhd", weights, v).reshape(2, 10, 1, 8)
  np.testing.assert_allclose(seen["av"], av, rtol=1e-5, atol=1e-6)

  # The noise that formats are judged by is of the same blocks.
  tensors = {f"{n}.out": x for n, x in seen.items() if f"{n}.out" in sites}
  tensors |= {"input.out": np.asarray(images)}
  noise = block_noise.noises(
    net, variables["params"], tensors, [form[:3]], BlockFloat((4,))
  )
  lost = np.square(split(rounded(seen["v"], (1, 4, 1, 1))) - split(seen["v"]))
  np.testing.assert_allclose(
    noise["v.out"].squared[0], lost.sum() / 2, rtol=1e-5
  )
