"""Runs a fuzzer: what it was given, and what was accepted and refused.

    python tests/fuzz/run.py tables --seed=1 --count=1000

Other fuzzers: precision_files, checkpoints, settings, onnx_files, tflite_files.
It ends with the first input that was answered as it must not be, and with the
number that makes it again.
"""

import argparse
import importlib
import pathlib
import sys
import time

TESTS = pathlib.Path(__file__).resolve().parents[1]


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("name")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--count", type=int, default=1000)
  given = parser.parse_args()

  sys.path[:0] = [str(TESTS.parent), str(TESTS)]
  fuzzer = importlib.import_module(f"fuzz.{given.name}")
  start = time.perf_counter()
  counts = fuzzer.run(given.seed, given.count)
  seconds = time.perf_counter() - start
  print(f"{given.name}, seed {given.seed}: {dict(counts)}, {seconds:.1f} s")


if __name__ == "__main__":
  main()
