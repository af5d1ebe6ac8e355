"""What cannot work is told at once, in one line that says what to do."""

import json
import re
import subprocess
import sys
import time

import experiment_runs
import lab_cases
import pytest

from fbq.config import ConfigError
from fbq.data import digits
from fbq.lab import experiment, lab, workdir
from hwsim import latency_io
from hwsim.pulp import get_target, latency_table
from tests.configs import tiny


@pytest.fixture(autouse=True)
def nothing_trains(monkeypatch):
  """Every error must come before the first stage and before the data."""

  def begins(*_, **__):
    raise AssertionError("the run went past its checks")

  monkeypatch.setattr(lab, "train", begins)
  monkeypatch.setattr(digits, "load", begins)


def claim(**changes):
  """What a run of the tiny configuration claims its workdir for."""
  settings, _ = lab_cases.checked(config_with(changes))
  return workdir.claim_of(settings)


def config_with(changes):
  """The tiny configuration with settings, by dotted name, changed or added."""
  config = tiny.get_config()
  for name, value in changes.items():
    *path, last = name.split(".")
    part = config
    for key in path:
      part = part[key]
    with part.ignore_type(), part.unlocked():
      part[last] = value
  return config


WRONG = [
  ({"serach": 3}, r"config\.serach is no setting; did you mean 'search'\?"),
  ({"search.step": 3}, r"config\.search\.step is .*did you mean 'steps'\?"),
  ({"zzz": 3}, r"config\.zzz is no setting\. Known: net, float_checkpoint"),
  ({"search.steps": 0}, r"config\.search\.steps is 0, expected a number of"),
  ({"search.steps": 10**30}, r"search\.steps is 10+, expected a number of st"),
  ({"search.steps": 2.5}, r"search\.steps is 2\.5 \(float\), expected a num"),
  ({"search.steps": [1, 2]}, r"search\.steps is \(1, 2\) \(tuple\), expected"),
  ({"search": 3}, r"config\.search is 3 \(int\), expected settings"),
  ({"seeds": (-1,)}, r"config\.seeds is \(-1,\), expected different whole n"),
  ({"seeds": (0, 0)}, r"config\.seeds is \(0, 0\), expected different whole n"),
  ({"confidence": 1.0}, r"config\.confidence is 1\.0, expected .* to below 1"),
  ({"data.validation_share": 0.0}, r"validation_share is 0\.0, expected"),
  ({"data.validation_share": 0.9999}, "holds 1,437 of 1,437 training images"),
  ({"data.test_seed": 2**40}, r"config\.data\.test_seed is 1099511627776"),
  ({"data.name": "mnist"}, r"config\.data\.name: data 'mnist' is not known"),
  ({"data.name": "no.such:set"}, "data 'no.such:set' cannot be loaded: No mod"),
  ({"data.name": 3}, r"config\.data\.name is 3, expected one of ade20k"),
  ({"data.difficulty": {"blur": 1}}, r"unknown settings \['blur'\].*'noise'"),
  ({"data.difficulty": {"noise": -1}}, "noise is -1, expected"),
  ({"rules": [("conv9.weight", 4)]}, r"'conv9\.weight' matches no tensor"),
  ({"rules": [("stem.wieght", 4)]}, r"did you mean 'stem\.weight'"),
  ({"rules": [("input.out", 4)]}, r"'input\.out' matches no tensor.*free"),
  ({"rules": [("stem.weight", 3)]}, r"'stem\.weight': 3 bits, expected one of"),
  ({"rules": [("stem[", 4)]}, r"'stem\[' is no regular expression"),
  ({"rules": [("stem.weight",)]}, r"config\.rules is .*expected pairs"),
  ({"rules": [[[1, 2]]]}, r"config\.rules is .*expected pairs"),
  ({"uniform_baselines": (8, 3)}, r"baselines is \(8, 3\), .*of \(2, 4, 8\)"),
  ({"uniform_baselines": (8.0,)}, r"uniform_baselines is \(8\.0,\)"),
  ({"uniform_baselines": (4, 2)}, "8 among them: the report compares"),
  ({"search.range_bits": 5}, r"range_bits is 5, expected one of \(2, 4, 8\)"),
  ({"search.strengths": (1, -1)}, r"strengths is \(1, -1\), expected numbers"),
  ({"search.strengths": (0.1, 0.10000001)}, "expected numbers.* that differ"),
  ({"search.locked": ("yes",)}, r"locked is \('yes',\).*, expected some of T"),
  ({"float_training.learning_rate": 0.0}, "learning_rate is 0.0, expected a"),
  ({"tolerance": 2.0}, r"config\.tolerance is 2\.0, expected a number, 0 to b"),
  ({"checkpoint_every": 3}, "a multiple of log_every, 2"),
  ({"calibration_images": 10**30}, "calibration_images is 10+, expected a who"),
  ({"qat.method": "sgd"}, r"qat\.method.*'sgd'.*log_lsq"),
  ({"target": "gap9"}, r"config\.target: target 'gap9' is not known.*nn_v1"),
  ({"target": ""}, r"config\.target is '', expected .*measured_latency"),
  ({"target_overrides": {"l2_byte": 1}}, "did you mean 'l2_bytes'"),
  ({"target_overrides": {"l2_bytes": -1}}, "l2_bytes is -1, expected a whole"),
  ({"net.builder": "vgg99"}, r"net 'vgg99' is not known; did you mean 'vgg9'"),
  ({"net.builder": "no.such:net"}, "cannot be loaded: No module named 'no'"),
  ({"net.builder": "\0"}, r"net '\\x00' is not known"),
  ({"net.builder": "\0:a"}, r"net '\\x00:a' cannot be loaded"),
  ({"net.builder": "tests.configs.tiny:nets"}, "has no attribute 'nets'"),
  ({"net.arguments": {"width": 1}}, "unexpected keyword argument 'width'"),
  ({"net.arguments": {"channels": 2.5}}, r"whole numbers of features.*stem"),
  ({"net.arguments": {"channels": 10**30}}, r"whole numbers of features.*stem"),
  ({"net.arguments": {"resolution": 1e308}}, "whole numbers|cannot convert"),
  ({"net.builder": "mobilenet_v1", "net.arguments": {"stem_stride": 10**30}},
   "strides of 1 to 224|expected|whole numbers"),
  ({"net.arguments": {"resolution": 4}}, "of 4x4x1, expected square grey .*8"),
  ({"net.builder": "resnet8", "net.arguments": {"resolution": 8}},
   r"of 8x8x3, expected square grey .*in_channels=1"),
  ({"net.builder": "resnet8",
    "net.arguments": {"resolution": 8, "in_channels": 1, "classes": 3}},
   "tells 3 classes apart, expected 8x8x1 and 10, those of digits"),
  ({"measured_latency": "no/such.csv"}, r"No such file.*no/such\.csv"),
  ({"measured_latency": "notes.txt"}, r"notes\.txt: expected a name that ends"),
]  # fmt: skip


@pytest.mark.parametrize(
  ("changes", "message"), WRONG, ids=lambda x: "-".join(x)[:40] if x else ""
)
def test_a_wrong_setting_is_named(changes, message, tmp_path):
  workdir = tmp_path / "run"
  with pytest.raises(ConfigError, match=message) as error:
    experiment.run(config_with(changes), workdir)
  assert "\n" not in str(error.value)
  assert not workdir.exists()


def test_a_missing_setting_is_named(tmp_path):
  config = tiny.get_config()
  with config.unlocked():
    del config["data"]
  with pytest.raises(
    ConfigError, match=r"config\.data\.name is None, expected one"
  ):
    experiment.run(config, tmp_path / "run")


def test_a_bad_line_of_measurements_is_named(tmp_path):
  path = tmp_path / "board.csv"
  table = latency_table(tiny.separable().workload, get_target("xpulpnn_v1"))
  latency_io.save(table, path)
  lines = path.read_text().splitlines()
  cells = lines[6].split(",")
  cells[lines[0].split(",").index("latency_cycles")] = "fast"
  path.write_text("\n".join([*lines[:6], ",".join(cells), *lines[7:]]))
  with pytest.raises(ConfigError, match="line 7: latency_cycles is"):
    experiment.run(
      config_with({"measured_latency": str(path)}), tmp_path / "run"
    )


def test_a_workdir_of_another_configuration_is_refused(tmp_path):
  plain = claim()
  workdir.claim_workdir(tmp_path / "run", plain)
  workdir.claim_workdir(tmp_path / "run", plain)  # its own
  changed = config_with({"search.steps": 9, "rules": [("stem.weight", 8)]})
  with pytest.raises(ConfigError) as error:
    experiment.run(changed, tmp_path / "run")
  message = str(error.value)
  assert str(tmp_path / "run") in message
  assert "config.search.steps (8, now 9)" in message
  assert "config.rules ([], now [['stem.weight', 8]])" in message
  assert "another --workdir" in message


def test_a_foreign_workdir_is_refused(tmp_path):
  (tmp_path / "thesis.tex").write_text("precious")
  with pytest.raises(ConfigError, match="not empty and has no config"):
    experiment.run(tiny.get_config(), tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
  with pytest.raises(ConfigError, match="thesis.tex cannot be used"):
    experiment.run(tiny.get_config(), tmp_path / "thesis.tex")


def test_a_workdir_that_cannot_be_used_is_told_before_anything_is_built(
  tmp_path, monkeypatch
):
  def built(*_):
    raise AssertionError("a network was built")

  monkeypatch.setattr(lab.networks, "build", built)
  workdir.claim_workdir(tmp_path / "run", {"fbq": workdir.FORMAT})
  with pytest.raises(ConfigError, match="belongs to another configuration"):
    experiment.run(tiny.get_config(), tmp_path / "run")
  (tmp_path / "file").write_text("precious")
  with pytest.raises(ConfigError, match="file cannot be used"):
    experiment.run(tiny.get_config(), tmp_path / "file")
  with pytest.raises(ConfigError, match="has no config.json"):
    experiment.run(tiny.get_config(), tmp_path)


def test_of_another_experiment_only_that_is_told(tmp_path):
  workdir.claim_workdir(tmp_path, claim() | {"experiment": "ptq"})
  with pytest.raises(ConfigError) as error:
    experiment.run(config_with({"search.steps": 9}), tmp_path)
  assert "config.experiment ('ptq', now" in str(error.value)
  assert "steps" not in str(error.value)


def test_settings_may_be_read_in_part():
  program = "import sys; from fbq.lab import running; running.print_settings("
  program += "{'experiment': 'profile'})"
  made = subprocess.run(
    f'{sys.executable} -c "{program}" | head -1',
    shell=True,
    cwd=experiment_runs.ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert made.stdout and "Traceback" not in made.stderr


@pytest.mark.parametrize("content", [b"", b'{"seed": ', b"\xff\x00", b"[]"])
def test_a_damaged_config_file_of_a_workdir_is_refused(tmp_path, content):
  (tmp_path / "config.json").write_bytes(content)
  with pytest.raises(ConfigError) as error:
    experiment.run(tiny.get_config(), tmp_path)
  assert re.search("damaged|another configuration", str(error.value))
  assert str(tmp_path) in str(error.value)
  assert "another --workdir" in str(error.value)


def test_what_a_kill_left_of_a_claim_is_cleaned_up(tmp_path):
  (tmp_path / "config.json.12.writing").write_text('{"se')
  workdir.claim_workdir(tmp_path, claim())
  assert {p.name for p in tmp_path.iterdir()} == {"config.json", ".lock"}
  (tmp_path / "precision").mkdir()
  for name in ("results.csv.7.writing", "precision/4-4.json.7.writing"):
    (tmp_path / name).write_text("half")
  workdir.claim_workdir(tmp_path, claim())
  assert not list(tmp_path.rglob("*.writing"))


def test_a_workdir_is_one_process_s_until_it_dies(tmp_path):
  plain = claim()
  program = (
    "import json, sys, time\n"
    "from fbq.lab import workdir\n"
    "workdir.claim_workdir(sys.argv[1], json.loads(sys.argv[2]))\n"
    "print('claimed', flush=True)\n"
    "time.sleep(60)\n"
  )
  other = subprocess.Popen(
    [sys.executable, "-c", program, str(tmp_path), json.dumps(plain)],
    cwd=experiment_runs.ROOT,
    stdout=subprocess.PIPE,
    text=True,
  )
  with other:
    assert other.stdout is not None
    assert other.stdout.readline() == "claimed\n"
    with pytest.raises(ConfigError, match="another process is at"):
      workdir.claim_workdir(tmp_path, plain)
    other.kill()
  workdir.claim_workdir(tmp_path, plain)


COMMANDS = [
  (["--config.serach.steps=3"], '--config.serach.steps=3: no such.*"search"'),
  (["--config.search.step=3"], '--config.search.step=3: no such.*"steps"'),
  (["--config.search.steps=x"], "--config.search.steps=x: .*give one"),
  (["--config.search.range_bits=3"], "range_bits is 3, expected one of"),
  (["--config.search.steps=2 epochs"], "the config has a number there"),
  (
    ["--config.search.step=3", "--config.tolerance=0.1"],
    "error: --config.sear",
  ),
  (["--config.search.faithful=yes"], "faithful=yes: expected True or False$"),
  (["--config.seeds=(0,1"], "expected a tuple as Python writes it"),
  (["--config.experiment=settings"], "experiment 'settings' is not known"),
  (["--wrokdir=x"], "Unknown command line flag 'wrokdir'. Did you mean: work"),
  (["more"], r"unexpected arguments \['more'\]"),
]


@pytest.mark.parametrize(("arguments", "message"), COMMANDS)
def test_a_wrong_command_takes_one_line(tmp_path, arguments, message):
  start = time.monotonic()
  status, output = experiment_runs.run("", tmp_path / "run", *arguments)
  assert time.monotonic() - start < 20  # a second, on a machine at rest
  assert status == 1
  assert re.search(message, output), output
  assert "Traceback" not in output
  assert not (tmp_path / "run").exists()


def test_a_run_needs_a_workdir_and_a_config_file(tmp_path):
  status, output = experiment_runs.run("", None)
  assert status == 1 and "--workdir must have a value" in output
  assert output.count("\n") == 1, output
  for more in ([], ["--config.tolerance=0.1"]):
    status, output = experiment_runs.run(
      "", tmp_path / "run", *more, config="configs/nope.py"
    )
    assert status == 1 and "No such file or directory" in output
    assert "configs/nope.py" in output and "Traceback" not in output
  for given, expected in (
    ("digits_free_bits", "did you mean configs/digits_free_bits.py?"),
    ("configs/compres.py:x", "did you mean configs/compress.py?"),
    ("README.md", "README.md: expected a config, which is a file of Python"),
  ):
    status, output = experiment_runs.run("", tmp_path / "run", config=given)
    assert status == 1 and expected in output
    assert output.count("\n") == 1, output


def test_config_file_mistakes_keep_their_traceback(tmp_path):
  path = tmp_path / "broken.py"
  path.write_text("def get_config():\n  return {}['seed']\n")
  status, output = experiment_runs.run("", tmp_path / "run", config=str(path))
  assert status == 1 and "broken.py" in output and "KeyError: 'seed'" in output


def test_fingerprints_differ_with_any_setting():
  plain = claim()
  changed = claim(**{"search.faithful": True})
  assert workdir.fingerprint(plain) != workdir.fingerprint(changed)
  stored = json.loads(json.dumps(plain))
  assert workdir.fingerprint(plain) == workdir.fingerprint(stored)
