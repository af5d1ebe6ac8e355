import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import torch_cases

from fbq import nets
from fbq.model import Model
from fbq.nets.graph import INPUT, Net, Node
from fbq.train import torch_weights
from fbq.train.torch_names import Layout, Modules

SIZE = dict(resolution=32, classes=10)
BASIC = dict(depths=(2, 2, 2, 2), bottleneck=False)
DEEP = dict(depths=(3, 4, 6, 3), bottleneck=True)
# Builder -> (its settings, torchvision's network with the settings it takes).
CASES = {
  "mobilenet_v1": (dict(width=0.25), torch_cases.mobilenet_v1, {}),
  "mobilenet_v2": (dict(width=0.25), torch_cases.mobilenet_v2, {}),
  "resnet18": (dict(width=0.125), torch_cases.resnet, BASIC),
  "resnet50": (dict(width=0.125), torch_cases.resnet, DEEP),
  "googlenet": (dict(width=0.125), torch_cases.googlenet, {}),
  "convnext": (
    dict(width=1 / 12, depths=(1, 2, 1, 1)),
    torch_cases.convnext,
    dict(depths=(1, 2, 1, 1)),
  ),
}


def images(seed=0):
  return np.random.default_rng(seed).random((2, 32, 32, 3), np.float32)


@functools.cache
def case(name, mean=(0.0,), std=(1.0,)):
  """(net, variables of ones, state dict, PyTorch's logits of `images`)."""
  settings, forward, more = CASES[name]
  net = nets.build(name, **SIZE, **settings)
  torch = torch_cases.Torch(0)
  x = (images() - np.array(mean)) / np.array(std)
  logits = forward(
    torch, x.transpose(0, 3, 1, 2), settings["width"], 10, **more
  )
  return net, blank(net), torch.state, logits


def blank(net):
  image = jnp.zeros((1, *net.input_shape))
  shapes = jax.eval_shape(
    lambda key: Model(net).init(key, image, False),
    jax.random.key(0, impl="rbg"),
  )
  kept = {k: shapes[k] for k in ("params", "batch_stats") if k in shapes}
  return jax.tree.map(lambda x: np.full(x.shape, np.nan, np.float32), kept)


def outputs(net, variables, batch):
  forward = jax.jit(lambda v, x: Model(net).apply(v, x, False))
  return np.asarray(forward(variables, batch))


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_published_network(name):
  net, variables, state, expected = case(name)
  loaded, report = torch_weights.load(net, state, variables)
  assert jax.tree.structure(loaded) == jax.tree.structure(variables)
  assert len(report.matched) == len(jax.tree.leaves(variables))
  assert not report.missing and not report.unmatched
  keys = {key for _, key, _ in report.matched} | set(report.unused)
  assert keys == set(state)
  got = outputs(net, loaded, images())
  np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-4)
  assert expected.std() > 0.1


def test_clipping_at_6_is_named_where_the_networks_differ():
  for name in CASES:
    net, variables, state, _ = case(name)
    _, report = torch_weights.load(net, state, variables)
    assert ("ReLU6" in str(report)) == (name == "mobilenet_v2")
    count = len(report.matched)
    assert f"{count} leaves matched, 0 leaves and 0 keys not" in str(report)


@pytest.mark.parametrize("name", ["convnext", "resnet18"])
def test_a_normalization_is_folded_into_the_first_convolution(name):
  mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
  net, variables, state, expected = case(name, mean, std)
  loaded, _ = torch_weights.load(net, state, variables, normalized=(mean, std))
  if name == "convnext":  # its patches end where the image ends
    got = outputs(net, loaded, images())
    np.testing.assert_allclose(got, expected, rtol=5e-4, atol=5e-4)
    return
  # Elsewhere the inner pixels of the first tensor are the same.
  plain, _ = torch_weights.load(net, state, variables)

  @jax.jit
  def first(variables, batch):
    _, sown = Model(net).apply(variables, batch, False, mutable="intermediates")
    return sown["intermediates"]["conv1"][0]

  normalized = ((images() - np.array(mean)) / np.array(std)).astype(np.float32)
  got, wanted = first(loaded, images()), first(plain, normalized)
  inner = np.s_[:, 2:-2, 2:-2]
  np.testing.assert_allclose(got[inner], wanted[inner], rtol=1e-3, atol=1e-3)
  assert abs(got - wanted).max() > 0.1  # at the border


def test_a_linear_layer_after_pixels_is_flattened_channels_last():
  net = Net(
    "own",
    (4, 5, 3),
    (
      Node("conv", "conv", (INPUT,), 6, bias=True),
      Node("out", "linear", ("conv",), 7, bias=True, is_output=True),
    ),
  )
  torch = torch_cases.Torch(1)
  x = np.random.default_rng(1).random((2, 4, 5, 3), np.float32)
  inner = torch.conv(x.transpose(0, 3, 1, 2), "a", 6, bias=True)
  expected = torch.linear(inner.reshape(2, -1), "b", 7)
  names = Layout({"conv": Modules("a"), "out": Modules("b")})
  # By its layout, and by shapes, of which there are no two alike.
  for given in (names, None):
    loaded, _ = torch_weights.load(net, torch.state, blank(net), names=given)
    got = outputs(net, loaded, x)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_unmatched_leaves_and_keys_are_errors_that_name_them():
  net, variables, state, _ = case("resnet18")
  state = dict(state)
  del state["layer2.0.downsample.1.running_var"]
  state["layer5.0.conv1.weight"] = np.zeros(3)
  with pytest.raises(ValueError, match="config.checkpoint_layout") as error:
    torch_weights.load(net, state, variables)
  assert "stage2.block0.shortcut_norm/var" in str(error.value)
  assert "layer5.0.conv1.weight" in str(error.value)
  loaded, report = torch_weights.load(net, state, variables, allow_missing=True)
  assert report.unmatched == ("layer5.0.conv1.weight",)
  [missing] = report.missing
  assert missing.startswith("batch_stats/stage2.block0.shortcut_norm/var")
  left = [x for x in jax.tree.leaves(loaded) if np.isnan(x).any()]
  assert len(left) == 1


def test_leaves_of_nodes_without_a_name_are_missing():
  net, variables, state, _ = case("convnext")
  names = Layout({"stem": Modules("features.0.0")})
  _, report = torch_weights.load(
    net, state, variables, allow_missing=True, names=names
  )
  assert len(report.matched) == 2
  assert len(report.missing) == len(jax.tree.leaves(variables)) - 2


@pytest.mark.parametrize(
  "key, value, reason",
  [
    ("fc.weight", np.zeros((11, 64)), r"fc.weight has shape \(11, 64\)"),
    ("fc.weight", np.zeros((10, 65)), r"fc.weight has shape \(10, 65\)"),
    ("bn1.weight", np.zeros(9), r"params/conv1_norm/scale \(8,\)"),
    ("bn1.running_mean", np.full(8, np.nan), "running_mean has values"),
    ("conv1.weight", np.zeros((7, 7, 3, 8)), r"\(7, 7, 3, 8\)"),
  ],
)
def test_wrong_shapes_and_numbers_are_errors_whatever_is_allowed(
  key, value, reason
):
  net, variables, state, _ = case("resnet18")
  with pytest.raises(ValueError, match=reason):
    torch_weights.load(net, state | {key: value}, variables, allow_missing=True)


def test_variables_of_another_network_are_refused():
  net, _, state, _ = case("resnet18")
  with pytest.raises(ValueError, match="not those of resnet18"):
    torch_weights.load(net, state, case("mobilenet_v2")[1])


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_files_are_read_with_and_without_the_parallel_wrapper(
  tmp_path, suffix, wrapped
):
  state = {"a.weight": np.arange(6.0).reshape(2, 3), "a.bias": np.ones(2)}
  path = tmp_path / f"net{suffix}"
  named = {f"module.{k}" if wrapped else k: v for k, v in state.items()}
  if suffix == ".npz":
    np.savez(path, **named)
  else:
    path.write_bytes(safetensors.numpy.save(named))
  got = torch_weights.read(path)
  assert set(got) == set(state)
  assert all((got[k] == state[k]).all() for k in state)
  path.write_bytes(path.read_bytes()[:-20])
  with pytest.raises(ValueError, match=f"{path} is damaged"):
    torch_weights.read(path)


def test_half_precision_is_widened(tmp_path):
  path = tmp_path / "net.safetensors"
  state = {"b.weight": jnp.full((7, 3), 1.5, jnp.bfloat16)}
  state["b.bias"] = np.full(7, 0.25, np.float16)
  path.write_bytes(
    safetensors.numpy.save({k: np.asarray(v) for k, v in state.items()})
  )
  node = Node("out", "linear", (INPUT,), 7, bias=True, is_output=True)
  net = Net("own", (1, 1, 3), (node,))
  loaded, _ = torch_weights.load(
    net,
    torch_weights.read(path),
    blank(net),
    names=Layout({"out": Modules("b")}),
  )
  assert loaded["params"]["out_kernel"].dtype == np.float32
  assert (loaded["params"]["out_kernel"] == 1.5).all()
  assert (loaded["params"]["out_bias"] == 0.25).all()


def test_other_files_are_refused_with_what_to_do(tmp_path):
  (tmp_path / "net.pth").write_bytes(b"PK")
  with pytest.raises(ValueError, match="is damaged.*other than tensors"):
    torch_weights.read(tmp_path / "net.pth")
  (tmp_path / "net.bin").write_bytes(b"PK")
  with pytest.raises(ValueError, match="safetensors.torch.save_file"):
    torch_weights.read(tmp_path / "net.bin")
  with pytest.raises(ValueError, match="the package no_such is not installed"):
    torch_weights.read("no_such:weights.pth")
  with pytest.raises(ValueError, match="there is no such file$"):
    torch_weights.read(tmp_path / "net.npz")


def test_pickled_arrays_are_not_run(tmp_path):
  path = tmp_path / "net.npz"
  np.savez(path, a=np.array([print], dtype=object))
  with pytest.raises(ValueError, match="allow_pickle=False"):
    torch_weights.read(path)
