"""What is logged of gates is what their probabilities say; curves show it."""

import json
from xml.etree import ElementTree

import jax.numpy as jnp
import numpy as np
import pytest

from fbq.model import Model
from fbq.quantizers import gates
from fbq.report import curves
from fbq.schemes.free_bits import FreeBits
from fbq.schemes.groups import gate_groups
from fbq.train import gate_metrics
from tests.configs import tiny


def by_hand(net, scheme, logits):
  """The same numbers, site by site, from probabilities of single gates."""
  p = 1 / (1 + np.exp(-(logits - gates.FREE_BITS._shift)))
  expected = {"weight_bits": [], "activation_bits": []}
  for site, row in scheme.groups.rows(net).items():
    if row < 0:
      continue
    p4, p8 = p[row]
    bits = 2 * (1 - p4) + 4 * p4 * (1 - p8) + 8 * p4 * p8
    kind = "weight_bits" if site.endswith(".weight") else "activation_bits"
    expected[kind].append(bits)
  levels = [(1 - a, a * (1 - b), a * b) for a, b in p]
  return {
    **{kind: np.mean(bits) for kind, bits in expected.items()},
    "decided": np.mean([max(level) >= 0.9 for level in levels]),
    "open_4": np.mean([a > 0.5 for a, _ in p]),
    "open_8": np.mean([a * b > 0.5 for a, b in p]),
  }


@pytest.mark.parametrize("locked", [False, True])
def test_numbers_of_gates_are_those_of_their_probabilities(locked):
  net = tiny.separable()
  scheme = FreeBits(gate_groups(net, locked))
  logits = np.random.default_rng(3).normal(0, 4, (scheme.groups.count, 2))
  variables = {"gates": {"logits": jnp.asarray(logits, jnp.float32)}}
  found = gate_metrics.of(Model(net, scheme), variables, {}, 1)
  expected = by_hand(net, scheme, logits)
  assert list(found) == list(expected)
  for name, value in expected.items():
    assert found[name] == pytest.approx(value, abs=1e-5), name

  # Of several runs of one program it is the row of the run
  both = {"gates": {"logits": jnp.stack([jnp.zeros_like(logits), logits])}}
  second = gate_metrics.of(Model(net, scheme), both, {}, 1, row=1)
  assert second == pytest.approx(found, abs=1e-6)


def test_a_network_without_gates_logs_nothing_of_them():
  assert gate_metrics.of(Model(tiny.separable()), {"params": {}}, {}, 1) == {}


def test_curves_are_read_as_logged_and_a_cut_line_is_left_out(tmp_path):
  path = tmp_path / "metrics.jsonl"
  entries = [
    {"stage": stage, "step": n, "loss": n / 2, "cross_entropy": n / 2,
     "decided": 0.5, "weight_bits": 8 - n, "activation_bits": 8.0,
     "open_8": 1.0, "speed": {"images_per_second": 3}}
    for stage in ("seed0-search-a", "seed0-search-b") for n in (2, 4, 6)
  ]  # fmt: skip
  lines = [json.dumps(entry) for entry in entries]
  path.write_text("\n".join([*lines, '{"stage": "seed0-se']))
  first, second = curves.read(path)
  assert (first.stage, second.stage) == ("seed0-search-a", "seed0-search-b")
  assert first.steps == (2, 4, 6) and first.values["weight_bits"] == (6, 4, 2)
  assert "speed" not in first.values
  assert curves.kind_of("seed12-fine-tune-0ab") == "fine-tuning"
  (section,) = curves.section(path)
  (details,) = section.blocks
  drawn = [block for block in details.blocks if hasattr(block, "svg")]
  assert [each.file for each in drawn] == ["losses.svg", "gates.svg"]
  titles = [
    e.text for e in ElementTree.fromstring(drawn[1].svg).iter()
    if e.tag.endswith("title")
  ]  # fmt: skip
  assert titles.count("seed0-search-b: 2 at the end") == 1
  assert curves.section(tmp_path / "missing.jsonl") == []
