"""What a Free Bits run can be set to, and its checks before any training."""

from typing import Annotated, Literal

from fbq import precision
from fbq.config import Check, ConfigError, Expected, NotNegative, Positive
from fbq.lab import fine_tuning, hardware_pass
from fbq.lab.hardware_pass import Care
from fbq.lab.lab import Lab
from fbq.lab.settings import (
  Aim,
  Bits,
  Judged,
  OnTarget,
  Seeds,
  Stage,
  Training,
)

Strengths = Annotated[
  tuple[NotNegative, ...],
  Check(
    lambda given: len({f"{s:g}" for s in given}) == len(given),
    "numbers from 0 on that differ in six digits",
  ),
]
Locked = Annotated[
  tuple[bool, ...],
  Check(lambda given: len(set(given)) == len(given), "some of True and False"),
]
Rules = Annotated[
  tuple[tuple[str, int], ...], Expected("pairs (regular expression, bits)")
]


class Search(Stage):
  """The precision search by Bayesian Bits' gates."""

  strengths: Strengths = ()
  "Strengths of the penalty on bit operations; a search for each. (): those \
  that lead to the targets."
  aim: Aim = Aim()
  "Targets, where no strengths are given."
  locked: Locked = (True, False)
  "Whether the gates of a layer's input and weights are locked together; a \
  search for each."
  penalty: Literal["bops", "tensors"] = "bops"
  "What the penalty counts: bit operations, or every layer alike, see \
  `fbq.train.regularizers.bops_regularizer`."
  gate_learning_rate: Positive = 0.05
  "Rate of the gates, constant."
  range_bits: Bits = 4
  "Bits at which the ranges of activations are calibrated for the search."
  faithful: bool = False
  "Whether gates learn as in the authors' code, which never clears gradients."


class FreeBits(Judged, OnTarget, Training):
  """Free Bits: search, hardware pass, fine-tuning, front."""

  seeds: Seeds = (0,)
  "Seeds of everything that is drawn; the whole pipeline for each."
  search: Search = Search(learning_rate=5e-3)
  "Precision search."
  care: Care = Care()
  "What the hardware pass makes of what is assumed of the target."
  rules: Rules = ()
  "(regular expression over tensors, bits): fixed in everything searched."


def check(settings: FreeBits, lab: Lab) -> None:
  """Raises ConfigError for what cannot work; trains nothing."""
  fine_tuning.recipe_of(settings.qat)
  net = lab.net
  _ = lab.task
  hardware_pass.of(settings, settings.care, lab.costs, net.workload)
  try:
    eight = precision.uniform(net, 8)
    precision.apply_rules(net, eight, settings.rules, lab.ladder)
  except ValueError as error:
    raise ConfigError(str(error)) from error
