"""What a run tells of its speed is right, and where it was asked for."""

import json
import struct
import sys

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
