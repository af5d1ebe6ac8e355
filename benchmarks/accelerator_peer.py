"""PyTorch's training step of the same network: what the numbers stand beside.

MobileNetV1-0.75-224 in float, batch 256, momentum and weight decay, images made
on the device in every step, in float32 (TF32 products) and by bf16 autocast,
each in the layout that its library documents as the faster one.
"""

import statistics
import time

WIDTHS = (64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024)
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


def images_per_second(dtype: str, tiny: bool) -> float:
  """Images per second of "float32" or "bfloat16"; 0 without PyTorch."""
  try:
    import torch
  except ImportError:
    return 0.0
  batch, side = (2, 32) if tiny else (256, 224)
  device = "cuda" if torch.cuda.is_available() else "cpu"
  torch.backends.cudnn.benchmark = True
  torch.backends.cudnn.allow_tf32 = True
  torch.set_float32_matmul_precision("high")

  net = _mobilenet_v1(torch, 0.75)
  net = net.to(device, memory_format=torch.channels_last)
  step = _step(torch, net, batch, side, device, dtype == "bfloat16")
  repeats, rounds = (1, 1) if tiny else (10, 5)
  times = []
  for _ in range(rounds + 1):
    start = time.perf_counter()
    for _ in range(repeats):
      step()
    if device == "cuda":
      torch.cuda.synchronize()
    times.append((time.perf_counter() - start) / repeats)
  return batch / statistics.median(times[1:])


def _mobilenet_v1(torch, width: float):
  def unit(inputs, outputs, kernel, stride, groups):
    return [
      torch.nn.Conv2d(
        *(inputs, outputs, kernel, stride, kernel // 2),
        groups=groups,
        bias=False,
      ),
      torch.nn.BatchNorm2d(outputs),
      torch.nn.ReLU6(inplace=True),
    ]

  channels = int(32 * width)
  layers = unit(3, channels, 3, 2, 1)
  for features, stride in zip(WIDTHS, STRIDES, strict=True):
    features = int(features * width)
    layers += unit(channels, channels, 3, stride, channels)
    layers += unit(channels, features, 1, 1, 1)
    channels = features
  return torch.nn.Sequential(
    *layers,
    torch.nn.AdaptiveAvgPool2d(1),
    torch.nn.Flatten(),
    torch.nn.Linear(channels, 1000),
  )


def _step(torch, net, batch, side, device, half):
  optimizer = torch.optim.SGD(
    net.parameters(), 0.01, momentum=0.9, weight_decay=1e-4
  )

  def step():
    images = torch.rand(batch, 3, side, side, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(1000, (batch,), device=device)
    with torch.autocast(device, torch.bfloat16, enabled=half):
      loss = torch.nn.functional.cross_entropy(net(images), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()

  return step
