"""The tiny network, calibrated at every precision, and a judge of it."""

import jax
import model_cases
import numpy as np

from fbq.model import Model
from fbq.quantizers.site_ranges import site_ranges
from fbq.schemes.fixed import Fixed
from fbq.search.judge import Judge
from fbq.train.steps import compile_once

NET, IMAGES = model_cases.NET, np.asarray(model_cases.IMAGES)
LABELS = np.array([0, 1, 2, 0, 1, 2, 1, 1])
VARIABLES = {
  kind: model_cases.calibrated()[kind] for kind in ("params", "batch_stats")
}
SEEN = jax.jit(
  lambda v: Model(NET).apply(v, IMAGES, False, mutable="intermediates")
)(VARIABLES)
FLOAT_LOGITS = SEEN[0]
TENSORS = {
  site: np.asarray(SEEN[1]["intermediates"][site.split(".")[0]][0])
  for site in NET.is_signed
  if site != "input.out"
}
RANGES = site_ranges(NET, VARIABLES["params"], TENSORS)


def forward(variables, images, bits):
  return Model(NET, Fixed()).apply(variables, images, train=False, data=bits)


def judge(**changes):
  """A new one, which may be compiled once."""
  parts = dict(
    net=NET,
    forward=compile_once(forward),
    variables=VARIABLES,
    ranges=RANGES,
    images=IMAGES,
    labels=LABELS,
  )
  return Judge(**{**parts, **changes})
