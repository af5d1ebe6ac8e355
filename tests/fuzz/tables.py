"""Latency tables, CSV and JSON, that were damaged or filled in wrongly."""

import collections
import functools
import pathlib
import re
import tempfile

import numpy as np
from fuzz import fuzzing
from hwsim_networks import chain

from hwsim import latency_io, reading
from hwsim.pulp import XPULPNN_V1, latency_table
from hwsim.workload import Layer

NET = chain(
  "net",
  [
    Layer("a", "conv", 3, 6, 8, 8, 3, 3, 1, (1, 1, 1, 1)),
    Layer("pool", "avg_pool", 6, 6, 8, 8, 8, 8),
    Layer("fc", "linear", 6, 10),
  ],
)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1")
WORD = re.compile(r"[\w.]+")


@functools.cache
def table():
  """The table that is damaged; made when it is asked for, as it takes 5 s."""
  return latency_table(NET, XPULPNN_V1)


def run(seed: int, count: int) -> collections.Counter:
  """Half of the files are CSV, half JSON."""
  total = collections.Counter()
  for suffix in (".csv", ".json"):
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / f"saved{suffix}"
      latency_io.save(table(), path)
      text = path.read_bytes().decode()
    words = [match.span() for match in WORD.finditer(text)]

    def mutate(random, text=text, words=words):
      changed = text
      if random.random() < 0.7:
        changed = fuzzing.words_changed(text, words, random)
      if random.random() < 0.2:
        changed = changed.replace(",", ";\t|"[random.integers(3)])
      encoding = ENCODINGS[random.integers(len(ENCODINGS))]
      data = changed.encode(encoding, "replace")
      return (
        fuzzing.bytes_changed(data, random) if random.random() < 0.4 else data
      )

    total += fuzzing.fuzz(mutate, attempt, wrong, suffix, seed, -(-count // 2))
  return total


def attempt(path):
  try:
    return latency_io.load(path, NET)
  except ValueError:
    return latency_io.merge(table(), path)


def wrong(path, found):
  """Every cycle is a number of the file, or was simulated."""
  if found.cycles.min() < 1 or found.cycles.max() > 2**53:
    return f"has cycles from {found.cycles.min()} to {found.cycles.max()}"
  numbers = set(np.unique(table().cycles).tolist())
  for word in re.findall(r"[\w.+-]+", reading.text_of(path)):
    if re.fullmatch(r"[0-9]+|[0-9]{4,}\.0+|[0-9]+\.0{1,2}", word, re.ASCII):
      numbers.add(int(word.partition(".")[0]) if len(word) < 4000 else 0)
    elif path.suffix == ".json" and re.fullmatch(r"[0-9]+e[0-9]", word):
      numbers.add(int(float(word)))
  strange = set(np.unique(found.cycles).tolist()) - numbers
  return f"has cycles {strange} that nobody wrote" if strange else ""
