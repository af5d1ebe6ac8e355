"""The C of a network, compiled with every warning and sanitizer, code by code.

FBQ_SLOW asks for all networks in both widths.
"""

import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from deploy_cases import CONV, MIX, ZOO, assignments, images, variables

from fbq import nets
from fbq.deploy import c_code, integer, lowering, packing
from fbq.nets import Node
from fbq.nets.graph import INPUT, Net
from hwsim import proxies

pytestmark = pytest.mark.skipif(
  shutil.which("cc") is None, reason="needs a C compiler"
)
FLAGS = [
  *("-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"),
  "-fsanitize=undefined,address",
  "-fno-sanitize-recover",
]
# As in EfficientNet-Lite0: 5x5 depthwise kernels, linear ends, a residual.
LITE = Net(
  "lite",
  (16, 12, 3),
  (
    Node("stem", "conv", (INPUT,), 8, (3, 3), 2, 1, **CONV),
    Node("dw1", "depthwise", ("stem",), 0, (3, 3), 1, 1, **CONV),
    Node("pw1", "conv", ("dw1",), 4, norm=True),
    Node("up2", "conv", ("pw1",), 24, **CONV),
    Node("dw2", "depthwise", ("up2",), 0, (5, 5), 2, 2, **CONV),
    Node("pw2", "conv", ("dw2",), 8, norm=True),
    Node("up3", "conv", ("pw2",), 48, **CONV),
    Node("dw3", "depthwise", ("up3",), 0, (5, 5), 1, 2, **CONV),
    Node("pw3", "conv", ("dw3",), 8, norm=True),
    Node("sum", "add", ("pw2", "pw3")),
    Node("head", "conv", ("sum",), 16, **CONV),
    Node("pool", "avg_pool", ("head",), kernel=None),
    Node("fc", "linear", ("pool",), 5, bias=True, is_output=True),
  ),
)
NETS = {
  "mix": MIX,
  "lite": LITE,
  "ds_cnn": nets.ds_cnn(0.125, 25, 10),
  **ZOO,
}
CASES = [("mix", 64), ("lite", 32)]
if os.environ.get("FBQ_SLOW"):
  CASES = [(name, width) for name in NETS for width in (32, 64)]

# Reads packed images one after the other; writes packed outputs of all layers.
HARNESS = """
#include <stdio.h>
#include "network.h"

void network_trace(uint32_t layer, const uint8_t *output, uint32_t bytes) {
  (void)layer;
  fwrite(output, 1, bytes, stdout);
}

int main(void) {
  static uint8_t arena[NETWORK_ARENA_BYTES];
  int32_t logits[NETWORK_CLASSES];
  while (fread(arena + NETWORK_INPUT_OFFSET, NETWORK_INPUT_BYTES, 1, stdin))
    network_run(arena, logits);
  return 0;
}
"""


def built(net, width, folder, count=4):
  """(network, codes of images, sizes) with its C in a folder."""
  (bits,) = assignments(net, 1, seed=width)
  network = lowering.lower(net, variables(net), bits, width)
  codes = np.asarray(integer.quantize_images(images(net, count)))
  return network, codes, c_code.write(network, folder, codes[:4])


def compile_(folder, main, *flags):
  program = folder / "program"
  subprocess.run(
    ["cc", *FLAGS, *flags, "-o", program, main, folder / "network.c"],
    check=True,
  )
  return program


@pytest.mark.parametrize("name, width", CASES)
def test_every_code_of_every_layer_is_the_integer_network_s(
  name, width, tmp_path
):
  net = NETS[name]
  network, codes, _ = built(net, width, tmp_path, 256)
  harness = tmp_path / "harness.c"
  harness.write_text(HARNESS)
  program = compile_(tmp_path, harness, "-DNETWORK_TRACE", "-I", tmp_path)
  given = b"".join(packing.pack(image, 8).tobytes() for image in codes)
  done = subprocess.run([program], input=given, capture_output=True, check=True)
  found = np.frombuffer(done.stdout, np.uint8).reshape(len(codes), -1)

  # Layer by layer, in the order in which they run
  expected, start = integer.integer_tensors(network, codes), 0
  for node in net.nodes:
    tensor = np.asarray(expected[node.name]).reshape(len(codes), -1)
    if node.is_output:
      packed = tensor.astype("<i4").view(np.uint8)
    else:
      bits = network.bits[network.site(node.name)]
      packed = np.stack([packing.pack(row, bits) for row in tensor])
    end = start + packed.shape[1]
    np.testing.assert_array_equal(found[:, start:end], packed, node.name)
    start = end
  assert start == found.shape[1]


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_sizes_are_those_that_a_search_counts(name, tmp_path):
  net = NETS[name]
  network, _, sizes = built(net, 64, tmp_path)
  assert sizes.weight_bytes == proxies.weight_bytes(net.workload, network.bits)
  peak = proxies.peak_activation_bytes(net.workload, network.bits)
  assert sizes.arena_bytes == peak
  parts = network.layers.values()
  wide = sum(part["mul"].size for part in parts if "mul" in part)
  narrow = sum(part["bias"].size for part in parts if "bias" in part)
  assert sizes.constant_bytes == 12 * wide + 4 * narrow
  header = (tmp_path / "network.h").read_text()
  assert f"#define NETWORK_ARENA_BYTES {peak}\n" in header
  source = (tmp_path / "network.c").read_text()
  assert f"uint8_t weights[{sizes.weight_bytes}]" in source


def test_the_program_checks_itself(tmp_path):
  built(MIX, 64, tmp_path)
  said = subprocess.run(
    ["make", "-s", "-C", tmp_path], check=True, capture_output=True, text=True
  )
  assert said.stdout == "4 of 4 images have the logits of fbq\n"
  assert c_code.check(tmp_path)
  compile_(tmp_path, tmp_path / "main.c")

  # One logit of one image, one weight, and what is no C
  main = tmp_path / "main.c"
  text = main.read_text()
  first = re.search(r"expected\[.*\n    \{(-?\d+)", text)
  assert first
  changed = int(first[1]) + 1
  main.write_text(text[: first.start(1)] + str(changed) + text[first.end(1) :])
  with pytest.raises(RuntimeError, match="3 of 4 images"):
    c_code.check(tmp_path)
  main.write_text(text + "}")
  with pytest.raises(RuntimeError, match="cc .*failed: .*error"):
    c_code.check(tmp_path)


def test_without_a_compiler_nothing_is_claimed(tmp_path, monkeypatch):
  monkeypatch.setenv("PATH", str(tmp_path))
  assert not c_code.check(tmp_path)
