"""Offsets of activations: none overlap, and networks waste no byte."""

import itertools

import pytest
from deploy_cases import ZOO, assignments
from hypothesis import given
from hypothesis import strategies as st

from fbq import nets
from fbq.deploy import c_arena
from hwsim import proxies


def check(arena, sizes, alive):
  for keys in alive:
    ends = sorted((arena.offsets[k], arena.offsets[k] + sizes[k]) for k in keys)
    assert ends[0][0] >= 0 and ends[-1][1] <= arena.bytes
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(ends))


@st.composite
def lifetimes(draw):
  """Tensor i is born at step i and lives some steps longer."""
  count = draw(st.integers(1, 7))
  sizes = {i: draw(st.integers(1, 9)) for i in range(count)}
  last = [i + draw(st.integers(0, 3)) for i in range(count)]
  alive = [[j for j in range(i + 1) if last[j] >= i] for i in range(count)]
  return sizes, alive


@given(lifetimes())
def test_tensors_that_live_at_once_never_overlap(case):
  sizes, alive = case
  arena = c_arena.plan(sizes, alive)
  check(arena, sizes, alive)
  peak = max(sum(sizes[k] for k in keys) for keys in alive)
  assert peak <= arena.bytes <= max(peak, sum(sizes.values()))
  # A chain always fits: tensors at the two ends of the block in turn
  if all(len(keys) <= 2 for keys in alive):
    assert arena.bytes == peak


def test_a_place_is_taken_again_between_tensors_that_stay():
  """By hand: what lived alongside 0 and 2 leaves the only place for 3."""
  sizes = dict.fromkeys(range(4), 2)
  arena = c_arena.plan(sizes, [[0], [0, 1], [0, 1, 2], [0, 2, 3]])
  assert arena.bytes == 6 and arena.offsets[3] == arena.offsets[1]


@pytest.mark.parametrize("name", [*ZOO, "ds_cnn", "resnet50", "mobilenet_224"])
def test_networks_take_the_peak_that_a_search_counts(name):
  others = {
    "ds_cnn": nets.ds_cnn(),
    "resnet50": nets.resnet50(1.0, 224),
    "mobilenet_224": nets.mobilenet_v2(1.0, 224),
  }
  net = (ZOO | others)[name]
  for bits in assignments(net, 3):
    alive = proxies.live_layers(net.workload)
    sites = {None: 32} | bits
    tensors = dict.fromkeys(j for keys in alive for j in keys)
    names = ("input", *net.node)
    sizes = {
      j: -(
        -_elements(net, names[j + 1]) * sites[net.site_of[names[j + 1]]] // 8
      )
      for j in tensors
    }
    arena = c_arena.plan(sizes, alive)
    check(arena, sizes, alive)
    assert arena.bytes == proxies.peak_activation_bytes(net.workload, bits)


def _elements(net, name):
  height, width, channels = net.shapes[name]
  return height * width * channels
