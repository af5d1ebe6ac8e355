"""What the fuzzers share: mutations of files, and what must hold for each.

Every input must be answered within two seconds by a value that is right, or by
a short error of the documented class.
"""

import collections
import pathlib
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

SECONDS = 2  # of processor time, in which an input is answered
LONGEST = 2000  # letters of an error: half a screen
# What stands where a number or a word is expected.
TOKENS = (
  *(
    "0",
    "-1",
    "1e5",
    "2.000",
    "2,000",
    "1.5",
    "NaN",
    "Infinity",
    "true",
    "null",
  ),
  *(
    "9" * 30,
    "9" * 5000,
    '"8"',
    "[8]",
    "{}",
    '""',
    "\u0662",
    "0x8",
    "-",
    "8.0",
  ),
  *("[" * 3000, '{"a": 1, "a": 2}', "\0", "\ufeff", ";", "\u2028", "'", '"'),
)


class Fault(AssertionError):
  """An input that was answered as it must not be."""


def fuzz(
  mutate: Callable[[np.random.Generator], bytes],
  attempt: Callable[[pathlib.Path], Any],
  wrong: Callable[[pathlib.Path, Any], str],
  suffix: str,
  seed: int,
  count: int,
) -> collections.Counter:
  """How many inputs were accepted and refused.

  Args:
    mutate: makes the content of a file.
    attempt: reads the file.
    wrong: (file, what `attempt` gave) -> what is wrong with that, or "".
    suffix: end of the file's name.
    seed: seed of all mutations.
    count: files to try.

  Raises:
    Fault: the first file that was answered as it must not be.
  """
  counts = collections.Counter()
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / f"it{suffix}"
    for number in range(count):
      path.write_bytes(mutate(np.random.default_rng([seed, number])))
      where = f"seed {seed}, number {number}: {path.read_bytes()[:300]!r}"
      start = time.process_time()
      try:
        found = attempt(path)
      except ValueError as error:
        counts["refused"] += 1
        if len(str(error)) > LONGEST:
          raise Fault(
            f"{where}: an error of {len(str(error))} letters"
          ) from None
      except Exception:
        raise Fault(f"{where}: {traceback.format_exc()}") from None
      else:
        counts["accepted"] += 1
        if problem := wrong(path, found):
          raise Fault(f"{where}: accepted, and {problem}")
      if (seconds := time.process_time() - start) > SECONDS:
        raise Fault(f"{where}: answered after {seconds:.1f} s")
  return counts


def bytes_changed(content: bytes, random: np.random.Generator) -> bytes:
  """Some bits flipped, or a part cut out, doubled, moved or made noise."""
  data = bytearray(content)
  for _ in range(random.integers(1, 4)):
    if not data:
      break
    start, end = np.sort(random.integers(0, len(data) + 1, 2))
    end = min(end, start + 200)
    kind = random.integers(6)
    if kind == 0:
      for place in random.integers(0, len(data), random.integers(1, 9)):
        data[place] ^= 1 << random.integers(8)
    elif kind == 1:
      del data[start:]
    elif kind == 2:
      del data[start:end]
    elif kind == 3:
      data[start:start] = data[start:end]
    elif kind == 4:
      data[start:end] = random.bytes(end - start)
    else:
      data[start:start] = b"\0" * random.integers(1, 50)
  return bytes(data)


def words_changed(
  text: str, words: list[tuple[int, int]], random: np.random.Generator
) -> str:
  """Some words, given by their places, replaced by what they cannot be."""
  for place in sorted(random.integers(0, len(words), 3), reverse=True):
    start, end = words[place]
    if random.random() < 0.6:
      token = TOKENS[random.integers(len(TOKENS))]
      text = text[:start] + token + text[end:]
  return text
