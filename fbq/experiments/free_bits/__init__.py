"""Free Bits (arXiv 2307.02894): a front of accuracy over cycles from images."""

from fbq.experiments.free_bits import config, page, pipeline
from fbq.lab.experiment import Experiment
from fbq.report.assignments import Assignments

EXPERIMENT = Experiment(
  config.FreeBits,
  config.check,
  pipeline.run,
  Assignments,
  page.write,
  page.tell,
  any_task=True,
)
