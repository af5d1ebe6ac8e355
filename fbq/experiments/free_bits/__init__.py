"""Free Bits: images in, a front of accuracy over cycles out (arXiv 2307.02894)."""

from fbq.experiments.free_bits import config, page, pipeline
from fbq.lab.experiment import Experiment
from fbq.lab.points import Assignments

EXPERIMENT = Experiment(
  config.FreeBits,
  config.check,
  pipeline.run,
  Assignments,
  page.write,
  page.tell,
)
