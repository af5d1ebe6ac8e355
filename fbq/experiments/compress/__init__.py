"""A network out of a file in mixed precision, without training."""

from fbq.experiments.compress import config, page, pipeline, results
from fbq.lab.experiment import Experiment

EXPERIMENT = Experiment(
  config.Compress,
  config.check,
  pipeline.run,
  results.Compressed,
  page.write,
  page.tell,
)
