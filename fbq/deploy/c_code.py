"""An integer network as C99 that compiles anywhere and checks itself.

  network.h, network.c   the network: no heap, no dependency but memcpy
  main.c                 golden images and logits; exits with 1 if one differs
  Makefile               `make` builds and runs it

Weights and activations are packed at their bits; activations share one block of
memory, no larger than the peak that a search counts. The code is plain loops
over tables, for any processor: `c_network.jinja`.
"""

import math
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fbq import ops
from fbq.deploy import c_arena, integer, packing
from fbq.deploy.integer import IntegerNet
from fbq.deploy.lowering import UnsupportedError
from fbq.files import user_path, write_atomically
from fbq.nets.graph import INPUT
from hwsim import proxies

FILES = {
  "network.h": "header",
  "network.c": "source",
  "main.c": "main",
  "Makefile": "makefile",
}


class CSizes(NamedTuple):
  """Bytes that the code takes, besides the program itself and its stack.

  Attributes:
    weight_bytes: packed weights, in flash.
    constant_bytes: multipliers, addends and biases, in flash.
    arena_bytes: block of memory that all activations share, image and logits
      among them.
  """

  weight_bytes: int
  constant_bytes: int
  arena_bytes: int


def write(network: IntegerNet, directory: Path, images: np.ndarray) -> CSizes:
  """Writes the C of a network; its sizes.

  Args:
    network: network in integers.
    directory: directory that is written to; made if need be.
    images: codes [B, H, W, C] of the golden images.

  Raises:
    UnsupportedError: the network pads its image with other than black.
  """
  import jinja2

  if network.net.image_zero:
    raise UnsupportedError(
      f"the image of {network.net.name} is padded with "
      f"{', '.join(map(str, network.net.image_zero))}, and C pads with 0"
    )

  # Undefined names are errors, as everywhere in templates here
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("fbq.deploy", "."),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
  )
  environment.filters["rows"] = _rows
  template = environment.get_template("c_network.jinja")
  values, sizes = _values(network)
  values["golden"] = list(_golden(network, images))
  context = template.new_context(values)

  directory = user_path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  for name, block in FILES.items():
    text = "".join(template.blocks[block](context))
    write_atomically(directory / name, text.strip() + "\n")
  return sizes


def check(directory: Path) -> bool:
  """Whether the written code was compiled and run here, and found right.

  False where there is no C compiler.

  Raises:
    RuntimeError: it does not compile, or its logits are not the golden ones.
  """
  if not shutil.which("cc"):
    return False
  directory = user_path(directory)
  with tempfile.TemporaryDirectory() as folder:
    program = Path(folder) / "network"
    sources = [str(directory / name) for name in ("main.c", "network.c")]
    command = ["cc", "-std=c99", "-O2", "-o", str(program), *sources]
    for step in (command, [str(program)]):
      done = subprocess.run(step, capture_output=True, text=True)
      if done.returncode:
        said = (done.stdout + done.stderr).strip()[-400:]
        raise RuntimeError(f"{' '.join(step)} failed: {said}")
  return True


def _rows(values: list[int]) -> str:
  """Numbers of a C array, in lines."""
  starts = range(0, len(values), 16)
  return ",\n    ".join(
    ", ".join(map(str, values[start : start + 16])) for start in starts
  )


def _values(network) -> tuple[dict[str, Any], CSizes]:
  """What the template is filled with, and the sizes."""
  net, width = network.net, network.width
  memory, table = _memory(network), _Table(network)
  for node in net.nodes:
    table.add(node)
  sizes = CSizes(
    len(table.weights),
    (4 + width // 8) * len(table.multipliers) + 4 * len(table.biases),
    memory["arena_bytes"],
  )
  arrays = [
    ("uint8_t", "weights", table.weights),
    ("int32_t", "mul", table.multipliers),
    ("wide_t", "add", table.addends),
    ("int32_t", "bias", table.biases),
  ]
  last = net.nodes[-1].name
  return {
    **sizes._asdict(),
    **memory,
    "name": net.name,
    "width": width,
    "input_shape": "x".join(map(str, net.input_shape)),
    "classes": net.shapes[last][2],
    "logit_step": f"{float(network.steps[last]):.9g}",
    "layers": table.layers,
    # C has no empty arrays
    "arrays": [(kind, name, x or [0]) for kind, name, x in arrays],
  }, sizes


def _memory(network) -> dict[str, Any]:
  """What the template says of tensors: the image first, then as layers run."""
  # Types and sizes; only logits have no site
  net, bits = network.net, network.bits | {None: 32}
  names = (INPUT, *net.node)
  widths = [bits[net.site_of[name]] for name in names]
  signs = [not net.site_of[x] or network.ends(x)[0] < 0 for x in names]
  packed = [
    -(-math.prod(net.shapes[name]) * each // 8)
    for name, each in zip(names, widths, strict=True)
  ]

  # A workload counts layers from 0, so the image is at -1
  arena = c_arena.plan(
    {i - 1: size for i, size in enumerate(packed)},
    proxies.live_layers(net.workload),
  )
  return {
    "arena_bytes": arena.bytes,
    "input_offset": arena.offsets[-1],
    "input_bytes": packed[0],
    "input_bits": widths[0],
    "tensors": [
      _initializer(
        arena.offsets[i - 1], *net.shapes[name], widths[i], int(signs[i])
      )
      for i, name in enumerate(names)
    ],
  }


def _initializer(*fields) -> str:
  return f"{{{', '.join(map(str, fields))}}}"


class _Table:
  """Collects layers, and the arrays that they point into."""

  def __init__(self, network):
    self.network = network
    names = (INPUT, *network.net.node)
    self.numbers = {name: i for i, name in enumerate(names)}
    self.layers: list[str] = []
    self.weights: list[int] = []
    self.multipliers: list[int] = []
    self.addends: list[int] = []
    self.biases: list[int] = []

  def add(self, node) -> None:
    """Adds a layer, as the initializer of a layer_t."""
    part, net = self.network.layers[node.name], self.network.net
    inputs = [self.numbers[name] for name in node.inputs]
    (top, _), (left, _) = ops.edges(node.padding)
    window = node.kernel or net.shapes[node.inputs[0]][:2]

    # Where its weights and constants begin
    weights, bits = len(self.weights), 8
    if "weight" in part:
      bits = self.network.bits[f"{node.name}.weight"]
      self.weights += _packed(part["weight"], bits)
    is_quantized = "mul" in part
    constants = len(self.multipliers if is_quantized else self.biases)
    if is_quantized:
      self.multipliers += part["mul"].tolist()
      self.addends += part["add"].tolist()
    if "bias" in part:
      self.biases += part["bias"].tolist()

    # Fields in the order of layer_t
    fields = [
      node.op.upper(),
      _initializer(inputs[0], inputs[-1]),
      self.numbers[node.name],
      *window,
      node.stride,
      *(top, left),
      bits,
      int(is_quantized),
      int(is_quantized and len(part["mul"]) > 1),
      int(part.get("shift", 0)),
      int(part.get("low", 0)),
      int(part.get("high", 0)),
      *(weights, constants),
    ]
    self.layers.append(_initializer(*fields))


def _packed(weight, bits) -> list[int]:
  """Bytes of weights in the order output, row, column, input.

  Each output's begin where the one before ends, depthwise ones too.
  """
  return packing.pack(packing.to_memory("conv", weight, bits), bits).tolist()


def _golden(network, images):
  """(bytes, logits) of every golden image."""
  bits = network.bits[network.site(INPUT)]
  logits = np.asarray(integer.integer_apply(network, images))
  for image, expected in zip(images, logits, strict=True):
    yield packing.pack(image, bits).tolist(), expected.tolist()
