"""What a run tells of its speed is right, and where it was asked for."""

import json
import os
import pathlib
import struct
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import pytest

from fbq.train import monitoring
from fbq.train.log import Log
from fbq.train.monitoring import Meter, Options, Span


@pytest.mark.parametrize(
  "text, expected",
  [
    ("3:7", Span("", 3, 7)),
    ("search-free:1:1", Span("search-free", 1, 1)),
    ("a:b:2:3", Span("a:b", 2, 3)),
  ],
)
def test_steps_to_trace_are_named_by_stage_and_number(text, expected):
  assert monitoring.span(text) == expected


@pytest.mark.parametrize("text", ["", "3", "7:3", "0:2", "float:3", "1:-2"])
def test_steps_that_cannot_be_traced_are_refused(text):
  with pytest.raises(ValueError, match=r"--profile is .*\[STAGE:\]FIRST:LAST"):
    monitoring.span(text)


class Clock:
  """A clock that steps and feeds move."""

  def __init__(self, monkeypatch):
    self.now = 100.0
    monkeypatch.setattr(monitoring.time, "perf_counter", lambda: self.now)

  def feed(self, waits):
    for seconds in waits:
      self.now += seconds
      yield "given"


def test_speed_counts_images_and_waiting_after_the_first_step(monkeypatch):
  clock = Clock(monkeypatch)
  meter = Meter(16)
  told = []
  for number, given in enumerate(meter.waits(clock.feed([5, 1, 2, 0, 0]))):
    assert given == "given"
    clock.now += 60 if number == 0 else 1  # the first compiles
    if number in (0, 2, 4):
      told.append(meter.read())
  told = [
    {k: v for k, v in line.items() if k != "device_bytes"} for line in told
  ]
  assert told == [
    {},
    {"images_per_second": 2 * 16 / 5, "waiting": 3 / 5},
    {"images_per_second": 2 * 16 / 2, "waiting": 0},
  ]


def test_steps_that_draw_their_images_wait_for_none(monkeypatch):
  clock = Clock(monkeypatch)
  meter = Meter(16, is_fed=False)
  for _ in meter.waits(clock.feed([1, 1])):
    clock.now += 1
  assert meter.read()["images_per_second"] == 8
  assert "waiting" not in meter.read()


def test_compilation_is_told_in_the_line_after_it():
  @jax.jit
  def outer(x):
    return jax.jit(jnp.tanh)(x) + 1

  with monitoring.compilation() as compiled:
    meter = Meter(16, compiled=compiled)
    start = time.perf_counter()
    outer(jnp.ones(3))
    passed = time.perf_counter() - start
    seconds = [meter.read().get("compile_seconds") for _ in range(2)]
    assert 0 < seconds[0] <= passed and seconds[1] is None
    outer(jnp.ones(3))  # compiled before
    assert compiled() == 0
  jax.jit(jnp.cosh)(jnp.ones(3))
  assert compiled() == 0


SCRIPT = """
import pathlib, sys
import jax, jax.numpy as jnp
from fbq.model import Model
from fbq.train import loop, monitoring, optimizer, steps
from fbq.train.log import Log
from tests.configs import tiny

cache, workdir, seed = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
monitoring.keep_programs(cache)
counts = {}
jax.monitoring.register_event_listener(
  lambda event, **_: counts.update({event: counts.get(event, 0) + 1})
)
net = tiny.separable(4)
model, updates = Model(net), optimizer.make(2, 1e-2)

def sample(key):
  return jax.random.uniform(key, (4, 8, 8, 1)), jnp.arange(4)

init = jax.jit(lambda k: model.init(k, jnp.zeros((1, 8, 8, 1)), False))
trainer = loop.Trainer(
  model,
  steps.train_step(model, updates, ("params",), sample),
  sample,
  2,
  lambda v: steps.initial_state(v, ("params",), updates),
  2,
  1,
)
workdir.mkdir()
key = jax.random.key(seed)
log = Log(workdir / "metrics.jsonl")
loop.train("float", trainer, init(key), {"key": key}, log, workdir / "float",
           "mine", lambda v: {})
print(*(counts.get(f"/jax/compilation_cache/{what}", 0) for what in
        ("compile_requests_use_cache", "cache_hits", "cache_misses")))
"""


def test_a_second_run_compiles_nothing(tmp_path):
  """Of another seed, in another workdir and process."""
  counts, lines = [], []
  for seed in (0, 1):
    workdir = tmp_path / f"run{seed}"
    done = subprocess.run(
      [sys.executable, "-c", SCRIPT, tmp_path / "cache", workdir, str(seed)],
      env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[1])},
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr
    counts.append([int(n) for n in done.stdout.split()[-3:]])
    text = (workdir / "metrics.jsonl").read_text().splitlines()
    lines.append([json.loads(line)["speed"] for line in text])
  (asked, hits, misses), (asked_again, hits_again, misses_again) = counts
  assert misses > 5 and hits + misses == asked
  assert misses_again == 0 and hits_again == asked_again > 5
  for first, second in lines:  # the step alone, before the first line
    assert first["compile_seconds"] > 0 and "compile_seconds" not in second


def test_memory_is_told_where_the_backend_does(monkeypatch):
  class Device:
    def memory_stats(self):
      return {"bytes_in_use": 3, "peak_bytes_in_use": 7}

  monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
  assert Meter(1).read() == {"device_bytes": 7}
  monkeypatch.setattr(Device, "memory_stats", lambda self: None)
  assert Meter(1).read() == {}


def traced(tmp_path, stage, first, last):
  """What is said of steps `first` to `last` of a stage, that may be traced."""
  said = []
  step = jax.jit(lambda x: x + 1)
  state = jnp.zeros(3)
  with monitoring.tracer(stage, tmp_path, said.append) as before:
    for number in range(first, last + 1):
      before(number, state)
      state = step(state)
  return said


def test_a_trace_holds_the_steps_asked_for_once(tmp_path):
  assert traced(tmp_path, "float", 1, 9) == []
  with monitoring.monitored(Options(trace=Span("search", 2, 3))):
    assert traced(tmp_path, "float", 1, 9) == []
    assert traced(tmp_path, "search-a", 4, 9) == []  # resumed too late
    assert not (tmp_path / "trace").exists()
    [said] = traced(tmp_path, "search-a", 1, 9)
    assert traced(tmp_path, "search-b", 1, 9) == []
  assert f"trace of steps 2 to 3 in {tmp_path / 'trace'}" in said
  assert list((tmp_path / "trace").rglob("*.xplane.pb"))
  assert traced(tmp_path, "search-a", 1, 9) == []


def test_a_trace_ends_with_its_stage(tmp_path):
  with monitoring.monitored(Options(trace=Span("", 2, 99))):
    [said] = traced(tmp_path, "float", 1, 4)
  assert "steps 2 to 4" in said


def events(directory):
  """{(step, name): value} of TensorBoard's files, and steps purged at."""
  from tensorboardX.proto.event_pb2 import Event, SessionLog

  found, purged = {}, set()
  for path in sorted(directory.iterdir()):
    content = path.read_bytes()
    while content:  # length, its checksum, an event, its checksum
      (length,) = struct.unpack("<Q", content[:8])
      event = Event.FromString(content[12 : 12 + length])
      content = content[16 + length :]
      for value in event.summary.value:
        found[event.step, value.tag] = value.simple_value
      if event.session_log.status == SessionLog.START:
        purged.add(event.step)
  return found, purged


def test_metrics_are_written_for_tensorboard_too(tmp_path):
  path = tmp_path / "metrics.jsonl"
  with monitoring.monitored(Options(tensorboard=True)):
    log = Log(path)
    log.write("float", 2, {"images_per_second": 8.0}, loss=0.5)
    log.write("float", 4, {}, loss=0.25)
    log.write("search", 2, {}, loss=4.0)
  with monitoring.monitored(Options(tensorboard=True)):  # resumed after step 2
    Log(path).write("float", 3, {}, loss=1.0)
  Log(path).write("float", 6, {}, loss=2.0)  # not asked for
  found, purged = events(tmp_path / "tensorboard/float")
  assert found == {
    (2, "loss"): 0.5,
    (2, "images_per_second"): 8.0,
    (4, "loss"): 0.25,
    (3, "loss"): 1.0,
  }
  assert purged == {2, 3}
  assert events(tmp_path / "tensorboard/search")[0] == {(2, "loss"): 4.0}
  lines = list(map(json.loads, path.read_text().splitlines()))
  assert len(lines) == 5 and lines[0] == {
    "stage": "float",
    "step": 2,
    "loss": 0.5,
    "speed": {"images_per_second": 8.0},
  }


def test_without_its_package_tensorboard_says_what_to_install(monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorboardX", None)
  with pytest.raises(ModuleNotFoundError, match=r"fbq\[monitoring\]"):
    monitoring.summary_writer()
