"""Checkpoints of built-in and own networks, as people name what they save."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deploy_cases import MIX, variables
from torch_weights_test import blank, case

from fbq.model import Model
from fbq.nets import Net, Node
from fbq.train import layout_keys, layouts, torch_weights
from fbq.train.torch_names import Layout, Modules

CONV = dict(norm=True, activation="relu")
# Two layers of equal shapes, so that shapes do not tell them apart.
OWN = Net(
  "own",
  (6, 6, 1),
  (
    Node("conv1", "conv", ("input",), 4, (3, 3), 1, 1, **CONV),
    Node("block.dw", "depthwise", ("conv1",), 0, (3, 3), 1, 1, **CONV),
    Node("conv2", "conv", ("block.dw",), 4, (3, 3), 1, 1, **CONV),
    Node("conv3", "conv", ("conv2",), 4, (3, 3), 1, 1, **CONV),
    Node("fc", "linear", ("conv3",), 3, bias=True, is_output=True),
  ),
)
TREE = variables(OWN)


def torch_state(names, net=OWN, tree=TREE):
  """What PyTorch would save of `tree`; `names`: node -> (module, norm)."""
  state = {}
  for node in net.nodes:
    if not node.has_weights:
      continue
    module, norm = names(node.name)
    kernel = tree["params"][f"{node.name}_kernel"]
    if node.op == "linear":
      height, width, channels = net.shapes[node.inputs[0]]
      kernel = kernel.reshape(height, width, channels, -1)
      kernel = kernel.transpose(3, 2, 0, 1).reshape(kernel.shape[-1], -1)
    else:
      kernel = kernel.transpose(3, 2, 0, 1)
    state[f"{module}.weight"] = kernel
    if node.bias:
      state[f"{module}.bias"] = tree["params"][f"{node.name}_bias"]
    if node.norm:
      scale = tree["params"][f"{node.name}_norm"]
      stats = tree["batch_stats"][f"{node.name}_norm"]
      state |= {
        f"{norm}.weight": scale["scale"],
        f"{norm}.bias": scale["bias"],
        f"{norm}.running_mean": stats["mean"],
        f"{norm}.running_var": stats["var"],
        f"{norm}.num_batches_tracked": np.array(3),
      }
  return state


def flax_state(names, net=OWN, tree=TREE):
  """What Flax would save, flattened."""
  state = {}
  for node in net.nodes:
    if not node.has_weights:
      continue
    module, norm = names(node.name)
    kernel = tree["params"][f"{node.name}_kernel"]
    state[f"params/{module}/kernel"] = kernel
    if node.bias:
      state[f"params/{module}/bias"] = tree["params"][f"{node.name}_bias"]
    if node.norm:
      for kind in ("params", "batch_stats"):
        for key, value in tree[kind][f"{node.name}_norm"].items():
          state[f"{kind}/{norm}/{key}"] = value
  return state


def read(tmp_path, state):
  np.savez(tmp_path / "net.npz", **state)
  return torch_weights.read(tmp_path / "net.npz")


def assert_loaded(net, state, tree, **how):
  loaded, report = torch_weights.load(net, state, blank(net), **how)
  for kind in ("params", "batch_stats"):
    jax.tree.map(np.testing.assert_array_equal, loaded[kind], tree[kind])
  assert not report.missing and not report.unmatched
  return report


PREFIXES = (
  *("", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."),
  *("model.", "ema.module.", "state_dict.", "model.module.net.encoder."),
)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("beside", [{}, {"epoch": 3, "optimizer.lr": 0.1}])
def test_every_prefix_is_found(prefix, beside, tmp_path):
  own = torch_state(lambda name: (name, f"{name}_norm"))
  state = {prefix + key: value for key, value in own.items()} | beside
  report = assert_loaded(OWN, read(tmp_path, state), TREE)
  assert len(report.unused) == len(beside) + 4


@pytest.mark.parametrize("prefix", PREFIXES[1:])
def test_published_networks_have_prefixes_too(prefix, tmp_path):
  net, zeros, state, _ = case("mobilenet_v2")
  expected, _ = torch_weights.load(net, state, zeros)
  more = {f"optimizer.state.exp_avg.{k}": v for k, v in state.items()}
  more |= {"global_step": np.array(7), "other.weight": np.ones(3)}
  named = {prefix + key: value for key, value in state.items()} | more
  if not layout_keys.plain(prefix + "a").removesuffix("a"):
    del named["other.weight"]  # beside the network and without a prefix
  loaded, _ = torch_weights.load(net, read(tmp_path, named), zeros)
  jax.tree.map(np.testing.assert_array_equal, loaded, expected)


def test_wrappers_inside_of_names_are_left_out(tmp_path):
  """DataParallel around features alone; compiled blocks; FSDP."""
  net, zeros, state, _ = case("resnet18")
  expected, _ = torch_weights.load(net, state, zeros)
  for old, new in (
    ("layer2.", "layer2.module."),
    ("layer2.0.", "layer2.0._orig_mod."),
    (".conv1.", "._fsdp_wrapped_module.conv1."),
  ):
    named = {key.replace(old, new): value for key, value in state.items()}
    assert set(named) != set(state)
    loaded, _ = torch_weights.load(net, read(tmp_path, named), zeros)
    jax.tree.map(np.testing.assert_array_equal, loaded, expected)


NAMES = {
  "norm beside": lambda name: (name, f"{name}_norm"),
  "bn beside": lambda name: (name, f"{name}_bn"),
  "bn instead of conv": lambda name: (
    name,
    name.replace("conv", "bn") if "conv" in name else f"{name}_bn",
  ),
  "a module of two": lambda name: (f"{name}.conv", f"{name}.bn"),
  "a sequence of two": lambda name: (f"{name}.0", f"{name}.1"),
}


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("style", [torch_state, flax_state])
def test_modules_that_are_called_as_nodes_are_found(style, names, tmp_path):
  assert_loaded(OWN, read(tmp_path, style(NAMES[names])), TREE)


def test_its_own_variables_are_a_checkpoint_of_a_network(tmp_path):
  """Flattened with slashes or dots, every kind of layer."""
  for separator in "/.":
    state = {
      separator.join(str(part.key) for part in path): leaf
      for path, leaf in jax.tree_util.tree_leaves_with_path(
        {kind: variables(MIX)[kind] for kind in ("params", "batch_stats")}
      )
    }
    assert_loaded(MIX, read(tmp_path, state), variables(MIX))
    assert_loaded(MIX, read(tmp_path, state), variables(MIX), names=layouts.fbq)


def test_shapes_tell_modules_apart_where_no_two_are_alike(tmp_path):
  net = Net(
    "shapes",
    (6, 6, 1),
    (
      Node("first", "conv", ("input",), 4, (3, 3), 1, 1, **CONV),
      Node("second", "conv", ("first",), 6, (3, 3), 1, 1, **CONV),
      Node("last", "linear", ("second",), 3, bias=True, is_output=True),
    ),
  )
  numbers = {"first": ("0", "1"), "second": ("3", "4"), "last": ("7", "")}
  tree = variables(net)
  for style in (torch_state, flax_state):
    state = style(numbers.get, net, tree)
    assert_loaded(net, read(tmp_path, state), tree)
    state = {f"net.{key}": value for key, value in state.items()}
    if style is torch_state:
      assert_loaded(net, read(tmp_path, state), tree)


def numbered(name):
  place = 3 * [node.name for node in OWN.nodes].index(name)
  return str(place), str(place + 1)


def test_what_is_not_beyond_doubt_is_asked_for(tmp_path):
  """conv2 and conv3 have the same shape."""
  state = read(tmp_path, torch_state(numbered))
  with pytest.raises(ValueError, match="config.checkpoint_layout") as error:
    torch_weights.load(OWN, state, blank(OWN))
  assert len(str(error.value)) < 500
  modules = {
    name: place
    for node in OWN.node
    for name, place in zip((node, f"{node}_norm"), numbered(node), strict=True)
    if name != "fc_norm"
  }
  for given in (
    modules,
    lambda net: modules,
    lambda net: Layout({n: Modules(*numbered(n)) for n in net.node}),
  ):
    assert_loaded(OWN, state, TREE, names=given)


@pytest.mark.parametrize(
  ("given", "message"),
  [
    (3, "is a int, expected a"),
    (lambda net: ["conv1"], "is a list, expected a"),
    (lambda net: {"conv1": 3}, "is a dict, expected a"),
    (lambda net: net.nodes[99], "no layout for own: IndexError"),
    ({"conv9": "0"}, r"has \['conv9'\], which are no nodes of it"),
    ({"conv1": "0", "conv1_norm": "1"}, "variables of the network are not in"),
  ],
)
def test_a_layout_that_is_none_is_refused(given, message):
  with pytest.raises(ValueError, match=message) as error:
    torch_weights.load(OWN, torch_state(numbered), blank(OWN), names=given)
  assert len(str(error.value)) < 900


def test_layouts_by_name_do_not_guess():
  beside = NAMES["norm beside"]
  assert_loaded(OWN, torch_state(beside), TREE, names=layouts.torch)
  with pytest.raises(ValueError, match="not in the network"):
    torch_weights.load(
      OWN,
      torch_state(NAMES["bn beside"]),
      blank(OWN),
      names=layouts.torch,
    )


def test_a_bias_before_a_batch_norm_is_a_part_of_its_mean():
  """PyTorch's convolutions have one by default."""
  bias = np.float32([0.5, -1, 2, 0])
  state = torch_state(NAMES["norm beside"]) | {"conv2.bias": bias}
  loaded, report = torch_weights.load(OWN, state, blank(OWN))
  mean = TREE["batch_stats"]["conv2_norm"]["mean"] - bias
  found = loaded["batch_stats"]["conv2_norm"]["mean"]
  np.testing.assert_array_equal(found, mean)
  assert not report.unmatched and "conv2.bias" in str(report)


def test_two_copies_are_not_chosen_from(tmp_path):
  own = torch_state(NAMES["norm beside"])
  twice = {
    prefix + key: value
    for prefix in ("student.", "teacher.")
    for key, value in own.items()
  }
  with pytest.raises(
    ValueError, match="twice, under the prefixes 'student.' and 'teacher.'"
  ):
    torch_weights.load(OWN, read(tmp_path, twice), blank(OWN))
  twice = {p + k: v for p in ("", "module.") for k, v in own.items()}
  with pytest.raises(ValueError, match="'conv1.weight' and 'module.conv1.weig"):
    read(tmp_path, twice)


@pytest.mark.parametrize("average", ["state_dict_ema.", "model.ema."])
def test_an_average_is_left_aside_unless_it_is_alone(tmp_path, average):
  own = torch_state(NAMES["norm beside"])
  averages = {average + key: value * 2 for key, value in own.items()}
  both = {f"state_dict.{key}": value for key, value in own.items()} | averages
  expected, _ = torch_weights.load(OWN, own, blank(OWN))
  loaded, report = torch_weights.load(OWN, read(tmp_path, both), blank(OWN))
  jax.tree.map(np.testing.assert_array_equal, loaded, expected)
  assert set(report.unused) >= averages.keys() and not report.unmatched

  doubled = {key: value * 2 for key, value in own.items()}
  expected, _ = torch_weights.load(OWN, doubled, blank(OWN))
  loaded, _ = torch_weights.load(OWN, read(tmp_path, averages), blank(OWN))
  jax.tree.map(np.testing.assert_array_equal, loaded, expected)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_errors_are_short_and_name_the_prefix(prefix):
  net, zeros, state, _ = case("mobilenet_v2")
  keys = [*state][: len(state) * 3 // 4]
  state = {prefix + key: state[key] for key in keys}
  state |= {f"{prefix}more{i}.weight": np.ones(3) for i in range(500)}
  with pytest.raises(ValueError) as error:
    torch_weights.load(net, state, zeros)
  said = str(error.value)
  assert len(said) < 1500 and ("prefix 'model.'" in said) == bool(prefix)
  wrong = {key: np.ones((2, 2, 2), np.float32) for key in state}
  with pytest.raises(ValueError, match="and [0-9]+ more") as error:
    torch_weights.load(net, wrong, zeros)
  assert len(str(error.value)) < 1500


def test_a_checkpoint_of_something_else_is_told_with_its_prefix():
  net, zeros, _, _ = case("mobilenet_v2")
  state = {f"encoder.layer.{i}.attention": np.ones(4) for i in range(900)}
  with pytest.raises(ValueError, match="prefix: encoder.layer") as error:
    torch_weights.load(net, state, zeros)
  assert len(str(error.value)) < 500


@pytest.mark.parametrize(
  ("key", "change", "message"),
  [
    ("conv1_norm.running_var", lambda x: -x, "a negative variance, -"),
    ("conv1_norm.running_var", lambda x: x * np.inf, "not finite"),
    ("conv1.weight", lambda x: x.astype(np.int8), "type int8, expected floats"),
    ("conv1.weight", lambda x: x + 1j, "type complex64, expected floats"),
    ("conv1.weight", lambda x: x.astype(str), "type <U32, expected floats"),
    ("conv1.weight", lambda x: x > 0, "type bool, expected floats"),
    ("conv1.weight", lambda x: np.float64(x) * 1e300, "not finite"),
    ("fc.weight", lambda x: x[:0], r"shape \(0, 144\), which"),
    ("fc.weight", lambda x: x[0], r"shape \(144,\), which does not make"),
    ("conv1.weight", lambda x: np.float32(3), r"shape \(\), which"),
  ],
)
def test_numbers_that_are_none_are_refused(key, change, message):
  state = torch_state(NAMES["norm beside"])
  state[key] = np.asarray(change(state[key]))
  with pytest.raises(ValueError, match=f"{key} has .*{message}"):
    torch_weights.load(OWN, state, blank(OWN))


@pytest.mark.parametrize("op", ["conv", "depthwise", "linear"])
@pytest.mark.parametrize("channels", [1, 3])
def test_normalized_images_of_any_channels_are_taken(op, channels):
  """By every layer with weights, where no window leaves the image."""
  first = {
    "conv": Node("a", "conv", ("input",), 4, (3, 3), norm=True),
    "depthwise": Node("a", "depthwise", ("input",), 0, (3, 3), norm=True),
    "linear": Node("a", "linear", ("input",), 4, bias=True),
  }[op]
  net = Net(
    "first",
    (5, 5, channels),
    (first, Node("fc", "linear", ("a",), 3, bias=True, is_output=True)),
  )
  apply = functools.partial(Model(net).apply, train=False)
  tree = {k: v for k, v in variables(net).items() if k != "ranges"}
  mean, std = np.full(channels, 0.4), np.linspace(0.2, 0.3, channels)
  state = {
    ".".join(str(part.key) for part in path[1:]): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
  loaded, _ = torch_weights.load(
    net, state, blank(net), normalized=(mean.tolist(), std.tolist())
  )
  x = np.random.default_rng(0).random((2, 5, 5, channels))
  np.testing.assert_allclose(
    apply(loaded, jnp.float32(x)),
    apply(tree, jnp.float32((x - mean) / std)),
    rtol=1e-4,
    atol=1e-4,
  )
  with pytest.raises(ValueError, match=f"expected {channels} means"):
    torch_weights.load(net, state, blank(net), normalized=((0.5,) * 2, (1, 1)))
  with pytest.raises(ValueError, match="positive deviations"):
    torch_weights.load(
      net, state, blank(net), normalized=(mean, np.full(channels, np.nan))
    )
