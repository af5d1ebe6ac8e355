"""Post-training quantization of a float network, and which recipe to use."""

from fbq.experiments.ptq import config, page, pipeline, results
from fbq.lab.experiment import Experiment

EXPERIMENT = Experiment(
  config.PostTraining,
  config.check,
  pipeline.run,
  results.TriedRecipes,
  page.write,
  page.tell,
)
