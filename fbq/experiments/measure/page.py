"""The page of a measurement: is the network that was chosen as fast as said?"""

import dataclasses
from pathlib import Path

from fbq.experiments.measure import choice, pictures
from fbq.experiments.measure.results import Chosen, Measured
from fbq.report import cells, page, sentences
from fbq.report.blocks import (
  Answer,
  Block,
  Cell,
  Column,
  Facts,
  Picture,
  Section,
  Table,
  Text,
  note,
  number,
)
from fbq.report.run import Run
from fbq.train.log import Log

ASSUMPTIONS = (
  "One core, one image, ONNX Runtime's default optimizations.",
  "Images come as 8-bit pixels; a network that begins in float converts them.",
  "Times add up; the random mixtures tell how well. What ONNX Runtime fuses "
  "across layers in some mixtures alone, an addition into the float "
  "convolution before it above all, is where they do not.",
  "Harm is the noise of the logits to the float network, of each layer and "
  "tensor alone; it stands for no accuracy. It is told on the pictures that "
  "ranges and the choice came from.",
)
_KINDS = {8: "int8", 32: "float", 4: "int4"}


def write(results: Measured, run: Run, workdir: Path) -> None:
  """Writes report.html and its pictures."""
  page.write(
    workdir / "report.html",
    f"{results.network} on this machine",
    "Is the mixture of precisions that measured layers promise as fast, whole?",
    content(results),
    dataclasses.replace(run, assumptions=ASSUMPTIONS),
  )


def tell(results: Measured, log: Log) -> None:
  """Prints the networks and the answer."""
  title = f"{results.network}: one image on one core"
  log.console.print(cells.printed(_networks(results), title))
  log.say(" ".join(answers(results)))


def answers(results: Measured) -> list[str]:
  """What was chosen, what it saves, and how well that was foretold."""
  eight = results.named(choice.INTEGERS)
  fastest = results.named(choice.FASTEST)
  precise = results.named(choice.PRECISE)
  return [
    f"With {fastest.float_layers} of {len(results.layers)} layers in float, "
    f"the fastest network that was predicted takes {_ms(fastest)}, "
    f"{_change(fastest, eight)} than the {_ms(eight)} of int8 throughout, and "
    f"its logits have {_noise(fastest, eight)} the noise.",
    f"In the time of int8, {_ms(precise)}, {precise.float_layers} layers fit "
    f"in float, with {_noise(precise, eight)} the noise.",
  ]


def content(results: Measured) -> list[Block]:
  """The page, but for the facts of the run."""
  more = [Text(_load(results)), Text(_foretold(results))]
  return [
    Answer(answers(results), more),
    Section(
      "Whole networks",
      [
        _networks(results),
        note(
          "Predicted: the sum of layers and conversions, with a 90 % interval "
          "of the noise of runs, of how well times add up and of how well a "
          "measurement is repeated. Measured: the "
          f"{'median' if results.quiet else 'least'} of {results.rounds} runs, "
          "with half the distance of the quartiles. Noise: squared error of "
          "the logits over their variance, to the float network"
          + _pictures(results)
        ),
      ],
    ),
    Section(
      "Which layers compute in what",
      [Picture(pictures.kinds(results), "kinds.svg")],
    ),
    Section(
      "Every layer in int8 and in float",
      [Picture(pictures.layers(results), "layers.svg"), _layers(results)],
    ),
    Section(
      "Predicted and measured",
      [
        Picture(pictures.predictions(results), "predictions.svg"),
        note(
          f"{len(results.mixtures)} random mixtures of int8 and float layers, "
          "each predicted by the times of all others."
        ),
      ],
    ),
    Section("What was measured on", [Facts(results.machine)]),
  ]


def _ms(row: Chosen) -> str:
  return f"{row.measured_us / 1e3:,.3f} ms"


def _change(row, eight) -> str:
  return sentences.more_or_less(row.measured_us / eight.measured_us - 1)


def _noise(row, eight) -> str:
  return f"{row.noise / eight.noise:.2f} times" if eight.noise else "all of"


def _load(results: Measured) -> str:
  if results.quiet:
    return (
      f"The machine had time: {results.interrupted:.0%} of runs were "
      "interrupted, and are not counted."
    )
  return (
    f"The machine was busy: something else had the core in "
    f"{results.interrupted:.0%} of runs. Times of whole networks are processor "
    "times, and all are the least of the runs. Nothing here is to be relied "
    "on: long layers are always interrupted, and caches emptied. Give the "
    "command again, with another workdir, when the machine is idle."
  )


def _foretold(results: Measured) -> str:
  within = sum(row.within for row in results.networks)
  return (
    f"Random mixtures are predicted to {results.error:.1%}, and int8 and float "
    f"measured again to {results.again:.1%}; of the {len(results.networks)} "
    f"networks here, {within} are within their interval."
  )


def _pictures(results: Measured) -> str:
  said = "." if results.pictures else ", on made pictures."
  if not results.trained:
    said += " Weights are random, so it tells of arithmetic, not of accuracy."
  return said


def _networks(results: Measured) -> Table:
  eight = results.named(choice.INTEGERS)
  return Table.of(
    results.networks,
    ("network", lambda row: row.name),
    (
      number("predicted\nµs", "{:,.0f}"),
      lambda row: Cell(row.predicted_us, error=row.half_width_us),
    ),
    (
      number("measured\nµs", "{:,.0f}"),
      lambda row: Cell(
        row.measured_us,
        error=(row.measured_high_us - row.measured_low_us) / 2,
      ),
    ),
    (
      number("vs int8\n%", "{:+z.1f}"),
      lambda row: 100 * (row.measured_us / eight.measured_us - 1),
    ),
    (
      number("off by\n%", "{:+z.1f}"),
      lambda row: 100 * (row.predicted_us / row.measured_us - 1),
    ),
    (number("noise", "{:.2g}"), lambda row: row.noise),
    (number("int8\nlayers"), lambda row: row.integer_layers),
    (number("float"), lambda row: row.float_layers),
    (number("int4"), lambda row: row.four_bit_layers),
    (number("conver-\nsions"), lambda row: row.conversions),
    (number("weights\nkB", "{:,.0f}"), lambda row: row.weight_bytes / 1e3),
    marks=lambda row: "best" if row.name == choice.FASTEST else "",
    label=f"networks of {results.network}",
  )


def _layers(results: Measured) -> Table:
  columns = [
    ("layer", lambda row: row.layer),
    (Column("operator", "soft"), lambda row: row.op),
    (number("int8\nµs", "{:,.0f}"), lambda row: row.int8_us),
    (number("float\nµs", "{:,.0f}"), lambda row: row.float_us),
    (number("int4\nµs", "{:,.0f}"), lambda row: row.int4_us),
    (number("output\nto int8, µs", "{:,.0f}"), lambda row: row.to_int8_us),
    (number("output\nto float, µs", "{:,.0f}"), lambda row: row.to_float_us),
    (number("noise\nof int8 alone", "{:.1g}"), lambda row: row.noise),
  ]
  columns += [
    (
      Column(name, "soft"),
      lambda row, name=name: _KINDS[row.kinds[name]],
    )
    for name in (choice.PASS, choice.FASTEST, choice.PRECISE)
  ]
  return Table.of(
    results.layers,
    *columns,
    marks=lambda row: "like" if row.float_us < row.int8_us else "",
    label="layers, marked where float is faster than int8",
  )
