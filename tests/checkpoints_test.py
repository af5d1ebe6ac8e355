"""Checkpoints come back bit for bit, or are refused by name."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fbq.model import Model
from fbq.train import optimizer, steps
from fbq.train.checkpoints import CheckpointError, Checkpoints
from fbq.train.log import Log
from fbq.train.loop import Trainer, train
from tests.configs import tiny

RESULTS = {"test_accuracy": 1 / 3, "count": 7}


def state_of(seed):
  """A state like that of a search, with numbers that are hard to print."""
  random = np.random.default_rng(seed)

  def numbers(*shape):
    return jnp.asarray(random.normal(size=shape), jnp.float32) / 3

  variables = {
    "params": {"kernel": numbers(3, 3, 4), "bias": numbers(4)},
    "batch_stats": {"norm": {"mean": numbers(4), "var": jnp.full(4, 1e-38)}},
    "ranges": {"a.out": jnp.float32(0.1), "kernel.weight": numbers(4)},
    "gates": {"logits": jnp.float32([[np.inf, -0.0], [np.nan, 1e-45]])},
  }
  updates = optimizer.make(10, 0.1, gate_learning_rate=0.1)
  state = steps.initial_state(variables, ("params", "gates"), updates)
  return state._replace(step=jnp.int32(seed), first_bad_step=jnp.int32(-1))


def same(found, expected):
  """Equal in structure, types, shapes and every bit."""
  a, b = (jax.tree.flatten(tree) for tree in (found, expected))
  return a[1] == b[1] and all(
    np.asarray(x).dtype == np.asarray(y).dtype
    and np.shape(x) == np.shape(y)
    and np.asarray(x).tobytes() == np.asarray(y).tobytes()
    for x, y in zip(a[0], b[0], strict=True)
  )


def write(directory, *seeds, fingerprint="mine"):
  """Saves a state for each seed, the number of its step."""
  checkpoints = Checkpoints(directory, fingerprint)
  for seed in seeds:
    checkpoints.save(seed, state_of(seed), RESULTS)
  checkpoints.close()


def read(directory, fingerprint="mine", like=None):
  """(step, state, results) of the newest checkpoint."""
  checkpoints = Checkpoints(directory, fingerprint)
  try:
    step = checkpoints.latest()
    like = state_of(0) if like is None else like
    return step, *checkpoints.restore(step, like)
  finally:
    checkpoints.close()


@pytest.fixture(scope="module")
def good(tmp_path_factory):
  """A directory with one checkpoint, of step 4; not to be written to."""
  directory = tmp_path_factory.mktemp("good") / "stage"
  write(directory, 4)
  return directory


def test_state_and_results_come_back_bit_for_bit(good):
  step, state, results = read(good)
  assert step == 4
  assert isinstance(state, steps.State)
  assert same(state, state_of(4))
  assert results == RESULTS


def test_restored_state_compiles_nothing_new(good):
  """Arrays made of it have the types, also weak ones, of a state at start."""
  _, state, _ = read(good)
  state = jax.tree.map(jnp.array, state)
  for found, made in zip(
    jax.tree.leaves(state), jax.tree.leaves(state_of(4)), strict=True
  ):
    assert found.aval == made.aval


def test_scalars_mixed_types_and_empty_states(tmp_path):
  state = {
    "bool": np.bool_(True),
    "half": jnp.asarray([0.1, -2], jnp.bfloat16),
    "bytes": np.arange(5, dtype=np.uint8),
    "nothing": optax.EmptyState(),
    "none": np.zeros((0, 3), np.float32),
    "count": jnp.int32(2**31 - 1),
  }
  checkpoints = Checkpoints(tmp_path / "stage", "mine")
  checkpoints.save(1, state, {})
  found, results = checkpoints.restore(1, state)
  checkpoints.close()
  assert same(found, state) and results == {}


def test_newest_is_kept(tmp_path):
  directory = tmp_path / "stage"
  checkpoints = Checkpoints(directory, "mine")
  assert checkpoints.latest() is None
  for seed in (2, 10, 20):
    checkpoints.save(seed, state_of(seed), RESULTS)
    assert checkpoints.latest() == seed
  checkpoints.close()
  assert [path.name for path in directory.iterdir()] == ["20"]
  step, state, _ = read(directory)
  assert step == 20 and same(state, state_of(20))


def files_of(directory):
  return sorted(p for p in directory.rglob("*") if p.is_file())


def flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 0x10
  path.write_bytes(data)


def truncate(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
  path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip, truncate, empty, "unlink"])
def test_each_damaged_file_is_refused_or_was_not_needed(good, tmp_path, damage):
  """Orbax keeps books that restoring does not need; all else is refused."""
  refused = []
  for file in files_of(good):
    if damage is flip and not file.stat().st_size:
      continue
    directory = tmp_path / "stage"
    shutil.copytree(good, directory)
    path = directory / file.relative_to(good)
    path.unlink() if damage == "unlink" else damage(path)
    try:
      step, state, results = read(directory)
      assert step == 4 and same(state, state_of(4)) and results == RESULTS
    except CheckpointError as error:
      message = str(error)
      assert str(directory / "4") in message and "is damaged" in message
      assert "delete it" in message and "\n" not in message
      refused.append("/".join(path.parts[len(directory.parts) + 1 :][:2]))
    shutil.rmtree(directory)
  assert {"notes/metadata", "state/d", "state/manifest.ocdbt"} <= {*refused}


def test_every_byte_of_the_notes_counts(good, tmp_path):
  """Accuracies are beside the state: a digit of one must not change unseen."""
  file = good / "4/notes/metadata"
  content = file.read_bytes()
  assert b"0.3333333333333333" in content
  for place in range(0, len(content), 7):
    directory = tmp_path / "stage"
    shutil.copytree(good, directory)
    changed = bytearray(content)
    changed[place] ^= 1
    (directory / "4/notes/metadata").write_bytes(changed)
    with pytest.raises(CheckpointError, match="stage/4"):
      read(directory)
    shutil.rmtree(directory)


@pytest.mark.parametrize("item", ["notes", "state", "state/d"])
def test_a_missing_directory_is_refused(good, tmp_path, item):
  directory = tmp_path / "stage"
  shutil.copytree(good, directory)
  shutil.rmtree(directory / "4" / item)
  with pytest.raises(CheckpointError, match="stage/4 is damaged"):
    read(directory)


def test_an_empty_step_is_refused_not_ignored(good, tmp_path):
  directory = tmp_path / "stage"
  shutil.copytree(good, directory)
  (directory / "9").mkdir()
  with pytest.raises(CheckpointError, match="stage/9 is damaged"):
    read(directory)


def test_a_foreign_checkpoint_is_refused(good):
  with pytest.raises(CheckpointError, match="another run.*mine.*yours") as e:
    read(good, fingerprint="yours")
  assert str(good / "4") in str(e.value)


@pytest.mark.parametrize(
  "change",
  [
    lambda s: s._replace(step=jnp.float32(0)),  # as many bytes
    lambda s: s._replace(first_bad_step=jnp.zeros(1, jnp.int32)),
    lambda s: s._replace(variables={**s.variables, "more": jnp.ones(3)}),
    lambda s: s._replace(opt_state=()),
  ],
  ids=["type", "shape", "more", "fewer"],
)
def test_a_state_of_another_form_is_refused(good, change):
  with pytest.raises(CheckpointError, match="stage/4 is damaged"):
    read(good, like=change(state_of(4)))


def test_half_written_checkpoints_are_ignored_and_removed(
  tmp_path, monkeypatch
):
  """What a kill in the middle of a save leaves, before orbax renames it."""
  directory = tmp_path / "stage"
  write(directory, 4)

  class Killed(BaseException):
    pass

  def die(*_, **__):
    raise Killed

  with monkeypatch.context() as patch:
    patch.setattr("os.rename", die)
    patch.setattr("pathlib.Path.rename", die)
    with pytest.raises(Killed):
      write(directory, 8)
  left = {path.name for path in directory.iterdir()}
  assert "4" in left and "8" not in left and len(left) == 2
  step, state, _ = read(directory)
  assert step == 4 and same(state, state_of(4))
  write(directory, 12)  # waits for what orbax removes in a thread
  assert {path.name for path in directory.iterdir()} == {"12"}


def test_a_kill_while_the_old_checkpoint_is_removed_does_no_harm(tmp_path):
  directory = tmp_path / "stage"
  write(directory, 4)
  shutil.copytree(directory / "4", tmp_path / "old")
  write(directory, 8)
  shutil.copytree(tmp_path / "old", directory / "4")
  shutil.rmtree(directory / "4/state/d")  # half removed
  step, state, _ = read(directory)
  assert step == 8 and same(state, state_of(8))
  write(directory, 12)
  assert {path.name for path in directory.iterdir()} == {"12"}


def test_a_full_disk_is_told_and_costs_2_of_6_steps(small_disk):
  """The checkpoint of step 2 stays; that of step 4 finds no place."""
  made, ballast = [], small_disk / "ballast"

  def step(state, run):
    made.append(int(state.step) + 1)
    if made == [1, 2, 3]:
      with ballast.open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
          file.write(bytes(4096))
    return advanced(state), metrics

  @jax.jit
  def advanced(state):
    variables = jax.tree.map(lambda x: x * 1.5 + 1, state.variables)
    return state._replace(step=state.step + 1, variables=variables)

  metrics = {"loss": jnp.float32(1), "accuracy": jnp.float32(0)}
  start = {"params": {"kernel": jnp.arange(50_000, dtype=jnp.float32)}}
  trainer = Trainer(
    Model(tiny.separable(4)),
    step,
    lambda key: None,
    6,
    lambda v: steps.initial_state(v, (), optax.identity()),
    checkpoint_every=2,
    log_every=2,
  )

  def run():
    log = Log(small_disk.parent / "metrics.jsonl")
    directory = small_disk / "stage"
    return train("a", trainer, start, {}, log, directory, "mine", lambda v: {})

  with pytest.raises(CheckpointError, match="stage/4 cannot be written.*free"):
    run()
  assert made == [1, 2, 3, 4]
  ballast.unlink()
  found, _ = run()
  assert made == [1, 2, 3, 4, 3, 4, 5, 6]
  expected = np.arange(50_000, dtype=np.float32)
  for _ in range(6):
    expected = expected * np.float32(1.5) + 1
  np.testing.assert_allclose(found["params"]["kernel"], expected, rtol=1e-6)
  assert [path.name for path in (small_disk / "stage").iterdir()] == ["6"]
