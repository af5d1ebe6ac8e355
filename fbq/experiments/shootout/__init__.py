"""The shootout: ways to choose precisions, at equal budgets of training."""

from fbq.experiments.shootout import config, page, pipeline, results
from fbq.lab.experiment import Experiment

EXPERIMENT = Experiment(
  config.Shootout,
  config.check,
  pipeline.run,
  results.Outcomes,
  page.write,
  page.tell,
)
