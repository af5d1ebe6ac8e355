"""A float network at every bit-width, without training."""

from fbq.experiments.ladder import config, page, pipeline, results
from fbq.lab.experiment import Experiment

EXPERIMENT = Experiment(
  config.Ladder,
  config.check,
  pipeline.run,
  results.Rungs,
  page.write,
  page.tell,
)
