"""The loop closed on this machine: measure layers, choose, build, measure."""

from fbq.experiments.measure import config, page, pipeline, results
from fbq.lab.experiment import Experiment

EXPERIMENT = Experiment(
  config.Measuring,
  config.check,
  pipeline.run,
  results.Measured,
  page.write,
  page.tell,
)
