"""torchvision's networks in numpy, channels first, named as its modules.

Written from torchvision/models/*.py: every call makes its parameters under the
name that PyTorch would give them, so a forward pass also makes a state dict.
"""

import math

import numpy as np
from scipy import special

erf = special.erf


class Torch:
  """Parameters by name, and the functions of torch.nn on [N, C, H, W]."""

  def __init__(self, seed):
    self.state = {}
    self._random = np.random.default_rng(seed)

  def _made(self, name, shape, scale, about=0.0):
    value = about + scale * self._random.standard_normal(shape)
    self.state[name] = value.astype(np.float32)
    return value.astype(np.float32).astype(np.float64)

  def _bias(self, name, features):
    return self._made(f"{name}.bias", features, 0.1)

  def conv(
    self, x, name, features, kernel=1, stride=1, groups=1, bias=False, pad=None
  ):
    pad = kernel // 2 if pad is None else pad
    inputs = x.shape[1] // groups
    scale = (2 / (inputs * kernel**2)) ** 0.5
    weight = self._made(
      f"{name}.weight", (features, inputs, kernel, kernel), scale
    )
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(
      x, (kernel, kernel), (2, 3)
    )
    windows = windows[:, :, ::stride, ::stride]
    outputs = [
      np.einsum(
        "nchwij,ocij->nohw",
        windows[:, g * inputs : (g + 1) * inputs],
        weight[g * features // groups : (g + 1) * features // groups],
      )
      for g in range(groups)
    ]
    x = np.concatenate(outputs, axis=1)
    return x + self._bias(name, features)[:, None, None] if bias else x

  def batch_norm(self, x, name, epsilon=1e-5):
    count = x.shape[1]
    scale = self._made(f"{name}.weight", count, 0.1, 1.0)
    offset = self._made(f"{name}.bias", count, 0.1)
    mean = self._made(f"{name}.running_mean", count, 0.1)
    # Small ones, for which epsilon matters.
    variance = abs(self._made(f"{name}.running_var", count, 0.02)) + 0.9
    variance[0] = 0.002
    self.state[f"{name}.running_var"] = variance.astype(np.float32)
    self.state[f"{name}.num_batches_tracked"] = np.array(7)
    columns = [v[:, None, None] for v in (scale, offset, mean, variance)]
    return (x - columns[2]) / np.sqrt(columns[3] + epsilon) * columns[
      0
    ] + columns[1]

  def layer_norm(self, x, name):
    scale = self._made(f"{name}.weight", x.shape[1], 0.1, 1.0)
    offset = self._made(f"{name}.bias", x.shape[1], 0.1)
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6)
    return x * scale[:, None, None] + offset[:, None, None]

  def linear(self, x, name, features):
    """Of [N, I]."""
    scale = x.shape[1] ** -0.5
    weight = self._made(f"{name}.weight", (features, x.shape[1]), scale)
    return x @ weight.T + self._bias(name, features)

  def layer_scale(self, x, name):
    return x * self._made(name, (x.shape[1], 1, 1), 0.2, 0.5)


def relu(x):
  return np.maximum(x, 0)


def max_pool(x, kernel, stride, pad=0, ceil=False):
  """Maxima; with `ceil`, of an incomplete last window too."""
  size = x.shape[2] + 2 * pad - kernel
  count = (-(-size // stride) if ceil else size // stride) + 1
  more = (count - 1) * stride + kernel - x.shape[2] - pad
  edge = (pad, max(more, 0))
  x = np.pad(x, ((0, 0), (0, 0), edge, edge), constant_values=-np.inf)
  windows = np.lib.stride_tricks.sliding_window_view(
    x, (kernel, kernel), (2, 3)
  )
  return windows[:, :, ::stride, ::stride].max((-2, -1))


def divisible(channels):
  rounded = max(8, int(channels + 4) // 8 * 8)
  return rounded + 8 if rounded < 0.9 * channels else rounded


def mobilenet_v1(torch, x, width, classes):
  base = int(32 * width)

  def step(x, name, place, features, **more):
    x = torch.conv(x, f"{name}.{place}", features, **more)
    return relu(torch.batch_norm(x, f"{name}.{place + 1}"))

  x = step(x, "pilot", 0, base, kernel=3, stride=2)
  plan = [(2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2)]
  plan += [(16, 1)] * 5 + [(32, 2), (32, 1)]
  for i, (times, stride) in enumerate(plan):
    count, name = x.shape[1], f"features.{i}"
    x = step(x, name, 0, count, kernel=3, stride=stride, groups=count)
    x = step(x, name, 3, times * base)
  return torch.linear(x.mean((2, 3)), "classifier", classes)


def mobilenet_v2(torch, x, width, classes):
  """Without the upper clip of its ReLU6, which our network lacks."""

  def step(x, name, features, **more):
    x = torch.conv(x, f"{name}.0", features, **more)
    return relu(torch.batch_norm(x, f"{name}.1"))

  x = step(x, "features.0", divisible(32 * width), kernel=3, stride=2)
  plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)]
  plan += [(6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
  number = 1
  for expansion, features, count, first in plan:
    for i in range(count):
      before, stride, place = x, first if i == 0 else 1, 0
      name = f"features.{number}.conv"
      hidden = x.shape[1] * expansion
      if expansion > 1:
        x, place = step(x, f"{name}.0", hidden), 1
      x = step(
        x, f"{name}.{place}", hidden, kernel=3, stride=stride, groups=hidden
      )
      x = torch.conv(x, f"{name}.{place + 1}", divisible(features * width))
      x = torch.batch_norm(x, f"{name}.{place + 2}")
      if stride == 1 and before.shape == x.shape:
        x = x + before
      number += 1
  x = step(x, f"features.{number}", divisible(1280 * max(1.0, width)))
  return torch.linear(x.mean((2, 3)), "classifier.1", classes)


def resnet(torch, x, width, classes, depths, bottleneck):
  def step(x, name, number, features, **more):
    x = torch.conv(x, f"{name}conv{number}", features, **more)
    return torch.batch_norm(x, f"{name}bn{number}")

  x = relu(step(x, "", 1, round(64 * width), kernel=7, stride=2))
  x = max_pool(x, 3, 2, 1)
  for stage, depth in enumerate(depths):
    inner = round(64 * 2**stage * width)
    for i in range(depth):
      name = f"layer{stage + 1}.{i}."
      stride = 2 if stage and not i else 1
      before = x
      if bottleneck:
        x = relu(step(x, name, 1, inner))
        x = relu(step(x, name, 2, inner, kernel=3, stride=stride))
        x = step(x, name, 3, 4 * inner)
      else:
        x = relu(step(x, name, 1, inner, kernel=3, stride=stride))
        x = step(x, name, 2, inner, kernel=3)
      if before.shape != x.shape:
        theirs = f"{name}downsample"
        before = torch.conv(before, f"{theirs}.0", x.shape[1], stride=stride)
        before = torch.batch_norm(before, f"{theirs}.1")
      x = relu(x + before)
  return torch.linear(x.mean((2, 3)), "fc", classes)


def googlenet(torch, x, width, classes):
  def step(x, name, features, **more):
    x = torch.conv(x, f"{name}.conv", round(features * width), **more)
    return relu(torch.batch_norm(x, f"{name}.bn", 1e-3))

  def inception(x, name, one, red3, three, red5, five, pooled):
    two = step(x, f"{name}.branch2.0", red3)
    third = step(x, f"{name}.branch3.0", red5)
    parts = [
      step(x, f"{name}.branch1", one),
      step(two, f"{name}.branch2.1", three, kernel=3),
      step(third, f"{name}.branch3.1", five, kernel=3),
      step(max_pool(x, 3, 1, 1, True), f"{name}.branch4.1", pooled),
    ]
    return np.concatenate(parts, 1)

  x = max_pool(step(x, "conv1", 64, kernel=7, stride=2), 3, 2, 0, True)
  x = step(step(x, "conv2", 64), "conv3", 192, kernel=3)
  x = max_pool(x, 3, 2, 0, True)
  x = inception(x, "inception3a", 64, 96, 128, 16, 32, 32)
  x = inception(x, "inception3b", 128, 128, 192, 32, 96, 64)
  x = max_pool(x, 3, 2, 0, True)
  x = inception(x, "inception4a", 192, 96, 208, 16, 48, 64)
  x = inception(x, "inception4b", 160, 112, 224, 24, 64, 64)
  x = inception(x, "inception4c", 128, 128, 256, 24, 64, 64)
  x = inception(x, "inception4d", 112, 144, 288, 32, 64, 64)
  x = inception(x, "inception4e", 256, 160, 320, 32, 128, 128)
  x = max_pool(x, 2, 2, 0, True)
  x = inception(x, "inception5a", 256, 160, 320, 32, 128, 128)
  x = inception(x, "inception5b", 384, 192, 384, 48, 128, 128)
  return torch.linear(x.mean((2, 3)), "fc", classes)


def convnext(torch, x, width, classes, depths):
  def over_channels(x, name, features):
    count, _, height, side = x.shape
    rows = x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1])
    rows = torch.linear(rows, name, features)
    return rows.reshape(count, height, side, features).transpose(0, 3, 1, 2)

  place = 1
  features = round(96 * width)
  x = torch.conv(x, "features.0.0", features, 4, 4, bias=True, pad=0)
  x = torch.layer_norm(x, "features.0.1")
  for stage, depth in enumerate(depths):
    if stage:
      features *= 2
      x = torch.layer_norm(x, f"features.{place}.0")
      x = torch.conv(x, f"features.{place}.1", features, 2, 2, bias=True, pad=0)
      place += 1
    for i in range(depth):
      before, name = x, f"features.{place}.{i}"
      x = torch.conv(x, f"{name}.block.0", features, 7, 1, features, True)
      x = torch.layer_norm(x, f"{name}.block.2")
      x = over_channels(x, f"{name}.block.3", 4 * features)
      x = x * (1 + erf(x / math.sqrt(2))) / 2
      x = over_channels(x, f"{name}.block.5", features)
      x = torch.layer_scale(x, f"{name}.layer_scale") + before
    place += 1
  x = torch.layer_norm(x.mean((2, 3), keepdims=True), "classifier.0")
  return torch.linear(x[:, :, 0, 0], "classifier.2", classes)
