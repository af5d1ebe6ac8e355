"""Float networks out of PyTorch checkpoints, in an experiment."""

import jax
import lab_cases
import numpy as np
import pytest
import torch_cases

from fbq.config import ConfigError
from fbq.lab import pretrained, workdir
from fbq.train import torch_names
from tests.configs import tiny_folder

WIDTH = 1 / 16
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
  root = tmp_path_factory.mktemp("checkpoint")
  config = tiny_folder.get_config()
  config.data.directory = str(root / "images")
  config.net = dict(
    builder="mobilenet_v1",
    arguments=dict(width=WIDTH, resolution=32, classes=3),
  )
  config.float_checkpoint = str(root / "net.npz")
  config.checkpoint_images = (MEAN, STD)
  return config


@pytest.fixture(scope="module")
def lab_and_oracle(config, tmp_path_factory):
  """A Lab, and the accuracy of PyTorch's network on its test images."""
  plain = config.copy_and_resolve_references()
  plain.float_checkpoint = ""
  _, lab = lab_cases.checked(plain)
  images, labels = map(np.asarray, lab.task.test.everything)
  torch = torch_cases.Torch(0)
  x = (images - np.array(MEAN)) / np.array(STD)
  logits = torch_cases.mobilenet_v1(torch, x.transpose(0, 3, 1, 2), WIDTH, 3)
  np.savez(config.float_checkpoint, **torch.state)
  _, lab = lab_cases.checked(config)
  lab.open(tmp_path_factory.mktemp("run"))
  return lab, float(np.mean(logits.argmax(1) == labels))


def test_it_is_evaluated_as_it_is_and_its_leaves_are_reported(
  lab_and_oracle, capsys
):
  """As given, though for images not in [0, 1], and not trained further."""
  lab, expected = lab_and_oracle
  keys = jax.random.split(jax.random.key(0))
  variables, judged = lab.float_network("float", keys)
  accuracy = judged.test.accuracy
  # The colour of the border differs, see `torch_weights.load`.
  assert abs(accuracy - expected) <= 1 / 9
  with np.load(lab.settings.float_checkpoint) as file:
    [first] = [k for k in file.files if file[k].shape[1:] == (3, 3, 3)]
    kernel = file[first].transpose(2, 3, 1, 0) / np.array(STD)[:, None]
  np.testing.assert_allclose(variables["params"]["conv1_kernel"], kernel, 1e-6)
  printed = capsys.readouterr().out
  leaves = len(jax.tree.leaves(variables))
  assert f"{leaves} leaves matched, 0 leaves and 0 keys not" in printed
  assert printed.count(" <- ") == leaves
  again, same = lab.float_network("float", keys)
  assert same.results() == judged.results()
  assert jax.tree.all(
    jax.tree.map(lambda a, b: (a == b).all(), variables, again)
  )


@pytest.mark.parametrize(
  ("changes", "message"),
  [(dict(width=1 / 8), "float_checkpoint is .* shape"),
   (dict(classes=4), "which does not make|shape")],
)  # fmt: skip
def test_a_checkpoint_of_another_network_is_refused(
  lab_and_oracle, config, changes, message
):
  other = config.copy_and_resolve_references()
  other.net.arguments.update(changes)
  with pytest.raises(ConfigError, match=message):
    lab_cases.checked(other)


def test_the_content_of_a_checkpoint_is_part_of_the_claim(
  lab_and_oracle, config
):
  settings = lab_and_oracle[0].settings
  claim = workdir.claim_of(settings)
  assert workdir.settings_of(claim) == settings.model_dump(mode="json")
  with np.load(config.float_checkpoint) as file:
    state = {key: file[key] for key in file.files}
  other = config.float_checkpoint.replace("net", "other")
  state["fc.bias" if "fc.bias" in state else sorted(state)[0]] += 1
  np.savez(other, **state)
  changed = workdir.claim_of(settings.with_(float_checkpoint=other))
  assert changed["checkpoint_sha256"] != claim["checkpoint_sha256"]


def shuffled(net):
  """The layout of a checkpoint whose modules have other names."""
  return {
    name: f"m.{name}" for node in net.node for name in (node, f"{node}_norm")
  } | {"classifier": "head"}


def test_a_layout_comes_in_by_its_name(lab_and_oracle, config, tmp_path):
  names = torch_names.layout(lab_and_oracle[0].net)
  with np.load(config.float_checkpoint) as file:
    state = {key: file[key] for key in file.files}
  for node, modules in names.modules.items():
    new = "head" if node == "classifier" else f"m.{node}"
    for old, name in ((modules.weights, new), (modules.norm, f"{new}_norm")):
      keys = [key for key in state if key.rpartition(".")[0] == old]
      state |= {name + key.removeprefix(old): state.pop(key) for key in keys}
  other = config.copy_and_resolve_references()
  other.float_checkpoint = str(tmp_path / "other.npz")
  np.savez(other.float_checkpoint, **state)
  with pytest.raises(ConfigError, match="config.checkpoint_layout"):
    lab_cases.checked(other)
  other.checkpoint_layout = f"{__name__}:shuffled"
  _, lab = lab_cases.checked(other)
  expected, _ = pretrained.load(lab_and_oracle[0].settings, lab.net)
  found, _ = pretrained.load(lab.settings, lab.net)
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  for given in ("torch", "flax", "fbq", "no.such:thing", "torchvisions"):
    other.checkpoint_layout = given
    with pytest.raises(ConfigError, match="checkpoint") as error:
      lab_cases.checked(other)
    assert len(str(error.value)) < 1500
