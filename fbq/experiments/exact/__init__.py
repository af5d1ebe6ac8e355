"""The exact choice: measure what precisions harm, then choose under budgets."""

from fbq.experiments.exact import config, page, pipeline, results
from fbq.lab.experiment import Experiment

EXPERIMENT = Experiment(
  config.Exact,
  config.check,
  pipeline.run,
  results.Chosen,
  page.write,
  page.tell,
  any_task=True,
)
