"""What an export says of itself: sizes, memory, faithfulness, in numbers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from fbq.deploy.faithful import Faithfulness
from fbq.deploy.integer import IntegerNet
from fbq.experiments.trained_point import TrainedPoint


class Export(NamedTuple):
  """A finished export.

  Attributes:
    point: that was exported.
    network: its integers, as written.
    faith: by width of the requantization.
    sizes: of `fbq.deploy.artifact.sizes`.
    dory: what became of DORY's files.
    onnx: "bytes", images classified alike ("same_class", faithfully, and
      "same_class_fast", with integer kernels), or an "error".
  """

  point: TrainedPoint
  network: IntegerNet
  faith: Mapping[int, Faithfulness]
  sizes: Mapping[str, int]
  dory: str
  onnx: Mapping[str, Any]


def statement(export: Export) -> str:
  """How faithful the written integers are, in two sentences."""
  faith = export.faith[export.network.width]
  values = sum(layer.values for layer in faith.layers)
  off = sum(sum(layer.off_by.values()) for layer in faith.layers)
  noise = sum(layer.float_noise for layer in faith.layers)
  channels = sum(layer.channels for layer in faith.layers)
  equal = sum(layer.equal_channels for layer in faith.layers)
  return (
    f"{faith.same_class} of {faith.images} test images get the class that the "
    f"trained network predicts, with {export.network.width}-bit "
    f"requantization. {equal} of {channels} channels are proven equal for "
    f"every input; given the trained network's codes, {off} of {values} codes "
    f"differ on the test images, {noise} codes of the trained network being "
    "float32 noise at ties."
  )


def layer_table(export: Export) -> Table:
  """Layer by layer, for a terminal."""
  table = Table(title=f"{export.point.net.name}, {export.point.name}")
  for name in _COLUMNS:
    numeric = name not in ("layer", "cause")
    table.add_column(name, justify="right" if numeric else "left")
  for row in _rows(export):
    table.add_row(*row)
  return table


def page(export: Export) -> str:
  """The report in Markdown."""
  sizes, point = export.sizes, export.point
  kilobytes = {key: f"{value / 1000:.2f} kB" for key, value in sizes.items()}
  saved = sizes["float_bytes"] / sizes["total_bytes"]
  lines = [
    f"# {point.net.name}, {point.name}, in integers",
    "",
    statement(export),
    "",
    f"Weights take {kilobytes['weight_bytes']} packed, constants of the "
    f"requantization {kilobytes['constant_bytes']} and biases "
    f"{kilobytes['bias_bytes']}: {kilobytes['total_bytes']}, {saved:.1f} times "
    f"less than float32's {kilobytes['float_bytes']}. Activations take "
    f"{kilobytes['peak_activation_bytes']} at their peak, run layer by layer.",
    "",
    "| requantization | same class | accuracy | codes off, same inputs | "
    "end to end | channels proven equal |",
    "|---|---|---|---|---|---|",
  ]
  for width, faith in export.faith.items():
    values = sum(layer.values for layer in faith.layers)
    off, chained = (
      sum(sum(getattr(layer, key).values()) for layer in faith.layers)
      for key in ("off_by", "end_to_end")
    )
    channels = sum(layer.channels for layer in faith.layers)
    equal = sum(layer.equal_channels for layer in faith.layers)
    accuracy = np.mean(faith.classes == np.asarray(point.labels))
    written = " (written)" if width == export.network.width else ""
    lines.append(
      f"| {width} bits{written} | {faith.same_class} of {faith.images} | "
      f"{accuracy:.2%} | {off / values:.2g} | {chained / values:.2g} | "
      f"{equal} of {channels} |"
    )
  lines += [
    "",
    f"The trained network has {point.accuracy:.2%}.",
    "",
    "## Files",
    "",
    "- `network.json`, `weights.npz`: the integer network; "
    "`fbq.deploy.artifact.load` gives it back bit for bit",
    f"- `dory/`: {export.dory}",
    f"- `qdq.onnx`: {_onnx(export)}",
    "",
    "## Layers",
    "",
    "Codes off by N: given the trained network's codes as input. Proven: of "
    "all accumulators that can occur, the share whose code is not the exact "
    "one.",
    "",
    f"| {' | '.join(_COLUMNS)} |",
    f"|{'---|' * len(_COLUMNS)}",
    *(f"| {' | '.join(row)} |" for row in _rows(export)),
  ]
  return "\n".join(lines) + "\n"


def summary(export: Export, seconds: Mapping[str, float]) -> dict[str, Any]:
  """What result.json holds."""
  return {
    "network": export.point.net.name,
    "point": export.point.name,
    "requantization_bits": export.network.width,
    "same_class": {
      str(width): faith.same_class for width, faith in export.faith.items()
    },
    "images": next(iter(export.faith.values())).images,
    "sizes": dict(export.sizes),
    "dory": export.dory,
    "onnx": dict(export.onnx),
    "layers": {
      layer.layer: {
        "off_by": {str(n): count for n, count in layer.off_by.items()},
        "proven_equal_channels": layer.equal_channels,
        "channels": layer.channels,
      }
      for layer in export.faith[export.network.width].layers
    },
    "seconds": {name: round(value, 3) for name, value in seconds.items()},
  }


_COLUMNS = (
  *("layer", "bits a/w", "shift", "codes off by N", "proven", "end to end"),
  *("float noise", "cause"),
)


def _rows(export):
  net, bits = export.point.net, export.point.assignment
  for layer in export.faith[export.network.width].layers:
    node = net.node[layer.layer]
    weights = bits.get(f"{layer.layer}.weight", "")
    reads = bits[export.network.site(node.inputs[0])]
    off = ", ".join(f"{n}: {c:,}" for n, c in layer.off_by.items()) or "0"
    proven = "equal"
    if layer.differing:
      share = layer.differing / layer.reachable
      proven = f"{share:.1e}, at most {layer.largest}"
    yield (
      layer.layer,
      f"{reads}/{weights}" if weights else f"{reads}",
      str(layer.shift) if layer.shift >= 0 else "",
      off,
      proven,
      f"{sum(layer.end_to_end.values()) / layer.values:.1e}",
      f"{layer.float_noise:,}",
      layer.cause,
    )


def _onnx(export):
  state, images = export.onnx, next(iter(export.faith.values())).images
  if "same_class" not in state:
    return state["error"]
  return (
    f"QDQ, opset 21, {state['bytes'] / 1000:.1f} kB of constants; 4-bit "
    "weights as int4, 2-bit ones in int8. ONNX Runtime agrees with the trained "
    f"network on {state['same_class']} of {images} images, and on "
    f"{state['same_class_fast']} with its integer kernels, which round biases"
  )
