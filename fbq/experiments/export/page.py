"""The page of an export: what runs where, and is it what was trained?"""

from pathlib import Path

from fbq.config_words import cut
from fbq.deploy.faithful import LayerReport
from fbq.experiments.export import runtimes
from fbq.experiments.export.results import (
  BlockExport,
  IntegerExport,
)
from fbq.report import cells, page
from fbq.report.blocks import (
  Answer,
  Block,
  Bullets,
  Cell,
  Column,
  Figures,
  Links,
  Section,
  Table,
  Text,
  note,
  number,
  percents,
)
from fbq.report.run import Run
from fbq.report.sentences import counted
from fbq.train.log import Log

Exported = IntegerExport | BlockExport
FORMS = (  # form, its file, and who reads it
  ("integer network", "network.json", "fbq.deploy.artifact.load, bit for bit"),
  ("DORY", "dory/network.onnx", "DORY's Quantlab frontend for PULP boards"),
  ("C", "c/network.c", "any C99 compiler; no heap, no library"),
  ("ONNX", "qdq.onnx", "what knows QDQ and opset 21; 2-bit weights are int8"),
  ("TFLite", "network.tflite", "LiteRT, and what has int8 of TFLite"),
  (
    "TFLite int4",
    "network_int4.tflite",
    "LiteRT; 4- and 2-bit weights are int4",
  ),
)
_LAYERS = (
  "Codes off by N: given the simulated network's codes as input; end to end: "
  "share of codes that differ, given the integer network's own. Proven: of all "
  "accumulators that can occur, the share whose code is not the exact one."
)


def write(results: Exported, run: Run, workdir: Path) -> None:
  """Writes report.html."""
  is_integer = isinstance(results, IntegerExport)
  form = "integers" if is_integer else "block floating point"
  answer, *more = statements(results)
  blocks: list[Block] = [Answer([answer], list(map(Text, more)))]
  if results.failed:
    failures = [
      f"{part}: {cut(reason, 400)}" for part, reason in results.failed.items()
    ]
    blocks.append(Section("What could not be made", [Bullets(failures)]))
  if results.sizes:
    blocks.append(_figures(results))
  blocks += _integers(results) if is_integer else _formats(results)
  title = f"{results.network}, {results.point}, in {form}"
  made = results.made if is_integer else "trained"
  question = f"Do the numbers on the device make the network that was {made}?"
  page.write(workdir / "report.html", title, question, blocks, run)


def tell(results: Exported, log: Log) -> None:
  """Prints what was found of every layer, and the answer."""
  if isinstance(results, IntegerExport) and results.written:
    log.console.print(cells.printed(_layers(results)))
  log.say(" ".join(statements(results)))


def statements(results: Exported) -> list[str]:
  """How faithful the files are: the answer, and what it rests on."""
  if isinstance(results, BlockExport):
    if results.failed:
      return [f"{results.network} could not be written."]
    return [
      f"All {results.logits:,} logits of {results.images:,} test images are "
      "those of the trained network, bit for bit."
    ]
  bits, found = results.requantization_bits, results.written
  if found is None:
    return [f"There are no {bits}-bit integers of {results.network}."]
  same, exact = found.same_class, found.same_exact_class
  answers = [
    f"{same:,} of {results.images:,} test images get the class that the "
    f"{results.made} network predicts, with {bits}-bit requantization."
  ]
  if exact is not None:
    answers = [
      f"{exact:,} of {results.images:,} test images get the class that the "
      f"{results.made} network predicts in float64, with {bits}-bit "
      f"requantization, and {same:,} that which it predicts in float32."
    ]
    if less := results.images - exact:
      answers.append(
        f"Of {counted(less, 'image')} two logits are less than a step of the "
        "sums apart, to which the biases of integer logits are rounded."
      )
  return [
    *answers,
    f"{found.total('equal_channels'):,} of {found.total('channels'):,} "
    f"channels are proven equal for every input; given the {results.made} "
    f"network's codes, {found.total('off_by'):,} of "
    f"{found.total('values'):,} codes differ on the test images, "
    f"{counted(found.total('float_noise'), 'code')} of the {results.made} "
    "network being float32 noise at ties.",
  ]


def _figures(results: Exported) -> Figures:
  """What the files take, and what they are worth."""
  sizes = {part: f"{n / 1e3:,.2f} kB" for part, n in results.sizes.items()}
  saved = results.sizes["float_bytes"] / results.sizes["total_bytes"]
  measure = (
    results.measure if isinstance(results, IntegerExport) else "accuracy"
  )
  reported = f"test {measure}; the run reports {results.reported_accuracy:.2%}"
  return Figures(
    [
      (sizes["total_bytes"], f"packed, weights {sizes['weight_bytes']}"),
      (f"{saved:.1f}×", f"smaller than float32, {sizes['float_bytes']}"),
      (sizes["peak_activation_bytes"], "of activations at their peak, packed"),
      (f"{results.accuracy:.2%}", reported),
    ]
  )


# ---- Integers


def _integers(results: IntegerExport) -> list[Block]:
  """Files, both widths of requantization, every layer."""
  rows = [
    [form, None, "not made"]
    if form in results.failed or (form == "DORY" and results.without_dory)
    else [form, Cell(file, href=file), reader]
    for form, file, reader in FORMS
    if form != "TFLite int4" or file in results.tflite or form in results.failed
  ]
  columns = [Column("form"), Column("file", "soft"), Column("read by", "long")]
  files: list[Block] = [Table(columns, rows, label="files")]
  onnx = results.onnx
  if "same_class" in onnx:
    files.append(
      Text(
        f"ONNX Runtime, with default options, agrees with the {results.made} "
        f"network on {onnx['same_class']:,} of {results.images:,} images; "
        f"constants take {onnx['bytes'] / 1e3:,.1f} kB."
      )
    )
  if "fast_same_class" in onnx:
    same, cut = onnx["fast_same_class"], bool(onnx.get("fast_saturates"))
    files.append(Text(runtimes.fast(same, results.images, cut)))
    files.append(Links([("qdq_fast.onnx", "qdq_fast.onnx")]))
  blocks: list[Block] = [Section("What runs where", files)]
  if results.c:
    blocks.append(Section("On any processor", runtimes.code(results.c)))
  if results.tflite:
    blocks.append(Section("In LiteRT", runtimes.tflite(results)))
  if results.without_dory or "DORY" not in results.failed:
    blocks.append(
      Section(f"On the board: {results.target}", runtimes.board(results))
    )
  if results.refused:
    table = Table.of(
      results.refused,
      ("layer", lambda row: row[0]),
      (Column("why, and what to change", "long"), lambda row: row[1]),
      label="layers that DORY or its kernels would not run as they are",
    )
    heading = f"Layers that {results.target} does not run"
    blocks.append(Section(heading, [table]))
  if results.widths:
    blocks.append(Section("Requantization", [_widths(results)]))
  if results.written:
    blocks.append(Section("Layers", [_layers(results), note(_LAYERS)]))
  return blocks


def _widths(results: IntegerExport) -> Table:
  """Both widths of requantization."""

  def share(field):
    return lambda row: row[1].total(field) / row[1].total("values")

  return Table.of(
    results.widths.items(),
    (number("bits"), lambda row: row[0]),
    (number("same class"), lambda row: row[1].same_class),
    (percents(f"{results.measure}\n%"), lambda row: 100 * row[1].accuracy),
    (number("codes off\nsame inputs", "{:.2g}"), share("off_by")),
    (number("codes off\nend to end", "{:.2g}"), share("end_to_end")),
    (number("channels"), lambda row: row[1].total("channels")),
    (number("proven equal"), lambda row: row[1].total("equal_channels")),
    marks=lambda row: "best" if row[1] is results.written else "",
    label="requantization, the written one marked",
  )


def _layers(results: IntegerExport) -> Table:
  """What is known of every layer in the width that was asked for."""
  return Table.of(
    results.written.layers if results.written else (),
    ("layer", lambda x: x.layer),
    (
      Column("bits\ninput / weight", "bits"),
      lambda x: [bits for bits in results.bits[x.layer] if bits],
    ),
    (
      "codes off by N",
      lambda x: ", ".join(f"{n}: {c:,}" for n, c in x.off_by.items()) or "0",
    ),
    ("proven", _proven),
    (
      Column("end to end", "bar", "{:.2g}"),
      lambda x: sum(x.end_to_end.values()) / x.values,
    ),
    (Column("cause", "soft"), lambda x: x.cause),
    label=f"layers of {results.network}, {results.point}",
  )


def _proven(layer: LayerReport) -> str:
  if not layer.differing:
    return "equal"
  return f"{layer.differing / layer.reachable:.1e}, at most {layer.largest}"


# ---- Block formats


def _formats(results: BlockExport) -> list[Block]:
  """Every tensor."""
  if not results.tensors:
    return []
  headings = "element bits, X", "exponent bits, SE", "block size, BS"
  table = Table.of(
    results.tensors,
    ("tensor", lambda x: x.name),
    *(
      (number(heading), lambda x, i=i: x.format and x.format[i])
      for i, heading in enumerate(headings)
    ),
    (number("bytes"), lambda x: x.bytes),
    label="formats of tensors, none in float32",
  )
  about = note(
    "fbq.deploy.block_artifact.load gives the network back bit for bit. DORY "
    "and ONNX have no block floating point, so there are no files for them."
  )
  files = Links([(name, name) for name in ("network.json", "weights.npz")])
  return [Section("Tensors", [files, about, table])]
