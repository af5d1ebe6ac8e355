"""What a user brings: a package outside of the tree, named in configs."""

import json
import subprocess
import sys

import experiment_runs
import lab_cases
import numpy as np
import pytest
from ml_collections import ConfigDict

from fbq import doors
from fbq.config import ConfigError
from fbq.lab import experiment
from hwsim import latency_io
from hwsim.pulp import XPULP_V2, get_target, latency_table
from tests.configs import tiny, tiny_exact, tiny_shootout

BROUGHT = '''
"""Everything that one person brings."""

import dataclasses

import numpy as np

from fbq.config import Count, Settings
from fbq.lab import task
from fbq.lab.data import DataSet
from fbq.lab.experiment import Experiment
from fbq.lab.strategies import Valuation
from fbq.nets import Net, Node
from hwsim.pulp import XPULPNN_V1


def two_layers(features):
  """A network that is not square and reads two channels."""
  nodes = (
    Node("conv", "conv", ("input",), features, (3, 3), 2, 1, norm=True,
         activation="relu"),
    Node("pool", "avg_pool", ("conv",), kernel=None),
    Node("out", "linear", ("pool",), 3, bias=True, is_output=True),
  )
  return Net("two-layers", (8, 6, 2), nodes)


class Stripes(Settings):
  """Images that are bright in the channel and the half of their class."""

  name: str
  "Data set."
  count: Count = 40
  "Images of each split."


def stripes(settings, net):
  random = np.random.default_rng(0)

  def split():
    labels = np.arange(settings.count) % 3
    images = random.integers(0, 60, (settings.count, *net.input_shape))
    for image, label in zip(images, labels):
      image[: 4 * (label + 1) - 4 or 8, :, label % 2] += 150
    return images.astype(np.uint8), labels

  return task.from_arrays(split(), split(), classes=3, batch=16)


DATA = DataSet(Stripes, stripes)
SMALL = dataclasses.replace(XPULPNN_V1, name="small", l2_bytes=400_000)


def alike(net, evidence):
  """The same for every tensor."""
  return {
    site: {2: 0.0, 4: 1.0, 8: 1.5}
    for site in net.workload.sites
    if site not in net.fixed_bits
  }


EQUAL = Valuation("every tensor is worth the same", alike)


class Asked(Settings):
  """Settings of an experiment."""

  experiment: str
  "Experiment."
  numbers: tuple[int, ...] = (1, 2)
  "What is added up."


@dataclasses.dataclass(frozen=True)
class Sum:
  """What came of it."""

  total: int

  def table(self):
    yield ["total"]
    yield [self.total]

  def summary(self):
    return {"total": self.total}


def check(settings, lab):
  pass


def run(settings, lab):
  lab.log.say("adding")
  return Sum(sum(settings.numbers))


def write(results, run, workdir):
  (workdir / "report.html").write_text(f"<p>{results.total}</p>")


def tell(results, log):
  log.say(f"the sum is {results.total}")


ADDING = Experiment(Asked, check, run, Sum, write, tell)
'''


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
  """A module that fbq has never heard of."""
  (tmp_path / "brought.py").write_text(BROUGHT)
  monkeypatch.syspath_prepend(tmp_path)
  yield tmp_path
  sys.modules.pop("brought", None)


def own_config(config):
  """With the network and the data of the user."""
  plain = config.to_dict()
  plain["net"] = dict(builder="brought:two_layers", arguments=dict(features=8))
  plain["data"] = dict(name="brought:DATA", count=33)
  return ConfigDict(plain)


def test_every_short_name_leads_somewhere():
  for kind, names in doors.KNOWN.items():
    for name in names:
      assert doors.resolve(kind, name) is not None


def test_own_network_data_and_target_go_the_whole_way(tmp_path):
  config = own_config(tiny.get_config())
  config.target = "brought:SMALL"
  config.search.locked = (False,)
  config.uniform_baselines = (8,)
  experiment.run(config, tmp_path / "run")
  _, found, run = experiment.load(tmp_path / "run")
  assert found.network == "two-layers" and found.target == "small"
  assert found.test_count == 33
  assert run.settings["data"]["count"] == 33
  for point in found.points:
    assert round(point.test.accuracy * 33, 6) in range(34)


def test_images_of_arrays_are_seen_as_they_are():
  """uint8 from 0 to 1, each training image once a pass, by the run's seed."""
  import jax

  _, lab = lab_cases.checked(own_config(tiny.get_config()))
  images, labels = map(np.asarray, lab.task.test.everything)
  assert images.shape == (33, 8, 6, 2) and images.max() <= 1
  assert np.bincount(labels).tolist() == [11, 11, 11]
  assert lab.task.validation.count == 3
  sample, feed = lab.task.draws(10, None)
  passes = []
  for start in (0, 3):
    with feed({"key": jax.random.key(5)}, start) as fed:
      batches = [sample(None, *next(fed))[0] for _ in range(3)]
    passes.append({np.asarray(x).tobytes() for x in np.concatenate(batches)})
  assert passes[0] == passes[1] and len(passes[0]) == 30
  with feed({"key": jax.random.key(5)}, 2) as fed:  # resumed
    again = np.asarray(sample(None, *next(fed))[0])
  with feed({"key": jax.random.key(5)}, 0) as fed:
    third = [np.asarray(sample(None, *next(fed))[0]) for _ in range(3)][2]
  assert (again == third).all()


def test_an_own_strategy_competes(tmp_path):
  config = own_config(tiny_shootout.get_config("few"))
  plain = config.to_dict()
  plain["strategies"] = {
    "loss-exact": {},
    "mine": dict(strategy="brought:EQUAL"),
  }
  experiment.run(ConfigDict(plain), tmp_path / "run")
  _, found, _ = experiment.load(tmp_path / "run")
  assert {t.strategy for t in found.tuned} == {"loss-exact", "mine", "uniform"}
  assert found.tried["mine"].text == "every tensor is worth the same"


def test_an_own_experiment_runs_and_its_page_is_made_again(tmp_path):
  workdir = tmp_path / "run"
  config = ConfigDict(dict(experiment="brought:ADDING", numbers=(3, 4)))
  experiment.run(config, workdir)
  assert json.loads((workdir / "result.json").read_text()) == {"total": 7}
  assert (workdir / "results.csv").read_text() == "total\n7\n"
  (workdir / "report.html").unlink()
  done = subprocess.run(
    [sys.executable, "-m", "fbq.report", str(workdir)],
    cwd=experiment_runs.ROOT,
    env={"PYTHONPATH": str(tmp_path), "PATH": ""},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert (workdir / "report.html").read_text() == "<p>7</p>"


def measured(tmp_path, workload):
  """Cycles that no simulator gives: 1,000 a bit, whatever the layer."""
  table = latency_table(workload, XPULP_V2)
  path = tmp_path / "board.csv"
  latency_io.save(table, path)
  head, *lines = path.read_text().splitlines()
  names = head.split(",")
  rows = []
  for line in lines:
    row = dict(zip(names, line.split(","), strict=True))
    bits = [row["in_bits"], row["weight_bits"], row["out_bits"]]
    cycles = 1000 * sum(int(b) for b in bits if b != "-")
    row |= dict(latency_cycles=cycles, provenance="measured", target="my board")
    rows.append(",".join(str(row[n]) for n in names))
  path.write_text("\n".join([head, *rows]) + "\n")
  return path


def test_a_measured_table_is_the_whole_target(tmp_path):
  config = tiny_exact.get_config()
  config.target, config.output_bits = "", "reader"
  config.measured_latency = str(measured(tmp_path, tiny.separable().workload))
  _, lab = lab_cases.checked(config)
  assert lab.costs.name == "my board" and lab.costs.target is None
  stem = lab.costs.cycles[0]  # inputs, weights, outputs
  bits = np.array([2, 4, 8])
  assert (stem == 1000 * (bits[:, None, None] + bits[:, None] + bits)).all()


def test_fields_of_a_target_are_overridden_in_every_experiment():
  for config in (tiny.get_config(), tiny_exact.get_config()):
    config.target_overrides = dict(l2_bytes=400_000)
    _, lab = lab_cases.checked(config)
    expected = get_target("xpulpnn_v1", dict(l2_bytes=400_000))
    assert lab.costs.target == expected


@pytest.mark.parametrize(
  ("setting", "value", "message"),
  [
    (
      "experiment",
      "brought:check",
      "brought:check. is of type function",
    ),
    ("experiment", "brought:NONE", "has no attribute 'NONE'"),
    ("data.name", "brought:ADDING", "data 'brought:ADDING' is of type Experim"),
    ("target", "brought:DATA", "target 'brought:DATA' is of type DataSet"),
    ("qat.method", "brought:DATA", "rule 'brought:DATA' is of type DataSet"),
    (
      "net.builder",
      "brought:DATA",
      "builder is .brought:DATA., expected a",
    ),
    ("net.builder", "brought:check", "brought:check. takes settings, lab"),
    ("net.builder", "mobilnet_v1", "did you mean 'mobilenet_v1'"),
  ],
)
def test_what_is_of_another_kind_is_refused(setting, value, message):
  config = tiny.get_config()
  *path, last = setting.split(".")
  place = config
  for part in path:
    place = place[part]
  place[last] = value
  with pytest.raises(ConfigError, match=message) as error:
    lab_cases.checked(config)
  assert "\n" not in str(error.value)
