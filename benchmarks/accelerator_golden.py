"""How far an accelerator is from the golden numbers of the tests."""

import importlib
import inspect

# Test modules that hold quantizers against the authors' numbers.
GOLDEN = ("bayesian_bits_test", "gates_test", "learned_ranges_test")


def golden(directory, tiny):
  """The golden tests, which here measure where they would compare.

  Small, the first case of each: the suite runs all of them anyway.
  """
  del directory
  import numpy as np
  import pytest

  found = {}
  for module_name in GOLDEN:
    module = importlib.import_module(module_name)
    largest, failed = [0.0], 0

    def measure(actual, expected, rtol=1e-5, largest=largest):
      del rtol
      expected = np.asarray(expected)
      scale = max(np.abs(expected).max(), 1e-6)
      largest.append(float(np.abs(np.asarray(actual) - expected).max() / scale))

    module.close = measure
    for name, test in inspect.getmembers(module, inspect.isfunction):
      if name.startswith("test_") and "golden" in name:
        for arguments in _cases(test)[: 1 if tiny else None]:
          try:
            test(**arguments)
          except pytest.skip.Exception:
            pass
          except AssertionError:  # of what is compared exactly
            failed += 1
    found[f"{module_name}: deviation"] = max(largest)
    found[f"{module_name}: comparisons"] = len(largest) - 1
    found[f"{module_name}: not exact"] = failed
  return found


def _cases(test):
  """Arguments of every case of a test, from its marks."""
  cases = [{}]
  for mark in getattr(test, "pytestmark", ()):
    names, values = mark.args
    names = (
      [n.strip() for n in names.split(",")]
      if (isinstance(names, str))
      else names
    )
    cases = [
      case | dict(zip(names, value if len(names) > 1 else [value], strict=True))
      for case in cases
      for value in values
    ]
  return cases
