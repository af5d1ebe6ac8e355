"""Ranges of hardware, and what the assumptions about it are worth."""

from fbq.experiments.design_space import config, page, pipeline, results
from fbq.lab.experiment import Experiment

EXPERIMENT = Experiment(
  config.DesignSpace,
  config.check,
  pipeline.run,
  results.Space,
  page.write,
  page.tell,
)
