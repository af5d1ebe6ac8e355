"""The page of an export: what runs where, and is it what was trained?"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fbq.deploy.faithful import LayerReport
from fbq.experiments.export.results import BlockExport, IntegerExport, Integers
from fbq.report import cells, page
from fbq.report.blocks import (
  Answer,
  Block,
  Bullets,
  Cell,
  Column,
  Details,
  Figures,
  Section,
  Table,
  Text,
  number,
)
from fbq.report.run import Run
from fbq.train.log import Log

Exported = IntegerExport | BlockExport


def write(results: Exported, run: Run, workdir: Path) -> None:
  """Writes report.html."""
  if isinstance(results, IntegerExport):
    form, parts = "integers", _integers(results)
  else:
    form, parts = "block floating point", _formats(results)
  if results.failed:
    failures = [f"{part}: {reason}" for part, reason in results.failed.items()]
    parts = [Section("What could not be made", [Bullets(failures)]), *parts]
  answer, *more = _statements(results)
  page.write(
    workdir / "report.html",
    f"{results.network}, {results.point}, in {form}",
    "Which numbers run on the device, and are they the network that was "
    "trained?",
    [Answer([answer], list(map(Text, more))), *parts],
    run,
  )


def tell(results: Exported, log: Log) -> None:
  """Prints what was found of every layer, and the answer."""
  if isinstance(results, IntegerExport) and results.written:
    title = f"{results.network}, {results.point}"
    table = _layers(results, results.written)
    log.console.print(cells.printed(table, title))
  log.say(" ".join(_statements(results)))


def _statements(results: Exported) -> list[str]:
  """How faithful the files are: the answer, and what it rests on."""
  if isinstance(results, BlockExport):
    if results.failed:
      return [f"{results.network} could not be written."]
    return [
      f"All {results.logits:,} logits of {results.images:,} test images are "
      "those of the trained network, bit for bit.",
      f"Test accuracy {results.accuracy:.2%}, the run reports "
      f"{results.reported_accuracy:.2%}.",
    ]
  bits, found = results.requantization_bits, results.written
  if found is None:
    return [f"There are no {bits}-bit integers of {results.network}."]
  return [
    f"{found.same_class:,} of {results.images:,} test images get the class "
    f"that the trained network predicts, with {bits}-bit requantization.",
    f"{found.total('equal_channels'):,} of {found.total('channels'):,} "
    "channels are proven equal for every input; given the trained network's "
    f"codes, {found.total('off_by'):,} of {found.total('values'):,} codes "
    f"differ on the test images, {found.total('float_noise'):,} codes of the "
    "trained network being float32 noise at ties.",
  ]


# ---- Integers


def _integers(results: IntegerExport) -> list[Block]:
  """Sizes, files, both widths, every layer."""
  sizes, found = results.sizes, results.written
  parts: list[Block] = []
  if sizes and found:
    parts.append(
      _figures(
        sizes,
        f"weights {_kilobytes(sizes['weight_bytes'])} packed, constants of "
        f"the requantization {_kilobytes(sizes['constant_bytes'])}, biases "
        f"{_kilobytes(sizes['bias_bytes'])}",
        found.accuracy,
        results.reported_accuracy,
      )
    )
  parts.append(Section("What runs where", [_files(results)]))
  if results.widths:
    parts.append(Section("Requantization", [_widths(results)]))
  layers: list[Block] = [
    Text(
      "Codes off by N: given the trained network's codes as input; end to end: "
      "share of codes that differ, given the integer network's own. Proven: of "
      "all accumulators that can occur, the share whose code is not the exact "
      "one.",
      note=True,
    )
  ]
  layers += [_layers(results, found)] if found else []
  layers += [
    Details(f"with {width}-bit requantization", [_layers(results, integers)])
    for width, integers in results.widths.items()
    if integers is not found
  ]
  return [*parts, Section("Layers", layers)] if results.widths else parts


class _Form(NamedTuple):
  """A form that a network is written in: its files, who reads them."""

  part: str
  file: str
  beside: str
  reader: str
  known: str


def _files(results: IntegerExport) -> Table:
  """Every form of the network, who reads it and what is known of it."""
  onnx, failed = results.onnx, results.failed
  agrees = f"not run: {failed.get('ONNX Runtime')}"
  if "same_class" in onnx:
    agrees = (
      "ONNX Runtime agrees with the trained network on "
      f"{onnx['same_class']:,} of {results.images:,} images, and on "
      f"{onnx['same_class_fast']:,} with its integer kernels, which round "
      "biases"
    )
  forms = [
    _Form(
      *("integer network", "network.json", "weights.npz"),
      "fbq.deploy.artifact.load, which gives it back bit for bit",
      f"{results.requantization_bits}-bit requantization",
    ),
    _Form(
      *("DORY", "dory/network.onnx", "golden tensors beside it"),
      "DORY's Quantlab frontend, for PULP boards",
      "form, arithmetic and golden tensors hold the contract",
    ),
    _Form(
      *("ONNX", "qdq.onnx", ""),
      "ONNX Runtime and what else reads opset 21",
      f"QDQ, {_kilobytes(onnx.get('bytes', 0))} of constants; 4-bit weights as "
      f"int4, 2-bit ones in int8; {agrees}",
    ),
  ]

  def file(form):
    is_there = form.part not in failed
    return (
      Cell(form.file, note=form.beside, href=form.file) if is_there else None
    )

  def known(form):
    reason = failed.get(form.part)
    return f"not made: {reason}" if reason else form.known

  return Table.of(
    forms,
    (Column("form"), lambda form: form.part),
    (Column("file", "soft"), file),
    (Column("read by", "long"), lambda form: form.reader),
    (Column("what is known", "long"), known),
    label="files",
  )


def _widths(results: IntegerExport) -> Table:
  """Both widths of requantization."""

  def share(field):
    return lambda row: row[1].total(field) / row[1].total("values")

  return Table.of(
    results.widths.items(),
    (number("bits"), lambda row: row[0]),
    (number("same class"), lambda row: row[1].same_class),
    (number("accuracy\n%", "{:.2f}"), lambda row: 100 * row[1].accuracy),
    (number("codes off\nsame inputs", "{:.2g}"), share("off_by")),
    (number("codes off\nend to end", "{:.2g}"), share("end_to_end")),
    (number("channels"), lambda row: row[1].total("channels")),
    (number("proven equal"), lambda row: row[1].total("equal_channels")),
    marks=lambda row: "best" if row[1] is results.written else "",
    label="requantization, the written one marked",
  )


def _layers(results: IntegerExport, integers: Integers) -> Table:
  """What is known of every layer."""
  return Table.of(
    integers.layers,
    (Column("layer"), lambda x: x.layer),
    (
      Column("bits\ninput / weight", "bits"),
      lambda x: [bits for bits in results.bits[x.layer] if bits],
    ),
    (number("shift"), lambda x: x.shift if x.shift >= 0 else None),
    (
      Column("codes off by N"),
      lambda x: ", ".join(f"{n}: {c:,}" for n, c in x.off_by.items()) or "0",
    ),
    (Column("proven"), _proven),
    (
      Column("end to end", "bar", "{:.2g}"),
      lambda x: sum(x.end_to_end.values()) / x.values,
    ),
    (number("float noise"), lambda x: x.float_noise),
    (Column("cause", "soft"), lambda x: x.cause),
    label=f"layers of {results.network}, {results.point}",
  )


def _proven(layer: LayerReport) -> str:
  if not layer.differing:
    return "equal"
  return f"{layer.differing / layer.reachable:.1e}, at most {layer.largest}"


# ---- Block formats


def _formats(results: BlockExport) -> list[Block]:
  """Sizes and every tensor."""
  sizes = results.sizes
  if not sizes:
    return []
  return [
    _figures(
      sizes,
      f"weights {_kilobytes(sizes['weight_bytes'])} packed, exponents "
      f"included, biases and norms {_kilobytes(sizes['constant_bytes'])} in "
      "float32",
      results.accuracy,
      results.reported_accuracy,
    ),
    Section(
      "Tensors",
      [
        Text(
          "network.json and weights.npz are the network; "
          "fbq.deploy.block_artifact.load gives it back bit for bit. DORY and "
          "ONNX have no block floating point, so there are no files for them.",
          note=True,
        ),
        Table.of(
          results.tensors,
          (Column("tensor"), lambda x: x.name),
          *(
            (number(heading), lambda x, i=i: x.format and x.format[i])
            for i, heading in enumerate(
              ("element bits, X", "exponent bits, SE", "block size, BS")
            )
          ),
          (number("bytes"), lambda x: x.bytes),
          label="formats of tensors, none in float32",
        ),
      ],
    ),
  ]


# ---- Both


def _figures(
  sizes: Mapping[str, int], made_of: str, accuracy: float, reported: float
) -> Figures:
  """What the files take and what they are worth."""
  saved = sizes["float_bytes"] / sizes["total_bytes"]
  return Figures(
    [
      (_kilobytes(sizes["total_bytes"]), made_of),
      (
        f"{saved:.1f}×",
        f"smaller than float32, {_kilobytes(sizes['float_bytes'])}",
      ),
      (
        _kilobytes(sizes["peak_activation_bytes"]),
        "of activations at their peak, packed, run layer by layer",
      ),
      (
        f"{100 * accuracy:.2f} %",
        f"test accuracy; the run reports {100 * reported:.2f}",
      ),
    ]
  )


def _kilobytes(count: int) -> str:
  return f"{count / 1000:,.2f} kB"
