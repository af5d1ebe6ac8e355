"""Quantization-aware training at uniform bits, by one rule or several."""

from fbq.experiments.qat import config, page, pipeline, results
from fbq.lab.experiment import Experiment

EXPERIMENT = Experiment(
  config.UniformTraining,
  config.check,
  pipeline.run,
  results.TrainedNetworks,
  page.write,
  page.tell,
)
