"""What assignments were chosen by: harms, and errors of rounded layers."""

from fbq.experiments.compress.results import Compressed
from fbq.report import blocks


def section(results: Compressed) -> blocks.Section:
  """The section of the page that tells them."""
  bits = sorted({b for by_bits in results.harm.values() for b in by_bits})
  correlation = (
    "not defined here"
    if results.correlation is None
    else f"{results.correlation:.2f}"
  )
  rounded = [row for row in results.roundings if row.error is not None]
  parts: list[blocks.Block] = [
    blocks.Text(
      "Harm is the KL divergence in nats that a precision of one tensor alone "
      f"causes on {results.calibration_images:,} calibration inputs, all "
      f"others at 8 bits: {results.passes} passes. Under each budget the "
      "assignment of least sum is found exactly. That is the best network as "
      "far as harms add up: the rank correlation of the sums with the "
      f"divergence that the assignments came to is {correlation}."
    ),
    blocks.Details(
      "Harm of every precision of every tensor",
      [
        blocks.Table(
          [
            blocks.Column("tensor"),
            *(blocks.number(f"{b} bits", "{:.2g}") for b in bits),
          ],
          [
            [site, *(by_bits.get(b) for b in bits)]
            for site, by_bits in results.harm.items()
          ],
          label="harm",
        )
      ],
    ),
  ]
  if rounded:
    parts.append(_roundings(rounded))
  if results.notes:
    parts.append(blocks.Bullets(results.notes))
  return blocks.Section("What they were chosen by", parts)


def _roundings(rows) -> blocks.Details:
  """What rounding for the outputs saves of their error."""
  bits = sorted({row.bits for row in rows})
  layers = list(dict.fromkeys(row.layer for row in rows))
  share = {
    (row.layer, row.bits): row.error / row.nearest_error
    for row in rows
    if row.nearest_error
  }
  return blocks.Details(
    "What AdaRound leaves of each layer's error",
    [
      blocks.Table(
        [
          blocks.Column("layer"),
          *(blocks.number(f"{b} bits", "{:.2f}") for b in bits),
        ],
        [[name, *(share.get((name, b)) for b in bits)] for name in layers],
        label="error of outputs as a share of that of rounding to the nearest",
      ),
      blocks.note(
        "Squared error of the layer's outputs over that of rounding to the "
        "nearest in the same ranges, the mean left out, which the bias takes."
      ),
    ],
  )
