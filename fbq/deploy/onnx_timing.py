"""How long networks take in ONNX Runtime on one core, node by node.

ONNX Runtime rewrites a network before it runs it: layers are fused, layouts
change, and nodes of nobody's making appear between them. Its profile times what
runs, so every node of the rewritten network is traced back to the layer whose
work it does, or to the tensor that it brings from one form into another.
"""

import collections
import json
import pathlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fbq.nets.graph import INPUT, Net

# Nodes that change how a tensor lies in memory, and compute nothing
MOVES = frozenset(
  (
    *("QuantizeLinear", "DequantizeLinear", "Transpose", "Identity"),
    *("ReorderInput", "ReorderOutput", "Cast", "Reshape", "Squeeze"),
  )
)
BUSY = 0.97  # processor time over wall time of a run that nobody interrupted
_WARM = 3  # runs that are thrown away
_TRIES = 4  # runs for each that is kept, at most
_KERNEL = "_kernel_time"


class Part(NamedTuple):
  """What nodes belong to: a layer, or a tensor on its way to a reader.

  Attributes:
    tensor: tensor that is moved; "" for the work of a layer.
    layer: layer that works, or that reads the tensor first.
  """

  tensor: str
  layer: str


class Whole(NamedTuple):
  """Times of a whole network over the `R` runs that were kept.

  Attributes:
    wall_ns: float64 [R].
    busy_ns: float64 [R], processor time of the same runs.
    interrupted: share of all runs in which something else had the core.
  """

  wall_ns: np.ndarray
  busy_ns: np.ndarray
  interrupted: float

  @property
  def is_quiet(self) -> bool:
    """Whether the machine had time, so that wall time tells of the network."""
    return self.interrupted < 0.5

  @property
  def times_ns(self) -> np.ndarray:
    """float64 [R]: wall time, or processor time where others had the core."""
    return self.wall_ns if self.is_quiet else self.busy_ns


class Timed(NamedTuple):
  """Times of one network, node by node.

  Attributes:
    parts: nanoseconds float64 [R] of the nodes of each part, as profiled.
    nodes: number of nodes of each part.
    whole: the network in runs without a profile.
  """

  parts: Mapping[Part, np.ndarray]
  nodes: Mapping[Part, int]
  whole: Whole


Progress = Callable[[int, int], None]


def session(model: Any, **options: Any) -> Any:
  """A session on one core, with ONNX Runtime's own optimizations.

  Args:
    model: an onnx.ModelProto.
    **options: attributes of `onnxruntime.SessionOptions` that differ.
  """
  import onnxruntime

  chosen = onnxruntime.SessionOptions()
  chosen.intra_op_num_threads = chosen.inter_op_num_threads = 1
  chosen.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
  chosen.log_severity_level = 3
  for name, value in options.items():
    setattr(chosen, name, value)
  return onnxruntime.InferenceSession(
    model.SerializeToString(), chosen, providers=["CPUExecutionProvider"]
  )


def run(
  models: Sequence[Any],
  net: Net,
  images: np.ndarray,
  rounds: int,
  progress: Progress = lambda done, of: None,
) -> list[Timed]:
  """Times several models of one network in turn, with and without a profile.

  A run counts if its thread had the core for `BUSY` of its wall time. Where the
  machine is so busy that few do, those that had most of it count, and
  `Whole.is_quiet` says so.

  Args:
    models: models that `onnx_mixed.build` made.
    net: network that they are of.
    images: uint8 [1, C, H, W].
    rounds: runs of every model that are kept.
    progress: told how many models are ready, and how many there are.
  """
  with tempfile.TemporaryDirectory(prefix="fbq-measure") as directory:
    running = []
    for i, model in enumerate(models):
      running.append(_Running(model, pathlib.Path(directory) / str(i), images))
      progress(i + 1, len(models))

    # In turn, so that a machine that slows down slows all of them
    for _ in range(_WARM):
      for one in running:
        one.run()
    for one in running:
      one.forget()
    for turn in range(_TRIES * rounds):
      waiting = [one for one in running if one.lacks(turn, rounds)]
      for one in waiting:
        one.run()
    return [one.timed(net, rounds) for one in running]


def race(
  models: Mapping[str, Any], images: np.ndarray, rounds: int
) -> dict[str, Whole]:
  """Times of whole networks in turn; runs are kept as `run` keeps them."""
  feed = {INPUT: images}
  sessions = {name: session(model) for name, model in models.items()}
  for one in sessions.values():
    for _ in range(_WARM):
      one.run(None, feed)
  spans = {name: [] for name in models}
  for turn in range(_TRIES * rounds):
    for name in [n for n in models if _lacks(spans[n], turn, rounds)]:
      spans[name].append(_span(lambda n=name: sessions[n].run(None, feed)))
  return {name: _whole(found, rounds) for name, found in spans.items()}


class _Running:
  """Two sessions of a model, of which one writes a profile."""

  def __init__(self, model, directory, images):
    directory.mkdir()
    self._path = directory / "optimized.onnx"
    self._feed = {INPUT: images}
    self._plain = session(model)
    self._profiled = session(
      model,
      enable_profiling=True,
      profile_file_prefix=str(directory / "profile"),
      optimized_model_filepath=str(self._path),
    )
    self._runs, self._skipped = [], 0

  def run(self):
    """Once each way; spans (wall, processor) of the two."""
    self._runs.append(
      tuple(
        _span(lambda s=s: s.run(None, self._feed))
        for s in (self._plain, self._profiled)
      )
    )

  def forget(self):
    self._skipped += len(self._runs)
    self._runs.clear()

  def lacks(self, turn, rounds) -> bool:
    """Whether more runs are needed."""
    both = zip(*self._runs, strict=True)
    return not self._runs or any(_lacks(spans, turn, rounds) for spans in both)

  def timed(self, net, rounds) -> Timed:
    import onnx

    plain, profiled = zip(*self._runs, strict=True)
    events = json.loads(
      pathlib.Path(self._profiled.end_profiling()).read_text()
    )
    times = _node_times(events, self._skipped + len(self._runs))
    owners = parts_of(onnx.load(self._path).graph, net)
    kept = self._skipped + np.array(_kept(profiled, rounds))

    # Layers that ONNX Runtime fused into another have no nodes, and no time
    parts, nodes = {}, collections.Counter()
    for name, durations in times.items():
      part = owners[name]
      parts[part] = parts.get(part, 0) + durations[kept]
      nodes[part] += 1
    return Timed(parts, nodes, _whole(plain, rounds))


def _whole(spans, rounds) -> Whole:
  kept = np.array([spans[i] for i in _kept(spans, rounds)], np.float64)
  return Whole(kept[:, 0], kept[:, 1], 1 - _good(spans) / len(spans))


def _span(call) -> tuple[int, int]:
  """(wall, processor) nanoseconds of a call in this thread."""
  wall, busy = time.perf_counter_ns(), time.thread_time_ns()
  call()
  busy = time.thread_time_ns() - busy
  return time.perf_counter_ns() - wall, busy


def _good(spans) -> int:
  return sum(busy >= BUSY * wall for wall, busy in spans)


def _lacks(spans, turn, rounds) -> bool:
  """Whether runs are wanted, and worth trying for on this machine."""
  good = _good(spans)
  return good < rounds and (turn < rounds or good > turn / 4)


def _kept(spans, rounds) -> list[int]:
  """Positions of the runs that count: the first good ones, or the best."""
  good = [i for i, (wall, busy) in enumerate(spans) if busy >= BUSY * wall]
  if len(good) >= rounds:
    return good[:rounds]
  share = [busy / wall for wall, busy in spans]
  return sorted(np.argsort(share)[::-1][:rounds].tolist())


def _node_times(events, runs) -> dict[str, np.ndarray]:
  """Nanoseconds [runs] of every node; the profile cuts to microseconds."""
  found = collections.defaultdict(list)
  for event in events:
    if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
      name = event["name"].removesuffix(_KERNEL)
      found[name].append(1000.0 * event["dur"] + 500.0)
  for name, durations in found.items():
    if len(durations) != runs:
      raise RuntimeError(
        f"ONNX Runtime's profile has {len(durations)} times of node {name!r} "
        f"in {runs} runs; use onnxruntime 1.31, with which this was tested"
      )
  return {name: np.array(durations) for name, durations in found.items()}


# ---- Whose node is it?


def parts_of(graph: Any, net: Net) -> dict[str, Part]:
  """The part that every node of a rewritten network belongs to.

  Nodes that work have the name of their layer, which rewriting keeps. What only
  moves a tensor belongs to it, from the node that made it to the first layer
  that reads it; what moves weights belongs to their layer.

  Args:
    graph: onnx.GraphProto as ONNX Runtime runs it.
    net: network whose layers are looked for.

  Raises:
    RuntimeError: a node that works has the name of no layer.
  """
  makers = {out: node for node in graph.node for out in node.output}
  readers = collections.defaultdict(list)
  for node in graph.node:
    for name in node.input:
      readers[name].append(node)
  constants = {tensor.name for tensor in graph.initializer}
  names = sorted((node.name for node in net.nodes), key=len, reverse=True)

  def owner(node):
    for name in names:
      if node.name.startswith((f"{name}/", f"{name}.")):
        return name
    raise RuntimeError(
      f"node {node.name!r} ({node.op_type}) of ONNX Runtime has the name of no "
      f"layer of {net.name!r}; use onnxruntime 1.31, with which this was tested"
    )

  def source(node):
    """The layer that made what a node moves; None of weights."""
    while node.op_type in MOVES:
      if node.input[0] in constants:
        return None
      if node.input[0] not in makers:
        return INPUT
      node = makers[node.input[0]]
    return owner(node)

  def first_reader(node):
    """The first layer, in the order of the network, that reads a node."""
    found = set()
    waiting = list(node.output)
    while waiting:
      for reader in readers[waiting.pop()]:
        if reader.op_type in MOVES:
          waiting.extend(reader.output)
        else:
          found.add(owner(reader))
    return next((n.name for n in net.nodes if n.name in found), "")

  parts = {}
  for node in graph.node:
    if node.op_type not in MOVES:
      parts[node.name] = Part("", owner(node))
      continue
    tensor, layer = source(node), first_reader(node)
    if tensor is None:
      parts[node.name] = Part("", layer)
    elif not layer or tensor == layer:  # logits, or within a layer
      parts[node.name] = Part("", tensor)
    else:
      parts[node.name] = Part(tensor, layer)
  return parts
