"""Who runs a point: one file per attempt, made once and never taken away.

    claims/<id>.1, claims/<id>.2, ...

The last number is the attempt that counts. A file comes into being with its
content and locked, by a hard link, so of any number of contenders for one
number one wins. A claim is taken over by making the next number. Renaming or
deleting a stale claim instead would not do: a contender that found it stale and
was then held up would rename the fresh claim that another put in its place.

A claim is free when its outcome stands in it or when its owner is dead. Of an
owner on this machine the kernel knows: the worker and its run hold a lock
(flock) on the file until the last of them is gone. An owner elsewhere has to
touch the file every `heartbeat_s`. No clocks of two machines are compared. The
age of a heartbeat is its time against that of a file made in the same directory
now; and since some file systems stamp files with the clock of the client, a
claim counts as stale only if in addition the heartbeat did not change while
this process watched for two periods, or if it did not change for `stale_s`,
whatever its age.

Needs a directory that all machines share, with hard links and, as local disks
and NFS have it, an open that sees what others wrote before: no object store.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HEARTBEAT_S, STALE_S = 10.0, 120.0


class ClaimLost(RuntimeError):
  """Another worker has taken the claim over: stop the run at once."""


@dataclasses.dataclass(frozen=True)
class Attempt:
  """What the file of an attempt tells.

  Attributes:
    number: from 1.
    owner: machine, host, pid and the like; empty if the file is damaged.
    outcome: how it ended, e.g. {"outcome": "failed", "error": ...}, or None.
    touched_ns: time of the last heartbeat, by the clock of the file server.
  """

  path: Path
  number: int
  owner: Mapping[str, Any]
  outcome: Mapping[str, Any] | None
  touched_ns: int


class Claims:
  """The claims on the points of one sweep, as one process sees them.

  Args:
    directory: shared by all who run points.
    heartbeat_s: period in which owners touch their claims.
    stale_s: silence after which a claim from elsewhere is taken over.
    machine: name of this machine, for tests.
  """

  def __init__(
    self,
    directory: Path,
    heartbeat_s: float = HEARTBEAT_S,
    stale_s: float = STALE_S,
    machine: str | None = None,
  ):
    if not 0 < 4 * heartbeat_s <= stale_s:
      raise ValueError(
        f"stale_s is {stale_s} and heartbeat_s {heartbeat_s}, expected "
        "stale_s to be at least 4 heartbeats"
      )
    self.directory = directory
    self.heartbeat_s, self.stale_s = heartbeat_s, stale_s
    self.machine = machine or machine_name()
    self._watched: dict[Path, tuple[int, float]] = {}

  def last(self, point_id: str) -> Attempt | None:
    """The attempt that counts, or None before the first."""
    found = None
    number = 1
    while (attempt := self._read(point_id, number)) is not None:
      found, number = attempt, number + 1
    return found

  def is_free(self, attempt: Attempt | None) -> bool:
    """Whether the point of an attempt may be claimed.

    For an owner elsewhere it takes several calls, over the time that a claim
    is watched, until the answer is yes.
    """
    if attempt is None or attempt.outcome is not None:
      return True
    if attempt.owner.get("machine") == self.machine:
      locked = _is_locked(attempt.path)
      if locked is not None:
        return not locked
    return self._is_silent(attempt)

  def age_s(self, attempt: Attempt) -> float:
    """Seconds since the last heartbeat, by the clock of the file server."""
    probe = self.directory / f".{_token()}.probe"
    try:
      probe.touch()
      return (probe.stat().st_mtime_ns - attempt.touched_ns) / 1e9
    finally:
      probe.unlink(missing_ok=True)

  def acquire(
    self, point_id: str, stale_ns: int | None = None
  ) -> "Claim | None":
    """The claim on a point, or None if another has it.

    Args:
      stale_ns: heartbeat of a claim that was found stale by another process.

    Raises:
      OSError: the directory cannot be written, the disk is full, or its file
        system has no hard links.
    """
    before = self.last(point_id)
    vouched = before is not None and before.touched_ns == stale_ns
    if not vouched and not self.is_free(before):
      return None
    number = before.number + 1 if before else 1
    claim = self._make(point_id, number)
    if claim is None or before is None or before.outcome is not None:
      return claim
    if self._read(point_id, before.number) != before:
      claim.end("withdrawn")  # the owner lives: it sees this claim and stops
      return None
    _append(before.path, {"outcome": "taken over", "by": socket.gethostname()})
    return claim

  def _path(self, point_id, number):
    return self.directory / f"{point_id}.{number}"

  def _read(self, point_id, number):
    path = self._path(point_id, number)
    try:
      with path.open("rb") as file:
        touched_ns = os.fstat(file.fileno()).st_mtime_ns
        lines = file.read().split(b"\n")[:-1]  # whole ones
    except FileNotFoundError:
      return None
    entries = []
    for line in lines:
      with contextlib.suppress(ValueError, TypeError):
        entries.append(dict(json.loads(line)))
    owner = entries[0] if entries else {}
    outcome = entries[1] if len(entries) > 1 else None
    return Attempt(path, number, owner, outcome, touched_ns)

  def _make(self, point_id, number):
    """The claim with this number unless another was first."""
    self.directory.mkdir(parents=True, exist_ok=True)
    private = self.directory / f".{_token()}.claiming"
    descriptor = os.open(private, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    owner = {
      "host": socket.gethostname(),
      "pid": os.getpid(),
      "started": time.strftime("%Y-%m-%d %H:%M:%S"),
      "heartbeat_s": self.heartbeat_s,
      "stale_s": self.stale_s,
    }
    try:
      with contextlib.suppress(OSError):  # without locks: heartbeats alone
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        owner["machine"] = self.machine
      data = f"{json.dumps(owner)}\n".encode()
      if os.write(descriptor, data) != len(data):
        raise OSError(f"{private}: no space left")
      os.fsync(descriptor)  # for an open on another machine; it stays open here
      path = self._path(point_id, number)
      try:
        os.link(private, path)
      except FileExistsError:
        # A repeated request to a file server finds its own link there.
        if os.fstat(descriptor).st_nlink != 2:
          os.close(descriptor)
          return None
    except OSError:
      os.close(descriptor)
      raise
    finally:
      private.unlink()
    return Claim(path, self._path(point_id, number + 1), descriptor)

  def _is_silent(self, attempt):
    """Whether the owner of a claim from elsewhere has been heard no more."""
    heartbeat_s = attempt.owner.get("heartbeat_s", self.heartbeat_s)
    stale_s = attempt.owner.get("stale_s", self.stale_s)
    now = time.monotonic()
    touched_ns, since = self._watched.get(attempt.path, (None, now))
    if touched_ns != attempt.touched_ns:
      self._watched[attempt.path], since = (attempt.touched_ns, now), now
    quiet_s = now - since
    if quiet_s >= stale_s:
      return True
    return quiet_s >= 2 * heartbeat_s and self.age_s(attempt) >= stale_s


class Claim:
  """A claim that this process holds until `end`.

  Attributes:
    path: its file.
    descriptor: of that file; a run that inherits it keeps the claim locked.
  """

  def __init__(self, path: Path, following: Path, descriptor: int):
    self.path, self.descriptor = path, descriptor
    self._following = following

  def beat(self) -> None:
    """Tells the others that this process is alive.

    Raises:
      ClaimLost: another has taken over.
    """
    with contextlib.suppress(FileNotFoundError):
      with self.path.open("rb") as file:  # opening asks the file server
        if file.read().count(b"\n") == 1 and not self._following.exists():
          os.utime(self.descriptor)
          return
    raise ClaimLost(f"{self.path} was taken over")

  def end(self, outcome: str, **details: Any) -> None:
    """Gives the claim up and leaves word of how it ended."""
    try:
      _append(self.path, {"outcome": outcome, **details})
    finally:
      os.close(self.descriptor)


def machine_name() -> str:
  """A name that no other machine has.

  On Linux that of its last boot: other ids are copied with images of disks.
  """
  with contextlib.suppress(OSError):
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
  import uuid

  return f"{socket.gethostname()} {uuid.getnode()}"


def _append(path, entry):
  line = f"{json.dumps(entry)}\n".encode()
  descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
  try:
    os.write(descriptor, line)
  finally:
    os.close(descriptor)


def _is_locked(path):
  """Whether a process of this machine holds the claim; None if unknown."""
  try:
    with path.open("rb") as file:
      fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
      return False
  except BlockingIOError:
    return True
  except OSError:
    return None


def _token():
  return os.urandom(8).hex()
