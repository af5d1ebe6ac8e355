"""ResNet v2, NASNet and Lite0 against published counts, and run otherwise.

Counts of trained parameters and of batch norms' channels are those that Keras
gives for the same networks (keras.applications: 25,613,800, 60,380,648 and
5,326,716 parameters, of which two a norm's channel are not trained); 564 M
multiplications of NASNet-A (4 @ 1056) are those of arXiv 1707.07012, table 2.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ptq_cases import images, variables

from fbq import nets
from fbq.model import Model
from fbq.nets.node import same_padding
from fbq.train import torch_weights

KERAS = {
  "nasnet_mobile": (5_326_716, 36_738),
  "resnet50_v2": (25_613_800, 45_440),
  "resnet152_v2": (60_380_648, 143_744),
}

# Maps of 1x1 in the last stage, of different sizes before.
TINY = {
  "efficientnet_lite0": dict(classes=5, width=0.25, resolution=33, groups=3),
  "nasnet_mobile": dict(classes=5, width=0.1, resolution=32, cells=1),
  "resnet50_v2": dict(classes=5, width=0.06, resolution=32),
}


def norm_layers(net):
  """Norms that are layers of their own, of one weight for each channel."""
  return [
    layer
    for layer in net.workload.layers
    if layer.op == "depthwise" and layer.kernel_height == 1
  ]


@pytest.mark.parametrize("name", KERAS)
def test_counts_are_those_of_keras(name):
  net, (total, not_trained) = nets.build(name), KERAS[name]
  own = sum(layer.weight_count for layer in norm_layers(net))
  norms = sum(net.shapes[node.name][2] for node in net.nodes if node.norm)
  assert net.parameter_count - own == total - not_trained
  assert 2 * norms == not_trained


@pytest.mark.parametrize(
  ("name", "parameters", "macs"),
  [
    ("nasnet_mobile", "5.3", 564),  # table 1 of the whitepaper; the paper's
    ("resnet50_v2", "25.6", None),
    ("efficientnet_lite0", "4.7", None),  # timm: 4,652,008
    ("resnet152", "60.2", 11_514),  # torchvision's 60,192,808 and 11.51 G
    ("resnet152_v2", "60.3", None),
  ],
)
def test_published_sizes(name, parameters, macs):
  net = nets.build(name)
  assert f"{net.parameter_count / 1e6:.1f}" == parameters
  assert macs is None or round(net.workload.macs / 1e6) == macs


def test_strides_of_resnet_v2_come_last():
  """A stage's first blocks still work at its input's size."""
  net = nets.resnet50_v2()
  assert net.shapes["maxpool"] == (56, 56, 64)
  for stage, (depth, size) in enumerate([(3, 28), (4, 14), (6, 7)], start=1):
    assert net.shapes[f"stage{stage}.block{depth - 2}.add"][0] == 2 * size
    assert net.shapes[f"stage{stage}.block{depth - 1}.add"][0] == size
  assert net.shapes["stage4.block2.add"] == (7, 7, 2048)
  assert len(norm_layers(net)) == 3 + 4 + 6 + 3 + 1


@pytest.mark.parametrize("name", ["resnet50_v2", "nasnet_mobile"])
def test_arguments_are_refused(name):
  with pytest.raises(ValueError, match="width is 0"):
    nets.build(name, width=0)
  with pytest.raises(ValueError, match="groups is 8, expected 1 to 7"):
    nets.build("efficientnet_lite0", groups=8)
  if name == "nasnet_mobile":
    with pytest.raises(ValueError, match="cells is 0"):
      nets.build(name, cells=0)
    with pytest.raises(ValueError, match="resolution is 2"):
      nets.build(name, resolution=2)


class Reference:
  """The networks as their papers draw them, on a model's variables.

  ReLUs and norms stand before what reads them, cells are functions.
  """

  def __init__(self, given):
    self.params, self.stats = given["params"], given["batch_stats"]

  def conv(self, x, name, stride=1, padding="SAME"):
    kernel = self.params[f"{name}_kernel"]
    groups = x.shape[3] if kernel.shape[2] == 1 and x.shape[3] > 1 else 1
    x = jax.lax.conv_general_dilated(
      *(x, kernel, (stride, stride), padding),
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      feature_group_count=groups,
      precision="highest",
    )
    return x + self.params.get(f"{name}_bias", 0.0)

  def norm(self, x, name):
    part, stat = self.params[f"{name}_norm"], self.stats[f"{name}_norm"]
    x = (x - stat["mean"]) / jnp.sqrt(stat["var"] + 1e-5)
    return x * part["scale"] + part["bias"]

  def normed(self, x, name, **more):
    return self.norm(self.conv(x, name, **more), name)

  def end(self, x):
    kernel = self.params["classifier_kernel"]
    return x.mean((1, 2)) @ kernel + self.params["classifier_bias"]

  # ---- ResNet v2

  def resnet(self, x, depths):
    around = ((3, 3),) * 2
    x = self.conv(x, "conv1", 2, around)
    x = self.window(x, 3, 2, ((1, 1),) * 2, -jnp.inf, jax.lax.max)
    for stage, depth in enumerate(depths, start=1):
      for i in range(depth):
        stride = 2 if i == depth - 1 and stage < 4 else 1
        x = self.bottleneck(x, f"stage{stage}.block{i}", stride)
    return self.end(jax.nn.relu(self.normed(x, "postnorm")))

  def bottleneck(self, x, name, stride):
    y = jax.nn.relu(self.normed(x, f"{name}.preact"))
    skip = x[:, ::stride, ::stride]
    if f"{name}.shortcut_kernel" in self.params:
      skip = self.conv(y, f"{name}.shortcut", stride, "VALID")
    y = jax.nn.relu(self.normed(y, f"{name}.conv1"))
    around = ((1, 1),) * 2
    y = self.normed(y, f"{name}.conv2", stride=stride, padding=around)
    return self.conv(jax.nn.relu(y), f"{name}.conv3") + skip

  # ---- EfficientNet-Lite0

  def lite0(self, x):
    relu6 = lambda x: jnp.clip(x, 0, 6)
    x = relu6(self.normed(x - 127 / 255, "conv1", stride=2))
    blocks = [(1, 1), (6, 2), (6, 1), (6, 2), (6, 1)]
    for i, (expansion, stride) in enumerate(blocks, start=1):
      y = x
      if expansion > 1:
        y = relu6(self.normed(y, f"block{i}.expand"))
      y = relu6(self.normed(y, f"block{i}.dw", stride=stride))
      y = self.normed(y, f"block{i}.project")
      x = x + y if x.shape == y.shape else y
    return self.end(relu6(self.normed(x, "conv2")))

  # ---- NASNet-A

  def window(self, x, size, stride, padding, start, function):
    if padding == "SAME":
      padding = [same_padding(n, size, stride) for n in x.shape[1:3]]
    window, strides = (1, size, size, 1), (1, stride, stride, 1)
    edges = ((0, 0), *padding, (0, 0))
    return jax.lax.reduce_window(x, start, function, window, strides, edges)

  def top(self, x):
    return self.window(x, 3, 2, "SAME", -jnp.inf, jax.lax.max)

  def mean(self, x, stride=1):
    return self.window(x, 3, stride, "SAME", 0.0, jax.lax.add) / 9

  def separable(self, x, name, stride=1):
    for i, step in ((1, stride), (2, 1)):
      x = self.conv(jax.nn.relu(x), f"{name}.dw{i}", step)
      x = self.normed(x, f"{name}.pw{i}")
    return x

  def fitted(self, before, x, name):
    before = jax.nn.relu(before)
    if before.shape[1] == x.shape[1]:
      return self.normed(before, f"{name}.before")
    half = before[:, ::2, ::2]
    parts = [self.normed(half, f"{name}.before{i}") for i in (1, 2)]
    return jnp.concatenate(parts, axis=-1)

  def normal(self, x, before, name):
    sep = lambda y, part: self.separable(y, f"{name}.{part}")
    b = self.fitted(before, x, name)
    h = self.normed(jax.nn.relu(x), f"{name}.last")
    parts = [
      b,
      sep(h, "1a") + sep(b, "1b"),
      sep(b, "2a") + sep(b, "2b"),
      self.mean(h) + b,
      2 * self.mean(b),
      sep(h, "5a") + h,
    ]
    return jnp.concatenate(parts, axis=-1)

  def reduction(self, x, before, name):
    sep = lambda y, part, stride=2: self.separable(y, f"{name}.{part}", stride)
    b = before if before is x else self.fitted(before, x, name)
    h = self.normed(jax.nn.relu(x), f"{name}.last")
    one = sep(h, "1a") + sep(b, "1b")
    two = self.top(h) + sep(b, "2b")
    three = self.mean(h, 2) + sep(b, "3b")
    four = two + self.mean(one)
    five = sep(one, "5a", 1) + self.top(h)
    return jnp.concatenate([two, three, four, five], axis=-1)

  def nasnet(self, x):
    x = self.normed(x, "conv1", stride=2, padding="VALID")
    before, x = x, self.reduction(x, x, "stem1")
    before, x = x, self.reduction(x, before, "stem2")
    for stage in (1, 2, 3):
      if stage > 1:
        before, x = x, self.reduction(x, before, f"reduce{stage}")
      before, x = x, self.normal(x, before, f"stage{stage}.cell1")
    return self.end(jax.nn.relu(x))


@pytest.mark.parametrize("name", TINY)
def test_logits_are_those_of_the_papers_drawing(name):
  net = nets.build(name, **TINY[name])
  given = variables(net)
  drawing = {
    "efficientnet_lite0": Reference.lite0,
    "nasnet_mobile": Reference.nasnet,
    "resnet50_v2": lambda self, x: self.resnet(x, (3, 4, 6, 3)),
  }[name]

  def run(given, x):
    return Model(net).apply(given, x, False), drawing(Reference(given), x)

  # Run once, so time goes into compiling it.
  quick = {"xla_backend_optimization_level": 0}
  compiled = jax.jit(run, compiler_options=quick)
  found, expected = compiled(given, images(net))
  largest = np.abs(expected).max()
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * largest)
  assert np.ptp(expected) > 0.01 * largest


def test_lite0_is_read_under_the_names_of_its_package():
  """Kernels as PyTorch has them; norms add 0.001 to variances there."""
  net = nets.build("efficientnet_lite0", **TINY["efficientnet_lite0"])
  given, state = variables(net), {}
  outer = {"conv1": "_conv_stem _bn0", "conv2": "_conv_head _bn1"}
  inner = {
    "expand": "_expand_conv _bn0",
    "dw": "_depthwise_conv _bn1",
    "project": "_project_conv _bn2",
  }
  for name, kernel in given["params"].items():
    node = name.removesuffix("_kernel")
    if node == name or node == "classifier":
      continue
    block, _, part = node.partition(".")
    module, norm = (outer.get(node) or inner[part]).split()
    prefix = ""
    if part:
      prefix = f"_blocks.{int(block.removeprefix('block')) - 1}."
    state[f"{prefix}{module}.weight"] = kernel.transpose(3, 2, 0, 1)
    scale, stats = given["params"], given["batch_stats"][f"{node}_norm"]
    norm = f"{prefix}{norm}"
    state[f"{norm}.weight"] = scale[f"{node}_norm"]["scale"]
    state[f"{norm}.bias"] = scale[f"{node}_norm"]["bias"]
    state[f"{norm}.running_mean"] = stats["mean"]
    state[f"{norm}.running_var"] = stats["var"]
    state[f"{norm}.num_batches_tracked"] = np.array(3)
  state["_fc.weight"] = given["params"]["classifier_kernel"].T
  state["_fc.bias"] = given["params"]["classifier_bias"]

  blank = jax.tree.map(np.zeros_like, given)
  loaded, report = torch_weights.load(net, state, blank)
  assert not report.missing and not report.unmatched
  more = jax.tree.map(np.copy, given)
  for stats in more["batch_stats"].values():
    stats["var"] = stats["var"] + np.float32(1e-3 - 1e-5)
  jax.tree.map(np.testing.assert_array_equal, loaded, more)
