"""What a run of the whitepaper's tables can be set to, and its checks."""

import dataclasses
from typing import Annotated

from fbq.config import Check, Positive, Share, require
from fbq.lab import networks, pretrained
from fbq.lab.lab import Lab
from fbq.lab.settings import Seeds, Stage, Training
from fbq.nets.graph import Net

Widths = Annotated[
  tuple[Positive, ...],
  Check(lambda w: len(set(w)) == len(w), "different positive numbers"),
]


class QuantizedTraining(Stage):
  """Training by the whitepaper's rules from the float network."""

  freeze_share: Share = 0.7
  "Share of the steps after which batch norms stand still."


class Whitepaper(Training):
  """Tables 2 to 6 of the whitepaper on one network."""

  seeds: Seeds = (0, 1, 2)
  "Seeds of start, batches and calibration images."
  qat: QuantizedTraining = QuantizedTraining(steps=100, learning_rate=5e-3)
  "Training at the bits of every column."
  widths: Widths = ()
  "Widths of the network at 8 and 4 bits; its builder must take one."


def check(settings: Whitepaper, lab: Lab) -> None:
  """Raises ConfigError for what cannot work; trains nothing."""
  require(
    not settings.widths or "width" in settings.net.arguments,
    "widths",
    settings.widths,
    "() where net.arguments has no width",
  )
  _ = lab.task
  for net in by_width(settings).values():
    if pretrained.is_given(settings):  # the checkpoint must fit all of them
      pretrained.load(settings, net)


def by_width(settings: Whitepaper) -> dict[float, Net]:
  """{width: network}, or ConfigError."""
  net = settings.net
  return {
    width: free(
      networks.build(net.with_(arguments={**net.arguments, "width": width}))
    )
    for width in settings.widths
  }


def free(net: Net) -> Net:
  """`net` of which the image alone has bits that no table changes."""
  return dataclasses.replace(net, fixes_adders=False)
