"""What a run tells of itself beside its results: speed, memory, traces.

Options hold within a block, since they are no part of what is computed: a run
may be stopped, and resumed with others.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import jax

from fbq.train import processes


class Span(NamedTuple):
  """Steps to trace.

  Attributes:
    stage: beginning of the name of a training; "" is the first that comes.
    first, last: steps, counted from 1 as in metrics.jsonl.
  """

  stage: str
  first: int
  last: int


class Options(NamedTuple):
  """What is told.

  Attributes:
    tensorboard: write metrics for TensorBoard too.
    trace: which steps are traced, if any.
  """

  tensorboard: bool = False
  trace: Span | None = None


class _Held(NamedTuple):
  """Options that hold, and what was opened by them: a writer per directory."""

  options: Options
  boards: dict[Path, Any]


_HELD: ContextVar[_Held | None] = ContextVar("held", default=None)


def span(text: str) -> Span:
  """The steps that "[STAGE:]FIRST:LAST" names.

  Raises:
    ValueError: it names none.
  """
  *stage, first, last = f"::{text}".split(":")
  if not (first.isdigit() and last.isdigit() and 0 < int(first) <= int(last)):
    raise ValueError(
      f"--profile is {text!r}, expected [STAGE:]FIRST:LAST, steps from 1 on"
    )
  return Span(":".join(stage).lstrip(":"), int(first), int(last))


def options() -> Options:
  """Options that hold here."""
  held = _HELD.get()
  return Options() if held is None else held.options


@contextlib.contextmanager
def monitored(wanted: Options) -> Iterator[None]:
  """Within, `wanted` holds."""
  held = _Held(wanted, {})
  token = _HELD.set(held)
  try:
    yield
  finally:
    _HELD.reset(token)
    for board in held.boards.values():
      board.close()


def write_board(
  workdir: Path, stage: str, step: int, numbers: Mapping[str, float]
) -> None:
  """Writes numbers of a stage for TensorBoard, if they are asked for.

  On disk within ten seconds, or at the end.

  Raises:
    ModuleNotFoundError: its writer is not installed.
  """
  held = _HELD.get()
  if held is None or not held.options.tensorboard or not processes.is_first():
    return
  directory = workdir / "tensorboard" / stage
  if directory not in held.boards:
    # What an earlier process wrote of steps from here on is not shown.
    held.boards[directory] = summary_writer()(
      str(directory),
      purge_step=step,
      flush_secs=10,
      filename_suffix=f".{step}",
    )
  for name, value in numbers.items():
    held.boards[directory].add_scalar(name, value, step)


def summary_writer() -> Callable[..., Any]:
  """tensorboardX's class of that name.

  Raises:
    ModuleNotFoundError: says what to install.
  """
  try:
    from tensorboardX import SummaryWriter
  except ImportError as error:
    raise ModuleNotFoundError(
      "--tensorboard needs tensorboardX: `pip install fbq[monitoring]`"
    ) from error
  return SummaryWriter


def keep_programs(directory: str) -> None:
  """Has every program that is compiled from now on kept in a directory.

  Programs are known by what they compute and for which device, so another run
  of the same settings, whatever its seed and workdir, compiles nothing.
  """
  jax.config.update("jax_compilation_cache_dir", directory)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@contextlib.contextmanager
def compilation() -> Iterator[Callable[[], float]]:
  """Yields a function: seconds of tracing and compiling since its last call.

  Reading a program from the cache of compiled ones counts too.
  """
  spans: list[tuple[float, float]] = []

  # What is compiled inside of another trace ends before it: the outer one
  # takes the place of the inner ones.
  def listen(event: str, start_time: float, end_time: float, **_):
    if event.startswith("/jax/core/compile/"):
      before = [span for span in spans if span[0] < start_time]
      spans[:] = [*before, (start_time, end_time)]

  told = 0.0

  def since() -> float:
    nonlocal told
    before, told = told, sum(end - start for start, end in spans)
    return told - before

  jax.monitoring.register_event_time_span_listener(listen)
  try:
    yield since
  finally:
    jax.monitoring.unregister_event_time_span_listener(listen)


class Meter:
  """Images, seconds and waiting between lines of metrics.

  The first step is left out, as it compiles. Steps run on while the host goes
  on, so `read` is to be called when the last one is known to be done.
  """

  def __init__(
    self,
    batch_size: int,
    is_fed: bool = True,
    compiled: Callable[[], float] = lambda: 0.0,
  ):
    """
    Args:
      batch_size: images of a step, over all devices and runs.
      is_fed: whether steps are given their images, and may wait for them.
      compiled: seconds of compilation since the last call, see `compilation`.
    """
    self._batch_size, self._is_fed = batch_size, is_fed
    self._compiled = compiled
    self._reset()

  def _reset(self):
    self._start, self._steps, self._waited = time.perf_counter(), 0, 0.0

  def waits(self, fed: Iterator[Any]) -> Iterator[Any]:
    """`fed`, each of whose items is for a step; its time is waiting."""
    for number, _ in enumerate(iter(int, 1)):
      if number == 1:
        self._reset()
      begin = time.perf_counter()
      try:
        given = next(fed)
      except StopIteration:
        return
      self._waited += time.perf_counter() - begin
      self._steps += number > 0
      yield given

  def read(self) -> dict[str, float]:
    """Speed since the last call, {} if nothing can be said.

    images_per_second: over all devices.
    waiting: share of the time in which the host waited for data, of steps that
      are given theirs. Devices may have been busy meanwhile, so the share of
      the time in which they had nothing to do for want of data is at most this.
    compile_seconds: tracing and compiling since the last call, if any.
    device_bytes: most memory in use so far, on this process's first device;
      left out where the backend does not tell.
    """
    seconds = time.perf_counter() - self._start
    told = {}
    if self._steps:
      told["images_per_second"] = self._batch_size * self._steps / seconds
      if self._is_fed:
        told["waiting"] = self._waited / seconds
    self._reset()
    if compiling := self._compiled():
      told["compile_seconds"] = compiling
    memory = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in memory:
      told["device_bytes"] = memory["peak_bytes_in_use"]
    return told


@contextlib.contextmanager
def tracer(
  stage: str, workdir: Path, say: Callable[[str], None]
) -> Iterator[Callable[[int, Any], None]]:
  """A function (step, state) to call before each step, that traces some.

  A workdir has one trace, in the directory "trace": of a training that makes
  the steps wanted, in its first process.

  Args:
    stage: name of the training.
    workdir: directory of the run.
    say: tells a reader where the trace is.
  """
  # A second trace would take the place of the first in a workdir.
  directory, wanted = Path(workdir) / "trace", options().trace
  if (
    wanted is None
    or not stage.startswith(wanted.stage)
    or directory.exists()
    or not processes.is_first()
  ):
    yield lambda step, state: None
    return

  # The device runs ahead of the host, so it is waited for at both ends: else
  # the trace has steps before the first, or lacks the last.
  first_seen, is_on = None, False

  def stop():
    jax.profiler.stop_trace()
    say(
      f"{stage}: trace of steps {first_seen} to {last_seen} in {directory}, "
      "for ui.perfetto.dev (its .json.gz) or TensorBoard's profile plugin"
    )

  def before(step, state):
    nonlocal first_seen, last_seen, is_on
    if is_on and step > wanted.last:
      jax.block_until_ready(state)
      stop()
      is_on = False
    if first_seen is None and wanted.first <= step <= wanted.last:
      jax.block_until_ready(state)
      jax.profiler.start_trace(directory)
      first_seen, is_on = step, True
    if is_on:
      last_seen = step

  last_seen = None

  # A training that ends, or fails, within the span has a trace all the same.
  try:
    yield before
  finally:
    if is_on:
      stop()
