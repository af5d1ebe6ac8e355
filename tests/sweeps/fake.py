"""Settings of tests/sweeps/fake_main.py, and a sweep over them.

As a sweep file it takes the sweep as JSON: tests/sweeps/fake.py:{"grid": ...}.
"""

import json

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(seed=0, steps=3, step_s=0.01, mood="good", rates=(0.1,), net={"a": 1})
  )


def get_sweep(text: str) -> dict:
  return json.loads(text)
