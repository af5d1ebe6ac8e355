"""What an export's page says of each runtime: how to call it, what it gave."""

from fbq.experiments.export.results import CExport, IntegerExport
from fbq.report.blocks import (
  Block,
  Cell,
  Code,
  Table,
  Text,
  note,
  number,
)


def fast(same: int, images: int, saturates: bool) -> str:
  """What the form of ONNX with integer kernels is worth."""
  said = f"On integer kernels it agrees on {same:,} of them"
  if same == images:
    return f"{said}: qdq_fast.onnx is as right here, and faster."
  return (
    f"{said}: those take biases in whole steps of the sums"
    + (
      ", and on this processor, which has no VNNI, ONNX Runtime adds two "
      "products of 8 bits in 16, where large ones are cut off"
      if saturates
      else ""
    )
    + ". qdq_fast.onnx is faster, and this is its price."
  )


def code(code: CExport) -> list[Block]:
  """What the C takes, and how it is run."""
  sizes = code.sizes
  ran = (
    f"Compiled here, it gives the logits of all {code.images} golden images."
    if code.ran
    else "There is no C compiler here, so it was not run."
  )
  return [
    Code("make -C c"),
    Text(
      f"Flash: {sizes.weight_bytes:,} bytes of weights and "
      f"{sizes.constant_bytes:,} of constants, besides the program. Memory: "
      f"{sizes.arena_bytes:,} bytes of activations, image and logits included."
    ),
    Text(ran),
  ]


def tflite(results: IntegerExport) -> list[Block]:
  """The TFLite files, as LiteRT runs them by default."""
  number_of = lambda field: lambda row: getattr(row[1], field)
  share = lambda found: 1 - found.equal / found.values
  table = Table.of(
    results.tflite.items(),
    ("file", lambda row: Cell(row[0], href=row[0])),
    (number("bytes"), number_of("bytes")),
    (number("of weights\nand biases"), number_of("weight_bytes")),
    (number("same class"), number_of("same_class")),
    (number("codes off\nend to end", "{:.2g}"), lambda row: share(row[1])),
    (number("at most"), number_of("largest")),
    (number("channels"), number_of("channels")),
    (number("proven equal"), number_of("equal_channels")),
    (number("weights\nclipped"), number_of("clipped")),
    label=f"TFLite on {results.images:,} test images",
  )
  about = (
    "A bias is a whole number of products in TFLite, so codes are off by one "
    "near ties. int4 takes less memory and has coarser biases, and LiteRT "
    "rounds its convolutions twice. Clipped: a weight of -128 is beyond "
    "TFLite's specification, and 128, which a negative batch norm makes of "
    "it, beyond int8; they are written one nearer to zero. "
    "config.tflite_portable=False keeps -128, for processors that take it."
  )
  return [table, note(about)]


def board(results: IntegerExport) -> list[Block]:
  """How DORY is called, and which cycles it was that were simulated."""
  if results.dory is None:
    said = f"{results.without_dory}."
    if 32 in results.cycles:
      said += (
        f" With multipliers of 32 bits, the most that NE16 has, "
        f"{results.cycles[32]:,} cycles are simulated."
      )
    return [Text(said)]
  blocks: list[Block] = [
    Text("In a checkout of DORY, with its submodules and NumPy below 2:"),
    Code(results.dory.command),
    note(
      "The library of kernels is named because DORY's own choice for tensors "
      "of 8 bits drops the sign of outputs."
    ),
    *map(Text, results.dory.notes),
  ]
  bits = results.requantization_bits
  if bits in results.cycles:
    blocks.append(
      Text(
        f"With {bits}-bit constants of requantization, as in these files, "
        f"{results.cycles[bits]:,} cycles are simulated; with 32-bit ones, as "
        f"in a target by default, {results.cycles[32]:,}. Tiles and transfers "
        "differ; the kernels' 64-bit arithmetic is not modelled."
      )
    )
  return blocks
