"""A trained point of a BitQ run as packed codes and exponents.

Writes the network, reads it back, compares its logits on all test images with
those of the trained one, bit for bit, and reports its sizes.
"""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from fbq.deploy import block_artifact
from fbq.deploy.block_artifact import BlockNet
from fbq.experiments import block_point
from fbq.experiments.block_point import BlockPoint
from fbq.experiments.workdir import finish, opened
from fbq.report.tables import write_atomically

_BATCH = 360  # images at a time


def run(config: ConfigDict, workdir: Path) -> None:
  """Exports into `workdir`; does nothing in a finished one."""
  # ---- Checks
  found = block_point.find(Path(config.source), config.point)
  claim = {**config.to_dict(), "source_sha256": found.sha256}
  work = opened(workdir, claim, "report.md")
  if work is None:
    return
  _, log, clock = work

  # ---- The trained network, and its files
  with clock.measure("trained network"):
    point = block_point.load(found, log)
  with clock.measure("files"):
    network = block_artifact.encode(
      point.net, point.variables, point.data, point.scheme
    )
    sizes = block_artifact.save(network, workdir)["sizes"]
    loaded = block_artifact.load(workdir)

  # ---- The same logits, or no export
  with clock.measure("comparison"):
    trained = _logits(point, point.variables, point.data)
    ours = _logits(point, loaded.variables, loaded.data)
  if not np.array_equal(ours, trained):
    raise RuntimeError(f"{workdir} gives back another network than written")
  accuracy = float(np.mean(ours.argmax(-1) == np.asarray(point.labels)))

  # ---- Report, and the mark that all is done
  statement = (
    f"All {ours.size} logits of {len(ours)} test images are those of the "
    f"trained network, bit for bit. Test accuracy {accuracy:.2%}, the run "
    f"reports {point.accuracy:.2%}."
  )
  page = _page(point, loaded, sizes, statement)
  write_atomically(workdir / "report.md", page.encode())
  log.say(statement)
  log.say(f"Report: {workdir / 'report.md'}")
  result = {
    "network": point.net.name,
    "point": point.name,
    "accuracy": accuracy,
    "reported_accuracy": point.accuracy,
    "sizes": sizes,
    "seconds": {name: round(x, 3) for name, x in clock.seconds.items()},
  }
  finish(workdir, result)


def _logits(point: BlockPoint, variables, data) -> np.ndarray:
  return np.concatenate(
    [
      block_artifact.logits(
        *(point.net, point.scheme, variables, data),
        point.images[start : start + _BATCH],
      )
      for start in range(0, len(point.images), _BATCH)
    ]
  )


def _page(point: BlockPoint, network: BlockNet, sizes, statement: str) -> str:
  """The report in Markdown."""
  kilobytes = {key: f"{value / 1000:.2f} kB" for key, value in sizes.items()}
  saved = sizes["float_bytes"] / sizes["total_bytes"]
  lines = [
    f"# {point.net.name}, {point.name}, in block floating point",
    "",
    statement,
    "",
    f"Weights take {kilobytes['weight_bytes']} packed, exponents included, and "
    f"biases and norms {kilobytes['constant_bytes']} in float32: "
    f"{kilobytes['total_bytes']}, {saved:.1f} times less than float32's "
    f"{kilobytes['float_bytes']}. Activations take "
    f"{kilobytes['peak_activation_bytes']} at their peak, packed, run layer by "
    "layer.",
    "",
    "`network.json` and `weights.npz` are the network; "
    "`fbq.deploy.block_artifact.load` gives it back bit for bit. DORY and ONNX "
    "have no block floating point, so there are no files for them.",
    "",
    "| tensor | X | SE | BS | bytes |",
    "|---|---|---|---|---|",
  ]
  rows = dict(zip(point.net.workload.sites, network.formats, strict=True))
  for site in network.weights:
    bits, exponent_bits, size = rows[site]
    count = network.weight_bytes(site)
    lines.append(f"| {site} | {bits} | {exponent_bits} | {size} | {count:,} |")
  for name in point.net.shapes:
    site = point.net.site_of[name]
    numbers = " | ".join(map(str, rows[site])) if site else "float32 | |"
    count = network.activation_bytes(name)
    lines.append(f"| {name} | {numbers} | {count:,} |")
  return "\n".join(lines) + "\n"
