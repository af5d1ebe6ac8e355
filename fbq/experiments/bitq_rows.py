"""Parts of a BitQ report: rows of its tables, and the file of results."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fbq import nets
from fbq.nets.graph import Net
from fbq.report import bitq as results
from fbq.report import bitq_published, tables
from fbq.report.bitq import Outcome
from hwsim.bfp.energy import Memories, network_traffic
from hwsim.bfp.formats import FP32, BlockFormat, block_format

_UNLIMITED = 1 << 50  # bits of a memory that holds everything


def rows(outcomes: Sequence[Outcome], fp32: Outcome, test_count: int):
  """What the table of networks says, the most data moved first."""
  return [
    {
      "o": o,
      "text": o.text or results.formats_in_words(o.formats),
      "share": o.dram_bits / fp32.dram_bits,
      "accuracy": results.accuracy_text(o.test, test_count),
    }
    for o in sorted(outcomes, key=lambda o: -o.dram_bits)
  ]


def layers(best: Outcome, net: Net, memories: Memories):
  """Formats and traffic of every layer with weights."""
  workload = net.workload
  widest = max(float(t.dram_bits) for t in best.traffic)
  rows = []
  for t in best.traffic:
    i = workload.index[t.name]
    sites = (
      workload.input_sites[i][0],
      workload.weight_site(workload.layers[i]),
      workload.output_sites[i],
    )
    rows.append(
      {
        "name": t.name,
        "formats": [None if s is None else best.formats[s] for s in sites],
        "tensor_bits": [float(bits) for bits in t.tensor_bits],
        "dram_bits": float(t.dram_bits),
        "sram_bits": float(t.sram_bits),
        "joules": t.joules(memories),
        "share": float(t.dram_bits) / widest,
        "tile": " ".join(map(str, t.tile[1:])),
      }
    )
  return rows


def sweep(config, studies, best):
  """Energy and traffic of a network of full size over memory sizes."""
  net = nets.build(config.sweep.builder, **config.sweep.arguments)
  formats: dict[str, BlockFormat] = {
    "FP32": FP32,
    "16 bits": block_format(16, 0, 1),
  }
  for s in studies:
    narrow = min(s.word.grid, key=lambda f: f.activation_bits)
    middle = min(
      s.word.grid,
      key=lambda f, o=best[s.word.name]: abs(f.activation_bits - _mean_bits(o)),
    )
    for f in (middle, narrow) if s.word.bits <= 8 else (narrow,):
      name = f"{s.word.name} <{f.exponent_bits}, {f.block_size}>"
      formats[name] = f
  sizes = list(config.sweep.memory_kilobytes)
  ratios, joules = {}, []
  for name, format_ in formats.items():
    one = dict.fromkeys(net.workload.sites, format_)
    least = _moved(net, one, Memories(_UNLIMITED))[0]
    found = [_moved(net, one, Memories(int(kb * 8192))) for kb in sizes]
    ratios[name] = [bits / least for bits, _ in found]
    joules.append([1e3 * energy for _, energy in found])
  return {
    "network": net.name,
    "names": list(formats),
    "ratios": (sizes, ratios),
    "rows": [
      {"size": size, "millijoules": column}
      for size, column in zip(sizes, zip(*joules, strict=True), strict=True)
    ],
  }


def _moved(net, formats, memories):
  traffic = network_traffic(net.workload, formats, memories)
  return (
    float(sum(t.dram_bits for t in traffic)),
    sum(t.joules(memories) for t in traffic),
  )


def _mean_bits(o: Outcome) -> float:
  return float(np.mean([float(f.activation_bits) for f in o.formats.values()]))


def table_3(config, outcomes, best):
  """Our accuracies beside the paper's for the same family of networks."""
  paper = bitq_published.TABLE_3.get(config.net.builder)
  by_name = {o.name: o for o in outcomes}
  asked = {"FP32", "DBPS", "FlexBlock FB16", "FAST high", "BSFP"} <= set(
    by_name
  )
  if paper is None or not asked or not {"BitQ16", "BitQ8"} <= set(best):
    return None
  ours = {
    "FP32": by_name["FP32"],
    "DBPS": by_name["DBPS"],
    "FlexBlock": by_name["FlexBlock FB16"],
    "BitQ16": best["BitQ16"],
    "FAST": by_name["FAST high"],
    "BSFP": by_name["BSFP"],
    "BitQ8": best["BitQ8"],
  }
  shown = lambda o: "–" if o.test is None else f"{100 * o.test:.2f}"
  return {
    "names": list(paper),
    "data": config.data.name,
    "ours": [shown(ours[name]) for name in paper],
    "paper": [f"{value:.2f}" for value in paper.values()],
    "note": (
      f"{config.net.builder} of this run on {config.data.name} beside one of "
      "full size on ImageNet: unless ours is both, the order of the methods "
      "may be compared, no number. FlexBlock: FB16; "
      "FAST: m = 4; the paper does not tell the modes it ran. BSFP is priced, "
      "not trained."
    ),
  }


def write_csv(path: Path, net: Net, outcomes: Sequence[Outcome]) -> None:
  """One row per network: numbers, then the format of every tensor."""
  text = io.StringIO(newline="")
  writer = csv.writer(text, lineterminator="\n")
  numbers = ("dram_bits", "sram_bits", "joules")
  accuracies = ("test", "validation", "untrained_test", "divergence")
  sites = net.workload.sites
  columns = ["name", "family", "word", *numbers, *accuracies, "input_bits"]
  columns += ["weight_bits", "output_bits", "source"]
  writer.writerow([*columns, *(f"format:{site}" for site in sites)])
  for o in outcomes:
    row = [o.name, o.family, o.word]
    row += [repr(getattr(o, n)) for n in numbers]
    known = [getattr(o, n) for n in accuracies]
    row += ["" if value is None else repr(value) for value in known]
    row += [*map(repr, o.tensor_bits), o.source]
    formats = [o.formats[site] for site in sites]
    row += [
      f"{f.element_bits}+{f.exponent_bits}/{f.block_size}" for f in formats
    ]
    writer.writerow(row)
  tables.write_atomically(path, text.getvalue().encode())
