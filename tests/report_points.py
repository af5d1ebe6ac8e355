"""Points of a made-up network, for the tests of the report."""

from fbq.report import Point
from fbq.report.assignments import Assignments
from fbq.report.records import Score

REFERENCE = 0.96  # accuracy of "8/8" in validation


def score(accuracy, reference, error=0.005, loss_error=0.0, freedom=99):
  loss = reference - accuracy
  return Score(accuracy, error, loss, loss_error, freedom, 10**6)


def make(
  name,
  cycles,
  accuracy,
  kind="search",
  parent=None,
  bits=4,
  reference=REFERENCE,
  loss_error=0.0,
  **others,
):
  """A point of an accuracy in validation.

  In the test whatever loses there wins half of it: who chose by the test would
  choose otherwise.
  """
  values = dict(
    precision={"conv": bits, "conv.weight": bits},
    bops=10,
    weight_bytes=100 * bits,
    peak_activation_bytes=64,
    validation=score(accuracy, reference, loss_error=loss_error),
    test=score(0.5 + (reference - accuracy) / 2, 0.5, 0.01, 0.004),
  )
  return Point(name, kind, parent, cycles=cycles, **values | others)


def points():
  return [
    make("8/8", 1000, 0.96, "baseline", bits=8),
    make("4/4", 700, 0.95, "baseline"),
    make("2/2", 500, 0.80, "baseline", bits=2),
    make("locked-0.03", 800, 0.956, detail={"gates": "locked", "λ": "0.03"}),
    make("locked-0.03+fb", 650, 0.957, "free_bits", "locked-0.03"),
    make("free-0.1", 640, 0.93, aliases=("free-0.2", "free-0.3")),
    make("free-0.1+fb", 600, 0.94, "free_bits", "free-0.2"),
  ]


def report(some=None, **others):
  values = dict(
    network="net",
    target="cluster",
    seeds=(0,),
    validation_count=1148,
    validation_sources=287,
    test_count=1440,
    test_sources=360,
    float_validation=score(0.97, REFERENCE),
    float_test=score(0.47, 0.5),
    points=tuple(some or points()),
    layers={},
    changes={},
    reference="8/8",
    tolerance=0.005,
    confidence=0.8,
    clock_hertz=None,
    assumptions=(),
  )
  return Assignments(**values | others)
