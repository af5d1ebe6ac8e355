"""A fine-tuned point of a run as integers, for DORY and for ONNX.

Lowers the network, compares it with the trained one on the test images, and
writes an integer network, DORY's files, a quantized ONNX and a report.
"""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from fbq.deploy import (
  artifact,
  dory,
  dory_check,
  faithful,
  integer,
  lowering,
  onnx_qdq,
)
from fbq.experiments import export_blocks, export_report, settings
from fbq.experiments.trained_point import TrainedPoint, find, load, read_run
from fbq.experiments.workdir import finish, opened
from fbq.report.tables import write_atomically

SETTINGS = {
  "experiment": str,
  "source": str,
  "point": str,
  "requantization_bits": int,
  "golden_image": int,
}
WIDTHS = (32, 64)


def run(config: ConfigDict, workdir: Path) -> None:
  """Exports into `workdir`; does nothing in a finished one."""
  # ---- Checks
  check(config)
  if read_run(Path(config.source))[0].get("experiment") == "bitq":
    export_blocks.run(config, workdir)
    return
  found = find(Path(config.source), config.point)
  claim = {**config.to_dict(), "source_sha256": found.sha256}
  work = opened(workdir, claim, "report.md")
  if work is None:
    return
  _, log, clock = work

  # ---- The trained network
  with clock.measure("trained network"):
    point = load(found, log)
    settings.require(
      config.golden_image < len(point.images),
      "golden_image",
      config.golden_image,
      f"below {len(point.images)}, the number of test images",
    )

  # ---- Integers, and how faithful they are in either width
  networks, faith = {}, {}
  for width in WIDTHS:
    with clock.measure(f"{width}-bit integers"):
      networks[width] = lowering.lower(
        point.net, point.variables, point.assignment, width
      )
      faith[width] = faithful.compare(
        networks[width], point.variables, point.images
      )
  network = networks[config.requantization_bits]

  # ---- Files
  with clock.measure("files"):
    manifest = artifact.save(network, workdir)
    loaded = artifact.load(workdir)
    codes = integer.quantize_images(point.images[:360])
    again = integer.integer_apply(loaded, codes)
    if not np.array_equal(again, integer.integer_apply(network, codes)):
      raise RuntimeError(f"{workdir} gives back another network than written")
    image = point.images[config.golden_image]
    image = np.asarray(integer.quantize_images(image))
  with clock.measure("DORY"):
    dory_state = write_dory(network, workdir / "dory", image)
  with clock.measure("ONNX"):
    onnx_state = write_onnx(network, workdir, point, faith)

  # ---- Report, and the mark that all is done
  report = export_report.Export(
    point=point,
    network=network,
    faith=faith,
    sizes=manifest["sizes"],
    dory=dory_state,
    onnx=onnx_state,
  )
  write_atomically(workdir / "report.md", export_report.page(report).encode())
  log.console.print(export_report.layer_table(report))
  log.say(export_report.statement(report))
  log.say(f"Report: {workdir / 'report.md'}")
  finish(workdir, export_report.summary(report, clock.seconds))


def check(config: ConfigDict) -> None:
  """Raises ConfigError, naming the setting at fault."""
  settings.check_keys(config.to_dict(), SETTINGS)
  bits, image = config.requantization_bits, config.golden_image
  settings.require(
    bits in WIDTHS, "requantization_bits", bits, f"one of {WIDTHS}"
  )
  settings.require(image >= 0, "golden_image", image, "at least 0")


def write_dory(network, directory: Path, image: np.ndarray) -> str:
  """Writes DORY's files; what there is to say about them."""
  try:
    dory.write(network, directory, image)
  except ImportError as error:
    return f"not written: {error}; pip install 'fbq[deploy]'"
  except lowering.UnsupportedError as error:
    return f"not written: {error}"
  found = dory_check.problems(directory)
  if found:
    raise RuntimeError(f"{directory} breaks DORY's contract: {found}")
  return "written; form, arithmetic and golden tensors hold the contract"


def write_onnx(network, workdir: Path, point: TrainedPoint, faith) -> Any:
  """Writes qdq.onnx; predictions of ONNX Runtime on the test images."""
  try:
    model = onnx_qdq.build(network)
  except ImportError as error:
    return {"error": f"not written: {error}; pip install 'fbq[deploy]'"}
  write_atomically(workdir / "qdq.onnx", model.SerializeToString())
  trained = next(iter(faith.values())).trained_classes
  state: dict[str, Any] = {"bytes": onnx_qdq.weight_bytes(model)}
  try:
    for key, exact in (("same_class", True), ("same_class_fast", False)):
      logits = onnx_qdq.run(
        onnx_qdq.session(model, exact), np.asarray(point.images)
      )
      state[key] = int(np.sum(logits.argmax(-1) == trained))
  except ImportError as error:
    state["error"] = f"not run: {error}; pip install 'fbq[deploy]'"
  return state
