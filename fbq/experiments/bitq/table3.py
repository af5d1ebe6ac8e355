"""Table 3 of the paper: formats side by side, geometric means by task.

Published numbers are of arXiv 2409.17093, in percent; its rows of dense tasks
are of COCO and ADE20K. Which modes of DBPS, FlexBlock and FAST it ran, it does
not say.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from fbq.experiments.bitq.block_network import best_of
from fbq.experiments.bitq.results import BitQResults
from fbq.experiments.bitq.word_section import in_percent
from fbq.report.blocks import Cell, Column, Table, percents
from fbq.report.means import mean

# Columns of the paper: what they are called there, and our network of a role.
COLUMNS = {
  "Original": "FP32",
  "DBPS": "DBPS",
  "FlexBlock": "FlexBlock FB16",
  "BitQ16": "BitQ16 recommended",
  "FAST": "FAST high",
  "BSFP": "BSFP",
  "BitQ8": "BitQ8 recommended",
}
# What has come since, and what the paper has not
MORE = (*("MSFP-12", "MXINT8", "MXFP8 E4M3", "MXFP6 E2M3", "MXFP4", "NVFP4"),)
TASKS = {
  "accuracy": "image classification, top-1",
  "box AP": "object detection, box AP",
  "mask AP": "instance segmentation, mask AP",
  "mIoU": "semantic segmentation, mIoU",
}
PUBLISHED: dict[str, dict[str, tuple[float, ...]]] = {
  "accuracy": {
    "GoogLeNet": (67.79, 66.71, 66.58, 67.49, 66.31, 66.54, 66.58),
    "ResNet-18": (69.70, 68.42, 68.29, 69.83, 68.52, 69.67, 69.71),
    "ECA-MobileNetV2": (72.56, 68.93, 70.25, 70.85, 70.15, 69.63, 69.85),
    "ConvNeXt-L": (85.82, 83.85, 83.87, 84.31, 83.82, 84.18, 84.26),
  },
  "box AP": {
    "YOLOv8": (37.30, 36.71, 36.28, 36.78, 36.36, 36.47, 36.50),
    "ONE-PEACE": (60.40, 59.47, 59.34, 60.14, 59.27, 59.23, 59.35),
  },
  "mask AP": {
    "YOLOv8": (30.50, 30.03, 29.99, 30.19, 29.76, 29.88, 29.86),
    "MaskDINO": (46.30, 46.28, 46.30, 46.31, 45.72, 45.88, 45.99),
  },
  "mIoU": {
    "MaskDINO": (48.73, 48.28, 48.13, 48.37, 48.26, 48.15, 48.34),
    "ONE-PEACE": (62.27, 61.27, 61.36, 61.42, 60.34, 60.37, 60.91),
  },
}
NOTE = (
  "Ours: means over seeds, of each word the network that eq. 1 recommends, and "
  "the best of uniform formats; a dash where a format is priced only. Paper: "
  "table 3 of arXiv 2409.17093, other networks on ImageNet, COCO and ADE20K. "
  "Its YOLOv8 has the accuracy of YOLOv8n. How it quantized attention is not "
  "said."
)
Row = tuple[str, Callable[[str], object]]  # name, heading -> value of a cell


def table(runs: Sequence[BitQResults]) -> Table:
  """All runs in the layout of table 3, by task, the paper's rows below.

  Of several networks of a task, and of the paper's, geometric means follow.
  """
  uniform = {
    f"uniform {w.bits}": w.name
    for run in runs[:1]
    for w in run.studies[0].words
  }
  headings = [*COLUMNS, *uniform, *MORE]
  rows: list[Row] = []
  for metric, task in TASKS.items():
    ours = [run for run in runs if run.metric == metric]
    if not ours:
      continue
    rows += [
      (f"{task}: {run.network}", lambda h, r=run: _cell(r, h, uniform))
      for run in ours
    ]
    if len(ours) > 1:
      rows.append((f"{task}: geometric mean", _mean_of(ours, uniform)))
    published = {
      name: dict(zip(COLUMNS, values, strict=True))
      for name, values in PUBLISHED[metric].items()
    }
    rows += [
      (f"paper: {name}", values.get) for name, values in published.items()
    ]
    rows.append(("paper: geometric mean", _published_mean(published)))
  return Table(
    [Column("%"), *map(percents, headings)],
    [[name, *(value(h) for h in headings)] for name, value in rows],
    ["like" if "geometric" in name else "" for name, _ in rows],
    label="Formats side by side, as in table 3",
  )


def geometric_mean(values: Sequence[float]) -> float:
  """Of numbers that are not negative; 0 if one of them is."""
  if min(values) <= 0:
    return 0.0
  return math.exp(sum(map(math.log, values)) / len(values))


def _value(run: BitQResults, heading: str, uniform: Mapping[str, str]):
  """The mean over seeds under a heading, or None where nothing was trained."""
  if heading in uniform:
    found = _best_uniform(run, uniform[heading])
    return mean(found) if found else None
  role = COLUMNS.get(heading, heading)
  if any(role not in study.by_role for study in run.studies):
    return None
  return run.test(role)


def _best_uniform(run: BitQResults, name: str) -> list[float]:
  """Test metric of the best uniform formats of a word, one for each seed."""
  found = []
  for study in run.studies:
    fp32 = study.by_name["FP32"]
    for word in study.words:
      networks = [
        study.by_name[n]
        for n in word.candidates
        if study.by_name[n].family == "uniform"
      ]
      if word.name == name and networks:
        best = best_of(networks, fp32, word.largest_bits, run.alpha)
        assert best.test is not None  # candidates are trained
        found.append(best.test)
  return found


def _cell(run: BitQResults, heading: str, uniform: Mapping[str, str]) -> Cell:
  return in_percent(_value(run, heading, uniform))


def _mean_of(runs: Sequence[BitQResults], uniform: Mapping[str, str]):
  def value(heading):
    found = [_value(run, heading, uniform) for run in runs]
    known = [one.value for one in found if one is not None]
    return 100 * geometric_mean(known) if len(known) == len(found) else None

  return value


def _published_mean(published: Mapping[str, Mapping[str, float]]):
  def value(heading):
    found = [values.get(heading) for values in published.values()]
    known = [one for one in found if one is not None]
    return geometric_mean(known) if known else None

  return value
