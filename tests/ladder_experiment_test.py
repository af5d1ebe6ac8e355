"""A tiny network at every bit-width, beside what other code makes of it."""

import csv
import itertools
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from ptq_cases import variables

from configs import mlperf_kws, photos_lite0
from fbq.config import ConfigError, configured, of
from fbq.experiments import ladder
from fbq.experiments.ladder import config, page, pipeline
from fbq.experiments.ladder.methods import METHODS
from fbq.lab import experiment
from fbq.lab.lab import Lab
from fbq.lab.rounded_judge import RoundedJudge
from fbq.nets import Net, Node
from fbq.ptq import calibration as ptq_calibration
from fbq.ptq.bench import Bench
from fbq.report.run import Run
from fbq.schemes import gridded
from hwsim import proxies

RELU = dict(norm=True, activation="relu")


def build() -> Net:
  """A layer of each kind that has weights."""
  return Net(
    "few",
    (9, 6, 1),
    (
      Node("conv1", "conv", ("input",), 8, (3, 3), 2, 1, **RELU),
      Node("dw1", "depthwise", ("conv1",), 0, (3, 3), 1, 1, **RELU),
      Node("pw1", "conv", ("dw1",), 8, **RELU),
      Node("pool", "avg_pool", ("pw1",), kernel=None),
      Node("fc", "linear", ("pool",), 5, bias=True, is_output=True),
    ),
  )


NET = build()
VARIABLES = variables(NET)
BITS = (8, 4, 2)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """A checkpoint, and images of 24 sources with labels."""
  folder = tmp_path_factory.mktemp("ladder")
  arrays = {}
  for kind, tree in VARIABLES.items():
    for name, value in tree.items():
      inner = value if isinstance(value, dict) else {"": value}
      for part, x in inner.items():
        arrays[f"{kind}/{name}" + f"/{part}" * bool(part)] = x
  np.savez(folder / "net.npz", **arrays)
  random = np.random.default_rng(5)
  # Blocks of pixels, so that images differ by more than noise
  blocks = random.integers(0, 256, (24, 3, 2, 1), np.uint8)
  images = np.kron(blocks, np.ones((1, 3, 3, 1), np.uint8))
  np.savez(folder / "x.npz", x=images, y=random.integers(0, 5, 24))
  np.savez(folder / "plain.npz", x=images)
  return folder


def given(files, **changes):
  settings = dict(
    net=dict(builder=f"{__name__}:build"),
    float_checkpoint=str(files / "net.npz"),
    checkpoint_layout="fbq",
    inputs=dict(
      path=str(files / "x.npz"),
      calibration_share=1 / 3,
      calibration=8,
      correction=8,
      sensitivity=4,
      batch=4,
    ),
    weight_bits=BITS,
    mixed_by="adaround",
    rounding_steps=20,
    targets={"gap9_ne16": {}, "xpulpnn_v2": {}},
    choices=(
      dict(target="gap9_ne16", cost="weight_bytes", shares=(0.5, 0.3)),
      dict(target="xpulpnn_v2", cost="cycles", shares=(1.0,)),
    ),
    try_activations=True,
    block_bits=(8, 4),
    block_sizes=(8,),
    published=(dict(name="somebody", accuracy={"8": 90.1, "2": 9.4}),),
  )
  return configured("ladder", **(settings | changes))


@pytest.fixture(scope="module")
def ran(files, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("runs") / "ladder"
  experiment.run(given(files), workdir)
  _, results, _ = experiment.load(workdir)
  return workdir, results


def splits(files):
  settings = of(config.Ladder, given(files))
  return config.splits_of(settings, NET)


@pytest.mark.parametrize("method", ["min_max", "least_squares"])
def test_uniform_networks_are_those_of_the_bench(files, ran, method):
  """The recipes of the PTQ experiment, run by its own code."""
  calibration, held_back = splits(files)
  assert len(calibration.images) == 8 and len(held_back.images) == 16
  batches = [jnp.asarray(calibration.images[i : i + 4]) for i in (0, 4)]
  bench = Bench(NET, VARIABLES, batches, few=2)
  float_logits = bench.logits(bench.in_float(), held_back.images, 4)
  for bits in BITS:
    recipe = METHODS[method].__class__(
      **{**METHODS[method].__dict__, "weight_bits": bits}
    )
    logits = bench.logits(bench.apply(recipe), held_back.images, 4)
    p, q = (
      np.exp(x - np.logaddexp.reduce(x, -1, keepdims=True))
      for x in (float_logits, logits)
    )
    kl = np.mean(np.sum(p * np.log(p / q), -1))
    found = ran[1].point(method, bits).numbers
    assert found.kl == pytest.approx(kl, rel=1e-3, abs=1e-7)


def test_numbers_are_those_of_all_that_is_held_back(files, ran):
  """Logits of the scheme's own model, all in one batch."""
  _, held_back = splits(files)
  results = ran[1]
  lab = Lab(of(config.Ladder, given(files)))
  calibration, _ = splits(files)
  shop = pipeline._workshop(
    lab.settings, _Folder(ran[0]), NET, VARIABLES, calibration.images
  )
  found = shop.apply("min_max", shop.uniform(4))
  whole = np.asarray(
    pipeline.Model(shop.net, gridded.Gridded()).apply(
      found.variables, jnp.asarray(held_back.images), False, data=found.data
    )
  )
  numbers = results.point("min_max", 4).numbers
  right = whole.argmax(-1) == held_back.labels
  assert numbers.accuracy == pytest.approx(right.mean())
  in_float = shop.logits(None, held_back.images)
  same = whole.argmax(-1) == in_float.argmax(-1)
  assert numbers.agreement == pytest.approx(same.mean())
  # Sources of one input each: the error is that of a share
  n, share = len(same), same.mean()
  error = np.sqrt(share * (1 - share) / (n - 1)) if n else 0
  assert numbers.agreement_error == pytest.approx(error)


class _Folder:
  def __init__(self, workdir):
    self.workdir = workdir


def test_the_choice_is_the_best_of_all(ran):
  """Every assignment of weights, under budgets of flash."""
  results = ran[1]
  sites = [site for site in results.harm if site.endswith(".weight")]
  assert len(sites) == 4
  grid = np.array(list(itertools.product(BITS, repeat=len(sites))))
  harm = sum(
    np.vectorize(results.harm[site].get)(grid[:, i])
    for i, site in enumerate(sites)
  )
  layers = {x.name: x for x in NET.workload.layers}
  counts = [layers[site.removesuffix(".weight")].weight_count for site in sites]
  sizes = sum(-(-c * grid[:, i] // 8) for i, c in enumerate(counts))
  eight = results.point("min_max", 8).weight_bytes
  assert eight == NET.workload.weight_count
  for point in results.chosen:
    if point.budget.cost != "weight_bytes":
      continue
    least = harm[sizes <= int(point.budget.share * eight)].min()
    own = sum(results.harm[site][point.bits[site]] for site in sites)
    assert own == pytest.approx(least)
    assert point.weight_bytes <= point.budget.share * eight
    assert point.weight_bytes == proxies.weight_bytes(NET.workload, point.bits)


def test_what_each_target_can_do_is_costed_there(ran):
  for point in ran[1].points:
    weights = {b for s, b in point.bits.items() if s.endswith(".weight")}
    assert ("xpulpnn_v2" in point.cycles) == (weights <= {2, 4, 8})
  (by_cycles,) = [p for p in ran[1].chosen if p.budget.cost == "cycles"]
  eight = ran[1].point("min_max", 8).cycles["xpulpnn_v2"]
  assert by_cycles.cycles["xpulpnn_v2"] <= eight
  # Beside it the nearest of what is within the same budget
  for point in ran[1].chosen:
    cost = lambda p, b=point.budget: (
      p.weight_bytes if b.cost == "weight_bytes" else p.cycles.get(b.target)
    )
    most = int(point.budget.share * cost(ran[1].point("adaround", 8)))
    within = [
      p.numbers.kl
      for p in ran[1].points
      if not p.budget and cost(p) is not None and cost(p) <= most
    ]
    rival = ran[1].rival(point)
    assert (rival and rival.numbers.kl) == min(within, default=None)


def test_layers_are_rounded_once_for_all_networks(ran):
  names = {path.name for path in (ran[0] / "rounded").iterdir()}
  assert names == {f"{node.name}.npz" for node in NET.nodes if node.has_weights}
  with np.load(ran[0] / "rounded/pw1.npz") as stored:
    assert stored["codes"].shape == (len(BITS), 1, 1, 8, 8)
    assert (stored["error"] <= stored["nearest_error"] * (1 + 1e-6)).all()


def test_rounded_networks_are_those_of_integers(files, ran):
  """By the scheme of integers: here all activations are behind a ReLU."""
  lab = Lab(of(config.Ladder, given(files)))
  calibration, held_back = splits(files)
  shop = pipeline._workshop(
    lab.settings, _Folder(ran[0]), NET, VARIABLES, calibration.images
  )
  ranges = ptq_calibration.ranges(shop.net, shop.histograms, (8,), "min_max")
  judge = RoundedJudge(
    shop.net,
    {**shop.variables, "batch_stats": {}},
    *(shop.rounded, shop.ladder, ranges, held_back.images),
    held_back.labels,
    batch=4,
  )
  bits = shop.uniform(4) | {"dw1.weight": 2, "fc.weight": 8}
  found = shop.apply("adaround", bits, correct=False)
  logits = shop.logits(found, held_back.images)
  # Integers add the bias in steps of their sums, a grid's numbers do not
  [site] = {NET.site_of[name] for name in NET.node["fc"].inputs}
  step = shop.rounded["fc"].ranges[shop.ladder.index(8)] / 128
  unit = step * np.float32(ranges[site][8]) / 255
  np.testing.assert_allclose(logits, judge.logits(bits), atol=unit / 2 + 1e-5)

  # Corrected, its layers' means are the float network's: those of logits too
  few = calibration.images[: lab.settings.inputs.correction]
  wanted = shop.logits(None, few).mean(0)
  off = [
    np.abs(shop.logits(shop.apply("adaround", bits, x), few).mean(0) - wanted)
    for x in (True, False)
  ]
  assert off[0].max() < 1e-4 < off[1].max()


def test_a_stopped_run_ends_with_the_same_numbers(files, ran, tmp_path):
  workdir = tmp_path / "again"
  shutil.copytree(ran[0], workdir)
  for name in ("result.json", "results.json", "results.csv", "report.html"):
    (workdir / name).unlink()
  path = workdir / "measured.json"
  measured = json.loads(path.read_text())
  few = list(measured)[: len(measured) // 2]
  path.write_text(json.dumps({name: measured[name] for name in few}))
  (workdir / "rounded/pw1.npz").unlink()
  experiment.run(given(files), workdir)
  before, after = (
    json.loads((folder / "results.json").read_text())["results"]
    for folder in (ran[0], workdir)
  )
  assert before == after


def test_other_inputs_of_the_same_name_are_refused(
  files, tmp_path, monkeypatch
):
  """After a stop, before anything is rounded for them."""
  copy, workdir = tmp_path / "x.npz", tmp_path / "run"
  inputs = given(files).inputs.to_dict() | {"path": str(copy)}
  settings = given(files, inputs=inputs)
  with np.load(files / "x.npz") as stored:
    arrays = dict(stored)
  np.savez(copy, **arrays)

  def stopped(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(pipeline, "_workshop", stopped)
  for _ in range(2):  # the same again is no other
    with pytest.raises(KeyboardInterrupt):
      experiment.run(settings, workdir)
  arrays["x"][0, 0, 0] ^= 1
  np.savez(copy, **arrays)
  with pytest.raises(ConfigError, match="begun with other inputs; use another"):
    experiment.run(settings, workdir)


def test_rows_and_page(ran, tmp_path):
  workdir, results = ran
  with (workdir / "results.csv").open() as file:
    rows = list(csv.DictReader(file))
  assert [row["name"] for row in rows[:2]] == ["float", "min_max W8"]
  assert len(rows) == 1 + 9 + 3 + 2
  text = (workdir / "report.html").read_text()
  for word in ("somebody", "AdaRound", "X=4, blocks of 8", "90.1"):
    assert word in text, word
  assert "stay within 2 points" in results.answer

  # Without labels it is said what is told, and nobody's accuracies stand there
  numbers = {"accuracy": None}
  unlabelled = dataclass_without_labels(results, numbers)
  page.write(unlabelled, Run(settings={"experiment": "ladder"}), tmp_path)
  text = (tmp_path / "report.html").read_text()
  assert "somebody" not in text
  assert "agreement, not accuracy" in text and "not accuracy" in (
    unlabelled.answer
  )


def dataclass_without_labels(results, numbers):
  import dataclasses

  bare = lambda n: dataclasses.replace(n, **numbers)
  return dataclasses.replace(
    results,
    in_float=bare(results.in_float),
    points=tuple(
      dataclasses.replace(p, numbers=bare(p.numbers)) for p in results.points
    ),
    has_labels=False,
  )


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(mixed_by="adaround", methods=("min_max",)), "mixed_by is 'adaround'"),
    (dict(weight_bits=(4, 2)), "8 among them"),
    (dict(choices=(dict(target="xpulp_v2"),)), "choices .* targets of"),
    (dict(targets={"gap8": {}}, choices=()), r"targets: .*gap8"),
    (
      dict(targets={"gap9_ne16": {"l2_bytes": 100_100}}, choices=()),
      r"targets\['gap9_ne16'\]: .*L2",
    ),
    (dict(float_checkpoint=""), "nothing is trained here"),
    (
      dict(choices=(dict(target="gap9_ne16", shares=(0.1,)),)),
      r"choices, gap9_ne16, shares \(0.1,\): weight_bytes <= .* least",
    ),
    (dict(inputs=dict(path="nowhere")), "inputs: nowhere is not there"),
    (dict(inputs=dict(crops=2)), "are squares of three colours"),
  ],
)
def test_what_cannot_work_is_told(files, changes, message):
  if "inputs" in changes:
    base = given(files).inputs.to_dict()
    changes = {"inputs": base | changes["inputs"]}
  settings = given(files, **changes)
  with pytest.raises(ConfigError, match=message) as caught:
    checked = of(config.Ladder, settings)
    config.check(checked, Lab(checked))
  assert "\n" not in str(caught.value)


def test_too_few_inputs_are_told(files):
  base = given(files).inputs.to_dict()
  for changes, message in (
    (dict(correction=9), "inputs.correction is 9, expected 1 to 8"),
    (dict(sensitivity=99), "inputs.sensitivity is 99, expected 1 to 8"),
  ):
    checked = of(config.Ladder, given(files, inputs=base | changes))
    with pytest.raises(ConfigError, match=message):
      config.check(checked, Lab(checked))


def test_errors_are_clustered_by_photograph():
  right = np.array([1, 1, 0, 0, 1, 1], bool)
  alike = pipeline._clustered(right, np.array([0, 0, 1, 1, 2, 2]))
  # Three photographs of shares 1, 0, 1: the error of their mean
  assert alike == pytest.approx(np.std([1, 0, 1], ddof=1) / np.sqrt(3))
  assert pipeline._clustered(right, np.zeros(6)) is None


def test_configs_are_complete():
  kws = mlperf_kws.get_config("model=a.tflite,data=b")
  assert kws.net.arguments.file == kws.float_checkpoint == "a.tflite"
  assert kws.inputs.path == "b" and len(kws.published) == 2
  lite0 = photos_lite0.get_config()
  short = photos_lite0.get_config("short,photos=mine")
  assert short.inputs.path == "mine" and short.inputs.crops < lite0.inputs.crops
  assert ladder.EXPERIMENT.settings is config.Ladder
