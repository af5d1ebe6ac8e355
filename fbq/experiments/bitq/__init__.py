"""BitQ: images in, a block format for every tensor out (arXiv 2409.17093)."""

from fbq.experiments.bitq import config, page, pipeline, results
from fbq.lab.experiment import Experiment

EXPERIMENT = Experiment(
  config.BitQ,
  config.check,
  pipeline.run,
  results.BitQResults,
  page.write,
  page.tell,
  any_task=True,
)
