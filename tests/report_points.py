"""Points of a made-up network, for the tests of the report."""

from fbq.report import Point
from fbq.report.assignments import Assignments

TEST_COUNT = 1440


def make(name, cycles, accuracy, kind="search", parent=None, bits=4, **others):
  values = dict(
    precision={"conv": bits, "conv.weight": bits},
    bops=10,
    weight_bytes=100 * bits,
    peak_activation_bytes=64,
  )
  return Point(
    name, kind, parent, cycles=cycles, accuracy=accuracy, **values | others
  )


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
    test_count=TEST_COUNT,
    float_accuracy=0.97,
    points=tuple(some or points()),
    layers={},
    changes={},
    reference="8/8",
    tolerance=0.005,
    clock_hertz=None,
    assumptions=(),
  )
  return Assignments(**values | others)
