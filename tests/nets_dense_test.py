"""YOLOv8, ViT and U-Net: counts as published, layers, small variants."""

import json
import math

import golden_cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ptq_cases import filled

from fbq import nets
from fbq.model import Model
from fbq.nets.yolov8 import BINS, STRIDES
from hwsim.bfp import bitq_format, movement_table

GOLDEN = json.loads((golden_cases.GOLDEN / "dense_golden.json").read_text())
# The expectation over bins is a fixed convolution of 16 weights in the
# reference; here it is no part of the network.
DFL = BINS


@pytest.mark.parametrize("masks", [False, True])
def test_yolov8n_is_the_published_one(masks):
  """Ultralytics' modules themselves, run on zeros; golden/README.md."""
  reference = GOLDEN["yolo"]["yolov8n-seg.yaml" if masks else "yolov8n.yaml"]
  net = nets.yolov8(masks=masks)
  boxes = sum((640 // stride) ** 2 for stride in STRIDES)
  assert boxes == 8400
  assert net.parameter_count + DFL == reference["params"]
  assert net.workload.macs + 4 * boxes * DFL == reference["macs"]

  # Layer by layer, the halves of a C2f's first convolution taken together.
  ours = {}
  for node, layer in zip(net.nodes, net.workload.layers, strict=True):
    if node.has_weights:
      name = node.name.removesuffix(".a").removesuffix(".b")
      count, macs = ours.get(name, (0, 0))
      count += layer.weight_count + node.bias * node.features
      ours[name] = count, macs + layer.macs
  theirs = [
    (row[9], row[8]) for row in reference["convs"] if "dfl" not in row[0]
  ]
  assert sorted(ours.values()) == sorted(theirs)
  assert max(macs for _, macs in ours.values()) == max(m for _, m in theirs)


def test_yolov8n_has_the_published_scales():
  net = nets.yolov8(masks=True)
  outputs = {n.name: net.shapes[n.name] for n in net.nodes if n.is_output}
  sides = dict(zip(("p3", "p4", "p5"), (80, 40, 20), strict=True))
  for scale, side in sides.items():
    assert outputs.pop(f"{scale}.box") == (side, side, 64)
    assert outputs.pop(f"{scale}.class") == (side, side, 80)
    assert outputs.pop(f"{scale}.mask") == (side, side, 32)
  assert outputs == {"prototypes": (160, 160, 32)}
  assert net.shapes["b9.out"] == (20, 20, 256)
  assert net.shapes["n11"] == (40, 40, 384)
  assert net.shapes["b4.concat"] == (80, 80, 4 * 32)  # two bottlenecks
  # 81 % of the products are those of 3x3 kernels, 41 % the head's.
  work = nets.yolov8().workload
  share = lambda fits: sum(x.macs for x in work.layers if fits(x)) / work.macs
  assert math.isclose(share(lambda x: x.kernel_height == 3), 0.81, abs_tol=5e-3)
  assert math.isclose(
    share(lambda x: x.name[:2] in ("p3", "p4", "p5")), 0.41, abs_tol=5e-3
  )


@pytest.mark.parametrize(
  "settings, parameters, gmacs",
  # docs/facts/dense.md 3; parameters as timm counts them
  [
    (dict(), 5_717_416, 1.2537),
    (dict(width=384, heads=6), 22_050_664, 4.5989),
    (dict(width=768, heads=12), 86_567_656, 17.564),
  ],
)
def test_vit_is_the_published_one(settings, parameters, gmacs):
  net = nets.vit(**settings)
  assert net.parameter_count == parameters
  assert math.isclose(net.workload.macs / 1e9, gmacs, rel_tol=5e-5)
  # Scores and weighted values: 7.45 M each in Ti, in every head 197 x 197 x 64
  heads = settings.get("heads", 3)
  products = [x.macs for x in net.workload.layers if x.op == "matmul"]
  assert products == [heads * 197 * 197 * 64] * 24


def test_unet_has_the_weights_of_the_paper():
  """3x3 pairs of 64 to 1,024 channels, 2x2 up-convolutions, 1x1 at the end."""
  net = nets.unet()
  widths = [64 << level for level in range(5)]
  count = 0
  for before, after in zip([3, *widths[:-1]], widths, strict=True):
    count += 9 * (before * after + after * after) + 4 * after  # two norms
  for wide, narrow in zip(widths[:0:-1], widths[-2::-1], strict=True):
    count += 4 * wide * narrow + narrow
    count += 9 * (wide * narrow + narrow * narrow) + 4 * narrow
  assert net.parameter_count == count + 64 * 2 + 2 == 31_037_698
  assert net.shapes["classes"] == (512, 512, 2)
  assert net.shapes["up0.concat"] == (512, 512, 128)


SMALL = {
  "yolov8": dict(width=0.125, resolution=64, classes=10, in_channels=1),
  "vit": dict(width=24, depth=1, heads=2, patch=8, resolution=32, classes=5),
  "vit_segmenter": dict(width=24, depth=1, resolution=32),
  "unet": dict(width=4, levels=2, resolution=16, classes=4),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_variants_run_and_train(name):
  net = nets.build(name, **SMALL[name])
  images = jax.random.uniform(jax.random.key(0), (2, *net.input_shape))
  model = Model(net)
  init = lambda k: model.init(k, images, False)
  variables = filled(jax.eval_shape(init, jax.random.key(1)))
  made = sum(x.size for x in jax.tree.leaves(variables["params"]))
  assert made == net.parameter_count

  @jax.jit
  def gradients(params):
    def loss(params):
      y, _ = model.apply(
        {**variables, "params": params}, images, True, mutable=["batch_stats"]
      )
      return sum(jnp.mean(x**2) for x in jax.tree.leaves(y)), y

    return jax.grad(loss, has_aux=True)(params)

  found, y = gradients(variables["params"])
  shapes = [net.shapes[n.name] for n in net.nodes if n.is_output]
  if isinstance(y, dict):
    assert [x.shape[1:] for x in y.values()] == shapes
  for path, leaf in jax.tree.leaves_with_path(found):
    assert np.isfinite(leaf).all() and np.any(leaf != 0), path


def test_all_of_yolov8n_has_its_least_movement():
  """Every layer that multiplies has a certificate of the search's own."""
  net = nets.yolov8(resolution=64)
  table = movement_table(net.workload, [bitq_format(8, 4, 16)], 8 * 32768)
  moved = table.units[:, 0, 0, 0]
  assert (moved > 0).tolist() == [x.multiplies for x in net.workload.layers]


@pytest.mark.parametrize(
  "name, settings, message",
  [
    ("yolov8", dict(resolution=100), "expected a multiple of 32"),
    ("yolov8", dict(width=0), "width is 0"),
    ("vit", dict(heads=5), "heads are 5, expected a divisor of width 192"),
    ("vit_segmenter", dict(patch=7), "patch is 7, expected a divisor"),
    ("unet", dict(resolution=24, levels=4), "expected a multiple of 16"),
    ("unet", dict(levels=0), "levels is 0"),
  ],
)
def test_wrong_settings_are_refused(name, settings, message):
  with pytest.raises(ValueError, match=message):
    nets.build(name, **settings)
