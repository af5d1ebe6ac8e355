"""Edits that a test must notice; one that survives is a line nothing checks.

  python tests/mutants.py [WORD ...]

A script, for whoever changes tests or what they guard: it takes minutes and is
no part of CI. It copies the repository to a temporary folder, sees that the
tests pass there, makes each edit alone and runs its tests. With words, only the
edits whose file or reason has one of them. Ends with status 1 if an edit
survives, or its old text does not stand in its file exactly once.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PASSED, FAILED = 0, 1  # exit status of pytest; others: it could not run

BITQ, QAT = "tests/bitq_pipeline_test.py", "tests/qat_pipeline_test.py"
PTQ, PIPELINES = "tests/ptq_pipeline_test.py", "tests/pipelines_test.py"
STORED, ENERGY = "tests/stored_prices_test.py", "tests/hwsim_bfp_energy_test.py"
TIMELINE = "tests/hwsim_pulp_by_hand_test.py"
PROXIES = "tests/hwsim_proxies_test.py"
HISTOGRAMS = "tests/histograms_test.py"


class Mutant(NamedTuple):
  """One edit.

  Attributes:
    file: file that it changes.
    old: text that is replaced, which stands there once.
    new: text in its place.
    tests: tests that should fail, as pytest takes them.
    why: what the edit gets wrong.
  """

  file: str
  old: str
  new: str
  tests: str
  why: str


MUTANTS = (
  # ---- Prices of block formats
  Mutant(
    "hwsim/bfp/formats.py",
    "return -(-size // (piece or size))",
    "return max(1, size // (piece or size))",
    STORED,
    "blocks that are cut short cost nothing",
  ),
  Mutant(
    "hwsim/bfp/formats.py",
    "blocks *= _pieces(height, self.window) * _pieces(width, self.window)",
    "blocks *= _pieces(height * width, self.window * self.window)",
    STORED,
    "windows run on from row to row",
  ),
  Mutant(
    "hwsim/bfp/formats.py",
    "along, beside = beside, 1",
    "along, beside = 1, beside",
    STORED,
    "depthwise kernels in blocks of one channel",
  ),
  Mutant(
    "fbq/nets/graph.py",
    "stored_shapes=tuple(\n",
    "stored_shapes=() and tuple(\n",
    STORED,
    "flattened tensors are priced as one pixel",
  ),
  Mutant(
    "fbq/nets/graph.py",
    "shape if (view := views[name]) is None else view.shape(shape)",
    "shape",
    "tests/dense_costs_test.py",
    "blocks of keys and values lie along channels",
  ),
  Mutant(
    "hwsim/bfp/energy.py",
    "outputs.activation_bits(workload.output_shape(i)),",
    "outputs.activation_bits(workload.input_shapes(i)[0]),",
    f"{STORED} {ENERGY}",
    "outputs are priced by the input's channels",
  ),
  Mutant(
    "fbq/search/bitq.py",
    "bits = [f.activation_bits(shape) for shape in stored]",
    "bits = [f.element_bits + f.exponent_bits / f.block_size]",
    "tests/bitq_test.py",
    "formats are left out by the price of eq. 6",
  ),
  Mutant(
    "hwsim/bfp/energy.py",
    "if least is None or sram < least[0]:",
    "if least is None or sram > least[0]:",
    ENERGY,
    "most SRAM traffic for least",
  ),
  # ---- Cycles and memory
  Mutant(
    "hwsim/pulp/schedule.py",
    "leaving = jnp.where(is_first, 0, cycles.store_y[_kind(behind, counts)])",
    "leaving = store",
    TIMELINE,
    "y(this) for y(previous)",
  ),
  Mutant(
    "hwsim/pulp/timeline.py",
    "at_end = jnp.maximum(run, jnp.where(is_last, 0, first_w))",
    "at_end = run",
    TIMELINE,
    "weights are not fetched again per row slice",
  ),
  Mutant(
    "hwsim/proxies.py",
    "last_use[source] = max(last_use[source], last_use.get(i, i))",
    "last_use[source] = max(last_use[source], i)",
    PROXIES,
    "parts of an in-place concatenation die at it",
  ),
  Mutant(
    "hwsim/proxies.py",
    "sorted(workload.in_place, reverse=True)",
    "sorted(workload.in_place)",
    PROXIES,
    "nested in-place concatenations, inner ones first",
  ),
  Mutant(
    "hwsim/proxies.py",
    "if j not in workload.in_place]",
    "]",
    PROXIES,
    "an in-place concatenation is a tensor besides its parts",
  ),
  # ---- Files for others
  Mutant(
    "fbq/deploy/tflite_requant.py",
    "lowest = -most if bits == 8 and portable else -most - 1",
    "lowest = -most - 1",
    "tests/tflite_test.py",
    "weights of -128 in files for every processor",
  ),
  Mutant(
    "fbq/deploy/tflite_requant.py",
    "is_clipped = (weight > most) | (weight < lowest)",
    "is_clipped = weight > most",
    "tests/tflite_test.py",
    "clipped weights are proven equal",
  ),
  # ---- What a search pays
  Mutant(
    "fbq/train/regularizers.py",
    "macs / macs.max()",
    "macs / macs.sum()",
    "tests/regularizers_test.py",
    "MACs/max as MACs/sum",
  ),
  Mutant(
    "fbq/quantizers/gates.py",
    "guarded = jnp.asarray(bits[1:], jnp.float32)",
    "guarded = jnp.asarray(bits[:-1], jnp.float32)",
    "tests/regularizers_test.py",
    "bits (4, 8) read as (2, 4)",
  ),
  # ---- Ranges
  Mutant(
    "fbq/quantizers/histogram_rules.py",
    "divergence.best_clip(without_spikes(counts[:size]), codes)",
    "divergence.best_clip(counts[:size], codes)",
    HISTOGRAMS,
    "spikes count in KL ranges",
  ),
  Mutant(
    "fbq/quantizers/divergence.py",
    "clipped[:, -1] += above",
    "clipped[:, -1] += 0 * above",
    HISTOGRAMS,
    "what KL clips is forgotten",
  ),
  Mutant(
    "fbq/ptq/recipes.py",
    "and bits and (self.per_channel or bits > 4):",
    "and bits and bits > 4:",
    "tests/ptq_bench_test.py::test_recipes_that_cannot_be_are_refused",
    "SAWB per channel",
  ),
  # ---- BitQ
  Mutant(
    "fbq/experiments/bitq/workbench.py",
    "*(self.judged(scheme, rows, split, variables) for split in splits),",
    "*(self.judged(scheme, rows, split) for split in splits),",
    BITQ,
    "a float network judged for a trained one",
  ),
  Mutant(
    "fbq/experiments/bitq/workbench.py",
    "splits = lab.task.validation, lab.task.test",
    "splits = lab.task.test, lab.task.validation",
    BITQ,
    "validation and test exchanged",
  ),
  Mutant(
    "fbq/experiments/bitq/block_network.py",
    "return fp32.validation - self.validation",
    "return fp32.test - self.test",
    BITQ,
    "chosen by the test",
  ),
  Mutant(
    "fbq/experiments/bitq/block_network.py",
    "return network.drop(fp32) + alpha * moved",
    "return network.drop(fp32) - alpha * moved",
    BITQ,
    "the sign of movement in eq. 1",
  ),
  Mutant(
    "fbq/experiments/bitq/pipeline.py",
    "optima = bitq.optima(choice, settings.alphas)",
    "optima = bitq.optima(choice, [settings.alpha] * len(settings.alphas))",
    BITQ,
    "alphas ignored",
  ),
  Mutant(
    "fbq/experiments/bitq/pipeline.py",
    "s: f if kind_of(s) == kind else fine for s in sites",
    "s: f if kind_of(s) != kind else fine for s in sites",
    BITQ,
    "weights' scale from activations",
  ),
  Mutant(
    "fbq/experiments/bitq/pipeline.py",
    "for losses in (after, without)",
    "for losses in (without, after)",
    BITQ,
    "losses without training in the choice",
  ),
  Mutant(
    "fbq/experiments/bitq/choices.py",
    '"without data movement": bitq.optima(bits, [alpha])',
    '"without data movement": bitq.optima(trained, [_NO_TRADE_OFF])',
    BITQ,
    "bits alone do not count",
  ),
  Mutant(
    "fbq/experiments/bitq/pipeline.py",
    'test.loss_to(after_training["FP32"])',
    'after_training["FP32"].loss_to(test)',
    BITQ,
    "what is lost against FP32",
  ),
  # ---- QAT
  Mutant(
    "fbq/experiments/qat/pipeline.py",
    "after = judged.test.accuracy",
    "after = before",
    QAT,
    "a network judged before its training",
  ),
  Mutant(
    "fbq/experiments/qat/pipeline.py",
    "float_accuracy = judged.test.accuracy",
    "float_accuracy = judged.validation.accuracy",
    QAT,
    "validation told for the test",
  ),
  Mutant(
    "fbq/experiments/qat/config.py",
    "dict.fromkeys(weights, settings.bits)",
    "dict.fromkeys(weights, settings.activation_bits)",
    QAT,
    "weights at the bits of activations",
  ),
  Mutant(
    "fbq/lab/fine_tuning.py",
    "collection: ranges_at(starts, assignment)}",
    "collection: ranges_at(starts, dict.fromkeys(assignment, 8))}",
    QAT,
    "ranges of the wrong bits",
  ),
  # ---- PTQ
  Mutant(
    "fbq/experiments/ptq/pipeline.py",
    "QuantizedNetwork(judged.test.accuracy, numbers, layers)",
    "QuantizedNetwork(judged.validation.accuracy, numbers, layers)",
    PTQ,
    "validation told for the test",
  ),
  Mutant(
    "fbq/experiments/ptq/pipeline.py",
    "logits = bench.logits(quantized, images, batch)",
    "logits = reference",
    PTQ,
    "the float network compared with itself",
  ),
  Mutant(
    "fbq/experiments/ptq/results.py",
    "key=lambda one: one.kl)",
    "key=lambda one: one.loss.value)",
    PTQ,
    "chosen by the test",
  ),
  # ---- Free Bits, the exact choice, the shootout
  Mutant(
    "fbq/experiments/free_bits/pipeline.py",
    "found[name + _RAISED], raises[name + _RAISED] = raised, changes",
    "found[name + _RAISED], raises[name + _RAISED] = assignment, changes",
    PIPELINES,
    "fine-tuning at unraised bits",
  ),
  Mutant(
    "fbq/experiments/free_bits/pipeline.py",
    '"strength": jnp.float32(strength)}',
    '"strength": jnp.float32(1)}',
    PIPELINES,
    "strength ignored",
  ),
  Mutant(
    "fbq/experiments/free_bits/pipeline.py",
    '"ranges": ranges_at(ranges, grown_from)}',
    '"ranges": ranges_at(ranges, dict.fromkeys(grown_from, 8))}',
    PIPELINES,
    "a search from ranges of the wrong bits",
  ),
  Mutant(
    "fbq/experiments/exact/pipeline.py",
    "site: {int(b): change[settings.value] for b, change in by_bits.items()}",
    "site: {int(b): -change[settings.value] for b, change in by_bits.items()}",
    PIPELINES,
    "a sign flipped in exact's harm",
  ),
  Mutant(
    "fbq/experiments/exact/pipeline.py",
    "budgets = [int(share * eight) for share in settings.budgets]",
    "budgets = [int(settings.budgets[0] * eight) for _ in settings.budgets]",
    PIPELINES,
    "budgets ignored",
  ),
  Mutant(
    "fbq/lab/points.py",
    "judged[run] = judgement",
    "judged[run] = judgement if not judged else [*judged.values()][0]",
    PIPELINES,
    "one network judged for another",
  ),
  Mutant(
    "fbq/experiments/shootout/pipeline.py",
    "raised = hardware.raised(searched)",
    'raised = searched if strategy == "random" else hardware.raised(searched)',
    "tests/shootout_pipeline_test.py",
    "the hardware pass skipped for one strategy",
  ),
)


def copied(folder: Path) -> None:
  """Fills a folder with what of the repository git does not ignore."""
  listed = subprocess.run(
    ["git", "ls-files", "-co", "--exclude-standard", "-z"],
    cwd=ROOT,
    check=True,
    capture_output=True,
    text=True,
  ).stdout
  for name in filter(None, listed.split("\0")):
    if (ROOT / name).is_file():
      (folder / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(ROOT / name, folder / name)


def status(folder: Path, tests: str) -> int:
  """Exit status of pytest in a copy."""
  arguments = "-q -x -p no:cacheprovider -p no:xdist".split()
  return subprocess.run(
    [sys.executable, "-m", "pytest", *arguments, *tests.split()],
    cwd=folder,
    capture_output=True,
  ).returncode


def verdict(folder: Path, mutant: Mutant) -> str:
  """What becomes of an edit: "killed", or what is wrong."""
  path = folder / mutant.file
  text = path.read_text() if path.exists() else ""
  if text.count(mutant.old) != 1:
    return f"old text stands {text.count(mutant.old)} times in the file"
  path.write_text(text.replace(mutant.old, mutant.new))
  try:
    found = status(folder, mutant.tests)
  finally:
    path.write_text(text)
  says = {PASSED: "SURVIVED", FAILED: "killed"}
  return says.get(found, f"pytest ended with status {found}")


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("words", nargs="*", help="of the file or the reason")
  words = parser.parse_args().words
  chosen = [
    m
    for m in MUTANTS
    if not words or any(w in f"{m.file} {m.why}" for w in words)
  ]
  wrong = 0
  with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    copied(folder)

    # What fails without any edit would be taken for a kill
    passes = {}
    for mutant in chosen:
      if mutant.tests not in passes:
        passes[mutant.tests] = status(folder, mutant.tests) == PASSED
      said = (
        verdict(folder, mutant)
        if passes[mutant.tests]
        else "its tests fail without it"
      )
      wrong += said != "killed"
      print(f"{said}: {mutant.why} ({mutant.file})", flush=True)
  print(f"{len(chosen) - wrong} of {len(chosen)} killed")
  sys.exit(int(wrong > 0))


if __name__ == "__main__":
  main()
