"""Many runs as one program equal the runs one by one."""

import json
import os
import subprocess
import sys

import experiment_runs
import pytest

# In a process of its own: the devices of one are what it started with.
SCRIPT = """
import json, pathlib, sys, tempfile
import jax, jax.numpy as jnp, numpy as np
from fbq.model import Model
from fbq.nets import Net, Node
from fbq.schemes.fractional import Fractional
from fbq.schemes.groups import gate_groups
from fbq.train import many, optimizer, parallel, points, regularizers, steps
from fbq.train.log import Log
from fbq.train.loop import Diverged, Trainer
from hwsim import proxies

STEPS, POINTS = 3, 8
net = Net(  # products alone: what is tested is not the convolutions
  "products",
  (3, 3, 2),
  (
    Node("a", "conv", ("input",), 4, norm=True, activation="relu"),
    Node("b", "conv", ("a",), 4, norm=True, activation="relu"),
    Node("fc", "linear", ("b",), 3, is_output=True),
  ),
)
scheme = Fractional(gate_groups(net, True))
kinds = ("params", "gates", "ranges")
updates = optimizer.make(
  STEPS, 0.01, range_learning_rate=0.01, gate_learning_rate=0.05
)
cost = regularizers.expected_cost(
  net, scheme, proxies.bops_table(net.workload)
)


def sample(key):
  images = jax.random.uniform(key, (4, *net.input_shape))
  return images, jnp.arange(4, dtype=jnp.int32) % 3


def trainer(step):
  return Trainer(
    Model(net, scheme),
    step,
    sample,
    STEPS,
    lambda v: steps.initial_state(v, kinds, updates),
    STEPS,
    1,
  )


step = steps.train_step(Model(net, scheme), updates, kinds, sample, cost)
start = Model(net).init(
  jax.random.key(0), jnp.zeros((1, *net.input_shape)), False
)
start = steps.complete(Model(net, scheme), start)
runs = [
  {"key": jax.random.key(i // 2), "strength": jnp.float32(0.1 * i)}
  for i in range(POINTS)
]
names = [f"run{i}" for i in range(POINTS)]
root = pathlib.Path(tempfile.mkdtemp())


def train(kind, together, step=step):
  (root / kind).mkdir(exist_ok=True)
  return list(many.train_points(
    names,
    trainer(step),
    [start] * POINTS,
    runs,
    Log(root / kind / "metrics.jsonl"),
    [root / kind / name for name in names],
    names,
    [lambda v: {"gates": float(v["gates"]["index"].sum())}] * POINTS,
    together,
  ))


def leaves(results):
  return [np.asarray(x) for x in jax.tree.leaves(results)]


alone, default = [], train("default", None)
for run in runs:
  state = steps.initial_state(start, kinds, updates)
  for _ in range(STEPS):
    state, _ = step(state, run)
  alone.append(state.variables)
together = train("together", True)
mesh = parallel.mesh_of(4, POINTS)
mapped = points.points_step(step, mesh, POINTS)
states = points.stack(
  [steps.initial_state(start, kinds, updates)] * POINTS, mesh
)
text = mapped.lower(states, points.stack(runs, mesh)).compile().as_text()
again = train("together", True, step=None)  # finished: nothing to train
differences = [
  np.abs(a - b).max() / max(np.abs(a).max(), 1e-3)
  for a, b in zip(
    leaves(alone), leaves([v for v, _ in together]), strict=True
  )
]
lines = [
  json.loads(line)
  for line in (root / "together" / "metrics.jsonl").read_text().splitlines()
]
runs[5] = {**runs[5], "strength": jnp.float32(jnp.inf)}
try:
  train("diverged", True)
  message = ""
except Diverged as error:
  message = str(error)
json.dump(
  {
    "devices": len(jax.devices()),
    "mesh": mesh.size,
    "mesh of 6": parallel.mesh_of(4, 6).size,
    "default is loop": all(
      a.tobytes() == b.tobytes()
      for a, b in zip(
        leaves(alone), leaves([v for v, _ in default]), strict=True
      )
    ),
    "difference": float(max(differences)),
    "spread": float(np.ptp([r["gates"] for _, r in together])),
    "collectives": [
      name
      for name in (
        *("all-reduce", "all-gather", "all-to-all"),
        *("collective-permute", "reduce-scatter"),
      )
      if name in text
    ],
    "sharded": "num_partitions=8" in text,
    "lines": [len(lines), len({line["stage"] for line in lines})],
    "again": all(
      a.tobytes() == b.tobytes()
      for a, b in zip(leaves(together), leaves(again), strict=True)
    ),
    "message": message,
  },
  sys.stdout,
)
"""


@pytest.fixture(scope="module")
def report():
  flags = "--xla_force_host_platform_device_count=8"
  flags += f" {experiment_runs.XLA_FLAGS}"
  done = subprocess.run(
    [sys.executable, "-c", SCRIPT],
    env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


def test_one_by_one_is_separate_runs_bit_for_bit(report):
  assert report["default is loop"]


def test_together_equals_separate_runs(report):
  assert report["devices"] == report["mesh"] == 8
  assert report["mesh of 6"] == 6
  assert report["difference"] < 1e-4
  assert report["spread"] > 0.1  # strengths make the runs differ
  assert report["lines"] == [24, 8]


def test_devices_do_not_talk(report):
  assert report["sharded"] and report["collectives"] == []


def test_what_was_finished_is_not_trained_again(report):
  assert report["again"]


def test_the_point_that_diverges_is_named(report):
  assert report["message"].startswith("run5: the loss of step 1 is not finite")
