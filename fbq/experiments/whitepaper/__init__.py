"""The whitepaper's tables 2 to 6 (arXiv 1806.08342) on one network."""

from fbq.experiments.whitepaper import config, page, pipeline, results
from fbq.lab.experiment import Experiment

EXPERIMENT = Experiment(
  config.Whitepaper,
  config.check,
  pipeline.run,
  results.WhitepaperTables,
  page.write,
  page.tell,
)
