"""Claims: one wins, the dead are replaced, clocks are not believed."""

import fcntl
import json
import os
import socket
import time

import launch_runs
import pytest

from launch.claims import ClaimLost, Claims, machine_name

HOUR_NS = 3600 * 10**9


def here(tmp_path, machine="here", heartbeat_s=0.05, stale_s=0.2):
  return Claims(tmp_path, heartbeat_s, stale_s, machine)


def touch(claim, shift_ns):
  """A heartbeat of a claim, stamped by a clock that is wrong."""
  now = time.time_ns() + shift_ns
  os.utime(claim.path, ns=(now, now))


def outcomes(path):
  return [json.loads(text) for text in path.read_text().splitlines()[1:]]


def test_a_claim_is_held_until_it_ends(tmp_path):
  claims = here(tmp_path)
  assert claims.last("a") is None and claims.is_free(None)
  claim = claims.acquire("a")
  claim.beat()
  assert claims.acquire("a") is None
  assert here(tmp_path).acquire("a") is None  # the lock counts, not the object
  other = claims.acquire("b")
  owner = claims.last("a").owner
  assert owner["pid"] == os.getpid() and owner["host"] == socket.gethostname()
  claim.end("failed", error="no luck")
  assert claims.last("a").outcome == {"outcome": "failed", "error": "no luck"}
  again = claims.acquire("a")
  assert claims.last("a").number == 2 and again.path.name == "a.2"
  for held in (again, other):
    held.beat()
    held.end("done")
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {"a.1", "a.2", "b.1"}  # nothing private is left


def test_a_dead_owner_on_this_machine_is_replaced_at_once(tmp_path):
  claim = here(tmp_path).acquire("a")
  os.close(claim.descriptor)  # as the kernel does when a process dies
  touch(claim, HOUR_NS)  # heartbeats do not count here
  again = here(tmp_path).acquire("a")
  assert again is not None
  with pytest.raises(ClaimLost):
    claim.beat()
  (left,) = outcomes(claim.path)
  assert left["outcome"] == "taken over"
  again.end("done")


def test_a_suspended_owner_on_this_machine_is_not_replaced(tmp_path):
  claim = here(tmp_path).acquire("a")
  touch(claim, -HOUR_NS)
  claims = here(tmp_path)
  deadline = time.monotonic() + 0.5
  while time.monotonic() < deadline:
    assert not claims.is_free(claims.last("a"))
    time.sleep(0.02)
  claim.end("done")


def seconds_until_free(claims):
  """Seconds that a claim had to be watched until it was free."""
  start = time.monotonic()
  assert not claims.is_free(claims.last("a"))  # nobody is dead at first sight
  while time.monotonic() - start < 20:
    if claims.is_free(claims.last("a")):
      return time.monotonic() - start
    time.sleep(0.005)
  raise AssertionError("never free")


@pytest.mark.parametrize("skew_ns", [-HOUR_NS, 0, HOUR_NS])
def test_clocks_an_hour_apart_never_cost_a_live_owner_its_claim(
  tmp_path, skew_ns
):
  """Heartbeats come, however old or young they look."""
  claim = here(tmp_path, heartbeat_s=5, stale_s=20).acquire("a")
  claims = here(tmp_path, "another")
  deadline = time.monotonic() + 0.3
  while time.monotonic() < deadline:
    touch(claim, skew_ns)
    assert not claims.is_free(claims.last("a"))
    assert claims.acquire("a") is None
    time.sleep(0.02)
  claim.beat()
  claim.end("done")


@pytest.mark.parametrize("skew_ns", [-HOUR_NS, 0, HOUR_NS])
def test_clocks_an_hour_apart_never_keep_a_dead_owners_claim(tmp_path, skew_ns):
  claim = here(tmp_path).acquire("a")
  touch(claim, skew_ns)
  claims = here(tmp_path, "another")
  waited_s = seconds_until_free(claims)
  # Two heartbeats if it looks old, the whole stale time if it looks young.
  assert waited_s >= (0.2 if skew_ns > 0 else 0.1)
  if skew_ns < 0:
    slow = here(tmp_path, "another", stale_s=1000)
    owner = json.loads(claim.path.read_text())
    assert owner["stale_s"] == 0.2  # the owner's word counts, not slow's
    seconds_until_free(slow)
  taken = claims.acquire("a")
  with pytest.raises(ClaimLost):
    claim.beat()
  taken.beat()
  taken.end("done")


def test_an_owner_that_wakes_during_the_takeover_and_the_taker_both_stop(
  tmp_path, monkeypatch
):
  """Never two at once, even then; the point is free afterwards."""
  claim = here(tmp_path).acquire("a")
  claims = here(tmp_path, "another")
  touch(claim, -HOUR_NS)
  seconds_until_free(claims)
  make = Claims._make

  def late(self, *args):
    touch(claim, 0)
    return make(self, *args)

  monkeypatch.setattr(Claims, "_make", late)
  assert claims.acquire("a") is None
  monkeypatch.undo()
  with pytest.raises(ClaimLost):
    claim.beat()
  assert claims.last("a").outcome == {"outcome": "withdrawn"}
  assert claims.acquire("a").path.name == "a.3"


def test_a_stale_claim_that_another_process_found_is_taken(tmp_path):
  claim = here(tmp_path).acquire("a")
  claims = here(tmp_path, "another")
  assert claims.acquire("a", claims.last("a").touched_ns - 1) is None
  assert claims.acquire("a", claims.last("a").touched_ns) is not None
  with pytest.raises(ClaimLost):
    claim.beat()


def test_a_damaged_or_half_written_claim_counts_as_a_strangers(tmp_path):
  (tmp_path / "a.1").write_bytes(b'{"machine": "he')
  claims = here(tmp_path)
  assert seconds_until_free(claims) >= 0.1
  assert claims.acquire("a").path.name == "a.2"


def test_half_an_outcome_is_none(tmp_path):
  claim = here(tmp_path).acquire("a")
  with claim.path.open("a") as file:
    file.write('{"outcome": "do')
  assert here(tmp_path).last("a").outcome is None
  claim.beat()


def test_a_claim_is_locked_before_it_has_its_name(tmp_path, monkeypatch):
  """Otherwise another would find it, unlocked, and take it for a dead one's."""
  link, found = os.link, []

  def looks(source, target):
    link(source, target)
    found.append(here(tmp_path).is_free(here(tmp_path).last("a")))

  monkeypatch.setattr(os, "link", looks)
  assert here(tmp_path).acquire("a") is not None
  assert found == [False]


def test_without_locks_heartbeats_count(tmp_path, monkeypatch):
  def no_locks(*_):
    raise OSError(37, "No locks available")

  monkeypatch.setattr(fcntl, "flock", no_locks)
  claim = here(tmp_path).acquire("a")
  claims = here(tmp_path)
  assert seconds_until_free(claims) >= 0.1
  claim.end("done")


def test_a_link_whose_answer_was_lost_counts(tmp_path, monkeypatch):
  """A file server that gets a request twice says the second time: exists."""
  link = os.link

  def twice(source, target):
    link(source, target)
    link(source, target)

  monkeypatch.setattr(os, "link", twice)
  assert here(tmp_path).acquire("a") is not None


def test_a_disk_without_links_or_space_is_an_error_and_leaves_nothing(
  tmp_path, monkeypatch
):
  def refuse(*_):
    raise OSError(95, "Operation not supported")

  for name in ("link", "write"):
    with monkeypatch.context() as patch:
      patch.setattr(os, name, refuse)
      with pytest.raises(OSError, match="not supported"):
        here(tmp_path).acquire("a")
  assert list(tmp_path.iterdir()) == []


def test_stale_times_are_checked(tmp_path):
  with pytest.raises(ValueError, match="at least 4 heartbeats"):
    Claims(tmp_path, 10, 30)


CONTENDER = """
import pathlib, sys, time
from launch.claims import Claims
directory, machine, count = pathlib.Path(sys.argv[1]), sys.argv[2], 30
claims = Claims(directory, 0.02, 60, machine)
print("ready", flush=True)
while not (directory / "go").exists():
  time.sleep(0.001)
held = []
deadline = time.monotonic() + 20
while time.monotonic() < deadline:
  for i in range(count):
    claim = claims.acquire(f"p{i}")
    if claim:
      held.append(i)
  if all(claims.last(f"p{i}").number > 1 for i in range(count)):
    break
print(*held)
time.sleep(60)  # the others must find the claims locked, or fresh
"""


@pytest.mark.parametrize("machines", ["one machine", "8 machines"])
def test_each_of_30_stale_claims_goes_to_exactly_one_of_8_contenders(
  tmp_path, machines
):
  """Dead owners on this machine, or silent ones elsewhere."""
  one = machines == "one machine"
  for i in range(30):
    claim = Claims(tmp_path, 0.02, 0.1, "m" if one else "dead").acquire(f"p{i}")
    os.close(claim.descriptor)
  contenders = [
    launch_runs.start(
      ["-c", CONTENDER, tmp_path, "m" if one else f"machine {n}"]
    )
    for n in range(8)
  ]
  try:
    for contender in contenders:
      assert contender.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    held = [list(map(int, c.stdout.readline().split())) for c in contenders]
  finally:
    launch_runs.end_all()
  assert sorted(i for each in held for i in each) == list(range(30))
  assert not list(tmp_path.glob("*.3"))
  assert len(list(tmp_path.glob("*.2"))) == 30
  assert not list(tmp_path.glob(".*.probe"))


def test_this_machine_has_one_name():
  assert machine_name() == machine_name() != ""
