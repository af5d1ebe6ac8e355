"""What the examples print, against computations of other forms."""

import itertools
import pathlib
import re
import runpy
import textwrap

import deploy_cases
import jax
import numpy as np
import onnx
import onnx_writer
import pytest
from numpy.lib.stride_tricks import sliding_window_view

import fbq
import hwsim
from fbq.quantizers.calibration import shares

FOLDER = pathlib.Path(__file__).parent.parent / "examples"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


def run(name, capsys):
  """(variables of an example's module, lines it prints)."""
  module = runpy.run_path(str(FOLDER / f"{name}.py"))
  module["main"]()
  return module, capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_short_and_say_what_they_print(name):
  text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
  assert len(text.splitlines()) <= 40
  assert re.match(r'"""[A-Z].*?\bline\b.*?"""', text, re.DOTALL)


def test_every_example_is_tested():
  assert NAMES == ["cycles", "front", "mx_cycles", "quantize"]


def test_mx_cycles(capsys):
  """Products counted by hand: 24 tokens of 8 fill 785 of 784 + 1 keys up."""
  _, lines = run("mx_cycles", capsys)
  assert len(lines) == 10
  width, tokens, heads = 64, 785, 2
  block = 12 * tokens * width * width + (  # q, k, v, project, expand, reduce
    heads * tokens * tokens * width // heads  # scores, over 32 channels
    + heads * tokens * (width // heads) * 792  # over 785 keys, filled up
  )
  patches = 784 * width * 8 * 8 * 8  # 3 channels fill an instruction of 8
  products = patches + 2 * block + 1000 * width
  for line, rate in ((lines[0], 64 * 0.8), (lines[5], 128 * 0.97)):
    assert (
      abs(float(line.split("mxdotp")[1].split()[0]) - products / rate / 1e6)
      < 0.01
    )
    assert "18 of 18" in line
  for no_unit in (4, 7, 8, 9):  # MXFP4 on MXDOTP; MXINT8 and NVFP4
    assert " 0 of 18" in lines[no_unit]


# ---- what documents show


def blocks(path):
  """Indented blocks of a document that import one of the two packages."""
  text = (FOLDER.parent / path).read_text(encoding="utf-8")
  found = re.findall(r"(?:^(?: {4}.*)?\n)+", text, re.MULTILINE)
  found = [textwrap.dedent(block) for block in found]
  return [b for b in found if re.search(r"^(from|import) (fbq|hwsim)", b, re.M)]


def test_the_code_of_documents_runs(tmp_path, monkeypatch):
  (readme,) = blocks("README.md")
  names = {}
  exec(readme, names)
  assert names["table"].target == "xpulpnn_v1"
  own, imported = blocks("docs/your_own.md")
  exec(own, names)
  monkeypatch.chdir(tmp_path)
  small = fbq.build("resnet8", width=0.125, resolution=8)
  onnx.save(onnx_writer.write(small, deploy_cases.variables(small)), "net.onnx")
  exec(imported, names)
  assert len(names["found"].net.workload.layers) == len(small.workload.layers)
  sites = names["build"](10).workload.sites
  assert {"conv.weight", "conv.out", "fc.weight"} <= set(sites)


# ---- cycles


def cycles_of(workload, bits):
  """Layer by layer, each simulated alone, its output as it is read."""
  total = 0
  for layer, reads, writes in zip(
    workload.layers, workload.input_sites, workload.output_sites, strict=True
  ):
    weights = bits.get(f"{layer.name}.weight", 8)
    inputs = max(bits[site] for site in reads)
    output = bits[writes] if writes else 32
    total += hwsim.simulate(
      layer, inputs, weights, output, hwsim.XPULPNN_V1
    ).total
  return total


def test_cycles_are_sums_over_layers(capsys):
  module, lines = run("cycles", capsys)
  net = module["fbq"].build(
    "mobilenet_v1", width=0.25, resolution=32, classes=10
  )
  workload = net.workload
  eight, four = (dict.fromkeys(workload.sites, bits) for bits in (8, 4))
  four |= {"input.out": 8}
  mixed = four | {"conv1.weight": 8, "classifier.weight": 8}
  weights = {layer.name: layer.weight_count for layer in workload.layers}
  for line, bits in zip(lines, (eight, four, mixed), strict=False):
    size = sum(
      count * bits[f"{name}.weight"] // 8
      for name, count in weights.items()
      if count
    )
    cycles, stored = re.findall(r"([\d,]+) (?:cycles|bytes)", line)
    assert cycles == f"{cycles_of(workload, bits):,}"
    assert stored == f"{size:,}"
  # What was raised is told layer by layer, and is all of the difference.
  after = dict(mixed)
  for line in lines[5:]:
    name, a, w, o = re.fullmatch(
      r"(\w+): \(.*\) -> \((\d), (\d|None), (\d|None)\)", line
    ).groups()
    i = workload.index[name]
    after[workload.input_sites[i][0]] = int(a)
    if w != "None":
      after[f"{name}.weight"] = int(w)
    if o != "None":
      after[workload.output_sites[i]] = int(o)
  raised = cycles_of(workload, after)
  assert raised < cycles_of(workload, mixed)
  assert f" {raised:,} cycles" in lines[3]


# ---- front


def test_the_front_is_that_of_all_assignments(capsys):
  module, lines = run("front", capsys)
  everything = []
  for bits in itertools.product((2, 4, 8), repeat=4):
    x, mix, y, head = ((2, 4, 8).index(b) for b in bits)
    cycles = module["MIX"][x][mix] + module["HEAD"][y][head]
    harm = sum(
      h * 4.0 ** (2 - b)
      for h, b in zip(module["HARM"].values(), bits, strict=True)
    )
    everything.append((cycles, harm, bits))
  best = [
    point
    for point in everything
    if not any(
      other[0] <= point[0] and other[1] <= point[1] and other[:2] != point[:2]
      for other in everything
    )
  ]
  assert lines == [
    f"{cycles} {harm:.6f} "
    f"{dict(zip(('x', 'mix.weight', 'y', 'head.weight'), bits, strict=True))}"
    for cycles, harm, bits in sorted(best)
  ]
  assert len(lines) > 3


# ---- quantize


def rounded(w, bits, clip=1.0):
  """Symmetric codes -n .. n of the last axis's channels, as numbers."""
  n = 2 ** (bits - 1) - 1
  step = clip * np.abs(w).max(axis=tuple(range(w.ndim - 1))) / n
  return np.clip(np.rint(w / step), -n, n) * step


def least_squares(w, bits):
  """Every channel clipped where its squared error is least."""
  tried = np.stack([rounded(w, bits, c) for c in shares(bits, False)])
  axes = tuple(range(1, w.ndim))
  errors = np.square(tried - w).sum(axis=axes)
  return np.take_along_axis(
    tried, errors.argmin(0).reshape((1,) * w.ndim + (-1,)), axis=0
  )[0]


def test_quantized_classes_are_those_of_numpy(capsys):
  module, lines = run("quantize", capsys)
  images = module["load_digits"]().images[:512, ..., None] / 16
  params = module["Own"]().init(jax.random.key(0), images)["params"]
  (a, a_bias), (b, b_bias) = (
    (np.float64(params[name]["kernel"]), np.float64(params[name]["bias"]))
    for name in "ab"
  )
  windows = sliding_window_view(images, (3, 3), axis=(1, 2))

  def hidden(kernel, x=windows):
    return np.maximum(np.einsum("nhwcij,ijco->nhwo", x, kernel) + a_bias, 0)

  def classes(tensor, kernel):
    return (tensor.reshape(512, -1) @ kernel + b_bias).argmax(-1)

  expected = classes(hidden(a), b)
  step = hidden(a)[:256].max() / 255
  pixels = sliding_window_view(np.rint(images * 255) / 255, (3, 3), axis=(1, 2))
  whole = lambda w, bits, how: how(w.reshape(-1, 1), bits).reshape(w.shape)
  for line, bits, rule, how in zip(
    *(lines, (8, 4, 4), ("min_max", "min_max", "least_squares")),
    *((rounded, rounded, least_squares),),
    strict=True,
  ):
    codes = np.clip(np.rint(hidden(how(a, bits), pixels) / step), 0, 255)
    found = classes(codes * step, whole(b, bits, how))
    share = re.fullmatch(rf"{bits} {rule} ([01]\.\d{{4}})", line)[1]
    # Images whose two best classes are all but equal may go either way.
    assert float(share) == pytest.approx((found == expected).mean(), abs=0.005)
