"""Scores of the networks of several seeds, each beside the reference's."""

from collections.abc import Sequence

import numpy as np

from fbq.lab.judgement import Judgement
from fbq.report.records import Score
from fbq.train import evaluation


def scores(
  judged: Sequence[Judgement], reference: Sequence[Judgement]
) -> tuple[Score, Score]:
  """Scores on validation and on test, over all seeds.

  Args:
    judged: a network of each seed.
    reference: what it is compared with, of the same seeds.
  """
  validation, test = (
    _score([one[split] for one in judged], [one[split] for one in reference])
    for split in (0, 1)
  )
  return validation, test


def _score(judged, reference) -> Score:
  """Paired: all were judged on the same images."""
  metric, loss = evaluation.compared(judged, reference)
  sources = judged[0].sources
  different = len(np.unique(sources))
  return Score(
    accuracy=metric.value,
    error=metric.error,
    loss=loss.value,
    loss_error=loss.error,
    freedom=loss.freedom,
    sources=different,
    renders=len(judged) * len(sources) / different,
  )
