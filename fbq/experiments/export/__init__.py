"""The export of a trained point: files for other programs, proven faithful."""

from fbq.experiments.export import config, page, pipeline, results
from fbq.lab.experiment import Experiment

EXPERIMENT = Experiment(
  config.Export,
  config.check,
  pipeline.run,
  results.IntegerExport | results.BlockExport,
  page.write,
  page.tell,
)
