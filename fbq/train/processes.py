"""Several processes that train as one: how they meet, share and part.

All run the same experiment and take the same steps. Process 0 alone keeps the
workdir; the others have a copy of its small files in a directory that is thrown
away, in which they find what it finds and write what nobody reads.

jax's own watch over processes ends the survivors of a killed one by an abort
with a stack trace, or after minutes. Here every process holds a connection to
process 0, which the kernel closes the moment one dies: that is told at once.
"""

import contextlib
import os
import pickle
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

LOST = 75  # exit status where another process is gone: sysexits' "try again"
_GOODBYE = b"."
_CURE = (
  "Start all processes again by the same command: the run goes on from its "
  "last checkpoint."
)


class Job(NamedTuple):
  """Where a process meets the others.

  Attributes:
    address: "host:port" of process 0, None for what jax finds by itself.
    index: number of this process, from 0.
    count: number of all processes.
  """

  address: str | None = None
  index: int | None = None
  count: int | None = None


def job(given: str, environment=os.environ) -> Job | None:
  """What a flag or the environment says of other processes; None of none.

  Args:
    given: "HOST:PORT,INDEX,COUNT"; "auto" for what jax finds by itself (Slurm,
      Open MPI, Cloud TPU); "" asks the environment: JAX_COORDINATOR_ADDRESS
      with JAX_PROCESS_ID and JAX_NUM_PROCESSES, or a Slurm step of several
      tasks.

  Raises:
    ValueError: neither of these.
  """
  if given == "auto":
    return Job()
  if not given:
    names = ("COORDINATOR_ADDRESS", "PROCESS_ID", "NUM_PROCESSES")
    values = [environment.get(f"JAX_{name}", "") for name in names]
    if not values[0]:
      several = int(environment.get("SLURM_STEP_NUM_TASKS") or 1) > 1
      return Job() if several else None
    given = ",".join(values)
  address, *numbers = given.split(",")
  host, _, port = address.rpartition(":")
  whole = len(numbers) == 2 and all(n.isdigit() for n in (port, *numbers))
  if not (host and whole and int(numbers[0]) < int(numbers[1])):
    raise ValueError(
      f"--distributed is {given!r}, expected 'auto' or HOST:PORT,INDEX,COUNT "
      "with an index from 0 to COUNT - 1"
    )
  return Job(address, *map(int, numbers))


@contextlib.contextmanager
def joined(which: Job | None) -> Iterator[None]:
  """Within, this process is one of several, if there is a job.

  Ends this process with status `LOST`, wherever it is, when another one dies
  before the block is left; and without waiting for others when the block is
  left by an error.
  """
  if which is None:
    yield
    return
  # Otherwise the death of process 0 aborts all others.
  jax.config.update("jax_enable_recoverability", True)
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  jax.distributed.initialize(which.address, which.count, which.index)
  if jax.process_count() == 1:
    yield
    return
  wait = _watch(which.address)
  try:
    yield
  except BaseException as error:
    if not isinstance(error, (SystemExit, KeyboardInterrupt)):
      time.sleep(1)  # a lost process may be its cause: the watch says it better
      traceback.print_exc()
    elif isinstance(error, SystemExit) and isinstance(error.code, str):
      print(error.code, file=sys.stderr)
    _end(1)
  wait()
  jax.distributed.shutdown()


def from_first(make: Callable[[], Any]) -> Any:
  """What `make()` gives on process 0, on all; what it raises, all raise.

  Args:
    make: called on process 0 alone; its result can be pickled.
  """
  if jax.process_count() == 1:
    return make()
  from jax.experimental import multihost_utils

  content = b""
  if is_first():
    try:
      found = True, make()
    except Exception as error:
      found = False, error
    content = pickle.dumps(found)
  # In two numbers, which go as 32 bits.
  size = np.array(divmod(len(content), 2**20), np.int32)
  high, low = multihost_utils.broadcast_one_to_all(size)
  content = content or bytes(int(high) * 2**20 + int(low))
  content = multihost_utils.broadcast_one_to_all(
    np.frombuffer(content, np.uint8)
  )
  is_good, found = pickle.loads(np.asarray(content, np.uint8).tobytes())
  if not is_good:
    raise found
  return found


def is_first() -> bool:
  """Whether this process keeps the workdir."""
  return jax.process_index() == 0


@contextlib.contextmanager
def own_workdir(workdir: Path) -> Iterator[Path]:
  """The directory that an experiment is to work in, in this process.

  Process 0's is the one given; that of others has the same files but
  checkpoints, which come by `from_first`, and is removed in the end.
  """
  if jax.process_count() == 1:
    yield workdir
    return
  files = from_first(lambda: _small_files(Path(workdir)))
  if is_first():
    yield workdir
    return
  with tempfile.TemporaryDirectory(prefix="fbq-") as directory:
    for name, content in files.items():
      path = Path(directory) / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(content)
    yield Path(directory)


def _small_files(workdir):
  return {
    str(path.relative_to(workdir)): path.read_bytes()
    for path in sorted(workdir.rglob("*"))
    if path.is_file()
    and path.relative_to(workdir).parts[0] not in ("checkpoints", ".lock")
  }


def _watch(address) -> Callable[[], None]:
  """Ends this process when another one dies; gives what waits for all.

  To be called when all is done; on process 0 it returns after the others ended.
  """
  # A line from every process to the first, which tells the others where by what
  # jax has set up. The kernel closes it the moment one of them dies.
  count, index = jax.process_count(), jax.process_index()
  with socket.create_server(("", 0)) as server:
    place = from_first(lambda: (socket.gethostname(), server.getsockname()[1]))
    if index:
      host = address.rpartition(":")[0] if address else place[0]
      lines = {0: socket.create_connection((host, place[1]), timeout=60)}
      lines[0].sendall(index.to_bytes(4))
    else:
      server.settimeout(60)
      lines = {}
      for _ in range(count - 1):
        line, _ = server.accept()
        lines[int.from_bytes(_read(line, 4))] = line

  # One thread waits on each line, since a step may keep the main one for long.
  threads = [
    threading.Thread(target=_listen, args=(other, line), daemon=True)
    for other, line in lines.items()
  ]
  for line in lines.values():
    _keep_alive(line)
  for thread in threads:
    thread.start()

  def wait():
    if index:
      lines[0].sendall(_GOODBYE)
    for thread in threads:
      thread.join()
    # Process 0 has jax's service, of which the others must take leave: it stays
    # until their ends close these lines.
    for line in lines.values() if not index else ():
      line.sendall(_GOODBYE)
      line.settimeout(60)
      with contextlib.suppress(OSError):
        _read(line, 1)

  return wait


def _listen(other, line):
  """Returns when the other process says goodbye; ends this one if it dies."""
  with contextlib.suppress(OSError):
    if _read(line, 1) == _GOODBYE:
      return
  print(
    f"error: process {other} of {jax.process_count()} is gone: it was killed, "
    f"or it says itself why. {_CURE}",
    file=sys.stderr,
  )
  _end(LOST)


def _read(line, count):
  content = b""
  while len(content) < count and (more := line.recv(count - len(content))):
    content += more
  return content


def _keep_alive(line):
  """Finds out in half a minute that a machine is gone without a word."""
  line.settimeout(None)
  line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
  for name, value in (
    ("TCP_KEEPIDLE", 10),
    ("TCP_KEEPINTVL", 5),
    ("TCP_KEEPCNT", 4),
  ):
    if hasattr(socket, name):  # Linux
      line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _end(status):
  """Ends this process at once: at a usual end jax waits for the others."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)
