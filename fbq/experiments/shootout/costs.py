"""What a search costs, in steps of float training."""

import statistics
import time
from collections.abc import Mapping
from typing import Any

import jax

from fbq.train import feed, parallel
from fbq.train.loop import Trainer

_ROUNDS = 9


def step_seconds(
  cases: Mapping[str, tuple[Trainer, Any, Mapping[str, jax.Array]]],
) -> dict[str, float]:
  """Processor time of one step of each trainer, medians of interleaved runs.

  Args:
    cases: name -> (trainer, variables to start from, data of a run).
  """
  put = lambda tree, trainer: parallel.put(tree, trainer.place)
  states = {name: put(t.start(v), t) for name, (t, v, _) in cases.items()}
  datas = {name: put(data, t) for name, (t, _, data) in cases.items()}
  given = {n: feed.first(t.feed, data) for n, (t, _, data) in cases.items()}

  # The first round compiles and is not counted.
  spent: dict[str, list[float]] = {name: [] for name in cases}
  for _ in range(_ROUNDS + 1):
    for name, (trainer, _, _) in cases.items():
      jax.block_until_ready(states[name])
      start = time.process_time()
      states[name], _ = trainer.step(states[name], datas[name], *given[name])
      jax.block_until_ready(states[name])
      spent[name].append(time.process_time() - start)
  return {name: statistics.median(s[1:]) for name, s in spent.items()}
