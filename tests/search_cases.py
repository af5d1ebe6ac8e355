"""Random networks and tables for tests of searches."""

import numpy as np
from hypothesis import strategies as st

from hwsim.latency_table import BITS, LatencyTable
from hwsim.workload import Layer, Workload

IMAGE = "image.out"


@st.composite
def workloads(draw, most_free=None, adders_fixed=True, most_channels=1):
  """Chains, branches, adders (with operands fixed at 8 bits), pools.

  Args:
    draw: of hypothesis.
    most_free: layers are added while there are at most so many free sites.
    adders_fixed: whether adders fix their tensors.
    most_channels: sizes of tensors; they need not fit each other.
  """
  site_of = {IMAGE: IMAGE}  # tensor -> site
  fixed = {IMAGE: draw(st.sampled_from(BITS))}
  layers, reads, writes, sources = [], [], [], []
  for i in range(draw(st.integers(1, 7))):
    free = {*site_of.values()} - fixed.keys()
    weighted = sum(layer.has_weights for layer in layers)
    if most_free is not None and len(free) + weighted + 2 > most_free:
      break
    op = draw(
      st.sampled_from(["conv", "depthwise", "linear", "add", "max_pool"])
    )
    name = f"{op}{i}"
    inputs = [draw(st.sampled_from(sorted(site_of)))]
    if op == "add":
      inputs.append(draw(st.sampled_from(sorted(site_of))))
    channels = draw(st.integers(1, most_channels))
    wide = op not in ("conv", "linear")
    layers.append(Layer(name, op, channels if wide else 1, channels))
    reads.append(tuple(site_of[tensor] for tensor in inputs))
    made = [layer.name for layer in layers]
    sources.append(tuple(-1 if t == IMAGE else made.index(t) for t in inputs))
    site_of[name] = reads[-1][0] if op == "max_pool" else f"{name}.out"
    writes.append(site_of[name])
    if op == "add" and adders_fixed:
      fixed |= dict.fromkeys((*reads[-1], writes[-1]), 8)
  if layers[-1].op in ("conv", "linear"):  # logits
    fixed.pop(writes[-1], None)
    writes[-1] = None
  return Workload(
    "random",
    tuple(layers),
    tuple(sources),
    tuple(reads),
    tuple(writes),
    tuple(fixed.items()),
  )


def random_table(workload, seed, most):
  """A latency table of random cycles from 0 to `most`."""
  random = np.random.default_rng(seed)
  shape = (len(workload.layers), 3, 3, 3)
  cycles = random.integers(0, most, shape, endpoint=True)
  for i, layer in enumerate(workload.layers):
    if not layer.has_weights:
      cycles[i] = cycles[i][:, :1]
    if workload.output_sites[i] is None:
      cycles[i] = cycles[i][:, :, :1]
  return LatencyTable(
    "random",
    workload.layers,
    tuple(site is not None for site in workload.output_sites),
    cycles,
    ("simulated",) * len(workload.layers),
  )
