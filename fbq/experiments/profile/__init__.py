"""The latency profile: what each layer costs at each precision, and why."""

from fbq.experiments.profile import config, page, pipeline, results
from fbq.lab.experiment import Experiment

EXPERIMENT = Experiment(
  config.Profiling,
  config.check,
  pipeline.run,
  results.Profile,
  page.write,
  page.tell,
)
