"""Steps that are given their batches see what they would draw themselves."""

import functools
import itertools
import threading
import types

import cifar_cases
import experiment_runs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fbq import backend
from fbq import config as config_lib
from fbq.data import in_memory, order, resident, sources
from fbq.lab import data, file_data, task
from fbq.model import Model
from fbq.train import feed, many, optimizer, steps
from fbq.train.log import Log
from fbq.train.loop import Diverged, Trainer, train
from tests.configs import tiny

STEPS, BATCH, IMAGES = 12, 6, 20  # an epoch ends within a batch
NET = tiny.separable(4)
RANDOM = np.random.default_rng(0)
PICTURES = RANDOM.random((IMAGES, *NET.input_shape), np.float32)
LABELS = (np.arange(IMAGES) % 10).astype(np.int32)


class Files:
  """Batches as files give them, and what was asked for."""

  def __init__(self, bad_step=None):
    self.bad_step = bad_step
    self.starts, self.rows, self.open = [], [], 0

  def batches(self, seed, start_step):
    self.starts.append((seed, start_step))
    self.open += 1
    try:
      for step in itertools.count(start_step):
        rows = order.samples(IMAGES, seed, order.places(step, BATCH))
        self.rows.append((step, rows.tolist()))
        images = PICTURES[rows]
        if step == self.bad_step:
          images = images * np.float32(np.nan)
        yield images, LABELS[rows]
    finally:
      self.open -= 1


@functools.cache
def trainer_of(sample):
  updates = optimizer.make(STEPS, 1e-2)
  return Trainer(
    Model(NET),
    steps.train_step(Model(NET), updates, ("params",), sample),
    sample,
    STEPS,
    lambda v: steps.initial_state(v, ("params",), updates),
    checkpoint_every=4,
    log_every=2,
  )


def fed_by(files, step=None):
  trainer = trainer_of(feed.as_given)
  return trainer._replace(
    step=step or trainer.step, feed=feed.from_host(files.batches)
  )


@functools.cache
def start():
  images = jnp.zeros((2, *NET.input_shape))
  init = jax.jit(lambda k: Model(NET).init(k, images, False))
  variables = init(jax.random.key(0))
  return {kind: variables[kind] for kind in ("params", "batch_stats")}


def run(directory, trainer, seed=5):
  directory.mkdir(exist_ok=True)
  variables, _ = train(
    "float",
    trainer,
    start(),
    {"key": jax.random.key(seed)},
    Log(directory / "metrics.jsonl"),
    directory / "float",
    "mine",
    finish=lambda v: {},
  )
  return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(variables)]


def test_batches_given_or_drawn_train_the_same_network(tmp_path):
  """The same images drawn in the step, from a table of every step's rows."""
  rows = np.stack(
    [order.samples(IMAGES, 5, order.places(n, BATCH)) for n in range(STEPS)]
  )
  keys = jnp.stack(
    [
      jax.random.key_data(
        jax.random.split(jax.random.fold_in(jax.random.key(5), n))[0]
      )
      for n in range(STEPS)
    ]
  )

  def sample(key):
    step = jnp.argmax((keys == jax.random.key_data(key)).all(1))
    of_step = jnp.asarray(rows)[step]
    return jnp.asarray(PICTURES)[of_step], jnp.asarray(LABELS)[of_step]

  files = Files()
  given = run(tmp_path / "given", fed_by(files))
  assert files.starts == [(5, 0)] and files.open == 0
  assert [r for _, r in files.rows[:STEPS]] == rows.tolist()
  drawn = run(tmp_path / "drawn", trainer_of(sample))
  for a, b in zip(given, drawn, strict=True):
    np.testing.assert_allclose(
      np.frombuffer(a, np.float32), np.frombuffer(b, np.float32), 1e-5, 1e-6
    )


def test_a_run_killed_within_an_epoch_sees_the_batches_left(tmp_path):
  whole_files, files = Files(), Files()
  whole = run(tmp_path / "whole", fed_by(whole_files))
  calls = itertools.count(1)

  def dies(*args):
    if next(calls) == 7:
      raise KeyboardInterrupt
    return trainer_of(feed.as_given).step(*args)

  with pytest.raises(KeyboardInterrupt):
    run(tmp_path / "cut", fed_by(files, dies))
  assert files.open == 0
  resumed = run(tmp_path / "cut", fed_by(files))
  assert files.starts == [(5, 0), (5, 4)]  # the checkpoint after 4 steps
  first = files.rows.index(whole_files.rows[4], 5)
  count = STEPS - 4
  assert files.rows[first : first + count] == whole_files.rows[4:STEPS]
  assert resumed == whole
  lines = [experiment_runs.metrics(tmp_path / d) for d in ("whole", "cut")]
  assert lines[0] == lines[1]


def test_a_bad_batch_is_found_by_repeating_the_steps_before_it(tmp_path):
  """Step 6 is bad, seen at step 8's check, repeated from step 6's state."""
  files = Files(bad_step=7)
  with pytest.raises(Diverged, match=r"step 8 is not finite.*: the images"):
    run(tmp_path, fed_by(files))
  assert files.starts == [(5, 0), (5, 6)] and files.open == 0


def test_runs_of_one_seed_together_read_their_batches_once(tmp_path):
  files = Files()
  runs = [{"key": jax.random.key(seed)} for seed in (5, 6, 5)]
  single = [run(tmp_path / f"{s}", fed_by(Files()), seed=s) for s in (5, 6)]
  ended = many.train_points(
    ["a", "b", "c"],
    fed_by(files),
    [start()] * 3,
    runs,
    Log(tmp_path / "metrics.jsonl"),
    [tmp_path / name for name in "abc"],
    ["mine"] * 3,
    [lambda v: {}] * 3,
    together=True,
  )
  ended = list(ended)
  assert sorted(files.starts) == [(5, 0), (6, 0)] and files.open == 0
  for (variables, _), expected in zip(
    ended, (single[0], single[1], single[0]), strict=True
  ):
    for leaf, bits in zip(jax.tree.leaves(variables), expected, strict=True):
      want = np.frombuffer(bits, np.float32).reshape(leaf.shape)
      np.testing.assert_allclose(leaf, want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_reading_ahead_keeps_the_order_and_ends_where_its_source_does(count):
  made = []

  def prepare(item):
    made.append((item, threading.current_thread()))
    return 10 * item

  with feed.read_ahead(range(4), prepare, count) as items:
    assert next(items) == 0
    assert list(items) == [10, 20, 30]
  assert [item for item, _ in made] == list(range(4))
  threads = {thread for _, thread in made}
  assert len(threads) == 1 and threading.current_thread() not in threads


def test_the_next_item_is_made_while_this_one_is_used():
  made, go_on = threading.Semaphore(0), threading.Event()

  def source():
    for item in range(3):
      made.release()
      yield item
      assert go_on.wait(30)

  with feed.read_ahead(source(), lambda x: x, 1) as items:
    go_on.set()
    assert next(items) == 0
    for _ in range(2):  # items 0 and 1, though 1 was not asked for
      assert made.acquire(timeout=30)


def test_an_error_comes_with_its_item_and_the_source_is_closed():
  closed = []

  def source():
    try:
      yield 1
      raise OSError("image 2 is damaged")
    finally:
      closed.append(threading.current_thread())

  with (
    pytest.raises(OSError, match="image 2 is damaged"),
    feed.read_ahead(source(), lambda x: x, 2) as items,
  ):
    assert next(items) == 1
    next(items)
  assert len(closed) == 1


def test_leaving_early_ends_the_thread_and_closes_the_source():
  before, closed = threading.active_count(), []

  def source():
    try:
      yield from itertools.count()
    finally:
      closed.append(True)

  with feed.read_ahead(source(), lambda x: x, 3) as items:
    assert [next(items) for _ in range(4)] == [0, 1, 2, 3]
  assert closed == [True] and threading.active_count() == before


def test_the_seed_of_a_run_is_that_of_its_key():
  assert feed.seed_of({"key": jax.random.key(7)}) == 7
  a, b = jax.random.split(jax.random.key(7))
  assert feed.seed_of({"key": a}) != feed.seed_of({"key": b})


# ---- Images on the device


def cifar(tmp_path, **more):
  directory = tmp_path / "cifar"
  if not directory.exists():
    cifar_cases.write(directory, "cifar10", "binary", 5, 4)
  rows = {"train": 5, "test": 4}
  data = dict(name="cifar10", directory=str(directory), batch_size=6)
  return types.SimpleNamespace(**data, rows=rows, **more)


NORMAL = dict(mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))


@pytest.mark.parametrize("settings", [{}, {"augment": False}, NORMAL], ids=str)
def test_batches_cut_on_the_device_are_the_hosts(settings, tmp_path):
  """Bit for bit, from any step on; pixels that are normalized too."""
  source = sources.source(cifar(tmp_path, **settings))
  held = source.resident()
  for start in (0, 3):
    fed = feed.from_device(feed.hold(held, None), held)
    with fed({"key": jax.random.key(7)}, start) as given:
      cuts = list(itertools.islice(given, 6))
    made = itertools.islice(source.batches(7, start), 6)
    for ((images, labels),), (expected, numbers) in zip(
      cuts, made, strict=True
    ):
      assert isinstance(images, jax.Array)
      np.testing.assert_array_equal(images, expected)
      np.testing.assert_array_equal(labels, numbers)
      assert (images.dtype, labels.dtype) == (np.float32, np.int32)


def test_pixels_around_an_image_are_black_on_the_device_too():
  """Every corner, both sides, against the host's crop."""
  corners = np.array([(r, c) for r in range(9) for c in range(9)] * 2)
  flips = np.repeat([False, True], 81)
  random = np.random.default_rng(0)
  images = random.integers(1, 256, (3, 8, 8, 2), dtype=np.uint8)
  rows = random.integers(0, 3, 162)
  numbers = np.tile(np.arange(256, dtype=np.float32)[:, None], 2)
  pixels = resident.Pixels(images, np.arange(3, dtype=np.int32), numbers)
  drawn = resident.Drawn(rows, corners, flips)
  found, labels = jax.jit(functools.partial(resident.cut, padding=4))(
    pixels, drawn
  )
  expected = in_memory.augment(images[rows], corners, flips)
  np.testing.assert_array_equal(found, expected)
  np.testing.assert_array_equal(labels, rows)


def test_files_lie_on_the_device_where_they_fit(tmp_path, monkeypatch):
  """The same batches either way."""
  given = vars(cifar(tmp_path))
  del given["batch_size"]
  settings = config_lib.of(file_data.CifarSettings, given)
  found = []
  for cpu, limit in ((True, 10**6), (False, 10**6), (False, 22 * 3072 - 1)):
    monkeypatch.setattr(backend, "is_cpu", lambda cpu=cpu: cpu)
    made = data.build(
      settings.with_(device_bytes=limit), tiny.separable(4, 32, 3)
    )
    with monkeypatch.context() as patch:
      held = []
      hold = feed.hold
      patch.setattr(
        feed,
        "hold",
        lambda *a, hold=hold, held=held: held.append(1) or hold(*a),
      )
      sample, fed = made.draws(6, None)
    assert len(held) == (not cpu and limit == 10**6)
    with fed({"key": jax.random.key(2)}, 3) as steps_given:
      found.append([sample(None, *next(steps_given)) for _ in range(4)])
  for other in found[1:]:
    jax.tree.map(np.testing.assert_array_equal, found[0], other)


def test_arrays_lie_on_the_device_where_they_fit(monkeypatch):
  pictures = np.random.default_rng(0).integers(
    0, 256, (11, 4, 4, 1), dtype=np.uint8
  )
  split = pictures, np.arange(11) % 3
  made = task.from_arrays(split, split, 3)
  large = task.from_arrays(split, split, 3, device_bytes=9 * 16 - 1)
  batches = []
  for where, cpu in ((made, True), (made, False), (large, False)):
    monkeypatch.setattr(backend, "is_cpu", lambda cpu=cpu: cpu)
    held = []
    hold = feed.hold
    monkeypatch.setattr(
      feed, "hold", lambda *a, hold=hold, held=held: held.append(1) or hold(*a)
    )
    for _ in range(2):  # two stages, one copy
      sample, fed = where.draws(4, None)
    assert len(held) == (where is made and not cpu)
    monkeypatch.setattr(feed, "hold", hold)
    with fed({"key": jax.random.key(2)}, 1) as given:
      batches.append([sample(None, *g) for g in itertools.islice(given, 5)])
  for other in batches[1:]:
    for expected, found in zip(batches[0], other, strict=True):
      for a, b in zip(expected, found, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
