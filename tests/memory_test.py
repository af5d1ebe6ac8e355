"""A device without memory left: the message says what to lower."""

import functools

import jax
import pytest
from feed_test import Files, fed_by, run, start

from fbq.train import many, memory, points
from fbq.train.log import Log
from fbq.train.memory import OutOfMemory


def full(*_):
  raise jax.errors.JaxRuntimeError(
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 81.2GiB."
  )


def test_a_training_that_does_not_fit_is_named_with_its_batch(tmp_path):
  expected = (
    "^float: the device has not enough memory for 6 images a step; lower the "
    "batch_size of this stage, or set its compute_dtype to 'bfloat16'$"
  )
  with pytest.raises(OutOfMemory, match=expected):
    run(tmp_path, fed_by(Files(), step=full)._replace(batch_size=6))


def test_runs_that_do_not_fit_together_are_counted(tmp_path, monkeypatch):
  monkeypatch.setattr(points, "points_step", lambda *_: full)
  found = many.train_points(
    ["a", "b"],
    fed_by(Files())._replace(batch_size=6),
    [start()] * 2,
    [{"key": jax.random.key(5)}] * 2,
    Log(tmp_path / "metrics.jsonl"),
    [tmp_path / "a", tmp_path / "b"],
    ["mine"] * 2,
    [lambda v: {}] * 2,
    together=True,
  )
  with pytest.raises(OutOfMemory, match="^a: .* for 2 runs of 6 images a step"):
    list(found)


def test_other_errors_stay_what_they_are():
  with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
    with memory.told("float", "6 images", "lower it"):
      raise jax.errors.JaxRuntimeError("INTERNAL: something else")


def test_as_many_runs_as_fit_are_trained_at_once(monkeypatch):
  """By the memory that XLA says the program takes."""
  trainer, runs = fed_by(Files()), [{"key": jax.random.key(5)}] * 5
  needed = functools.partial(many.needed_bytes, trainer, [start()] * 5, runs)
  assert many.runs_at_once(trainer, [start()] * 5, runs) == 5
  one, three, five = (needed(count) for count in (1, 3, 5))
  assert one < three < five
  for room, count in ((five, 5), (five - 1, 3), (three - 1, 2), (1, 1)):
    monkeypatch.setattr(many, "room", lambda room=room: room)
    assert many.runs_at_once(trainer, [start()] * 5, runs) == count
