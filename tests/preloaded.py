"""What runs need before they start: done once, by the server they fork from.

Imports of 4 s, and 1.2 s of tracing the simulator of PULP clusters, which its
program of a test's cache does not spare. Nothing here may start a backend of
JAX, whose threads a fork would lack.
"""

import importlib

import compiling
import jax
import numpy as np

from fbq import doors
from hwsim.pulp import get_target, table
from hwsim.pulp.geometry import Geometry, of_layer
from hwsim.workload import Layer

MODULES = (
  *(name.partition(":")[0] for name in doors.KNOWN["experiment"].values()),
  "jinja2",
  "matplotlib.backends.backend_agg",
  "matplotlib.backends.backend_svg",
  "matplotlib.figure",
  "orbax.checkpoint",
  "sklearn.datasets",
)


def trace():
  """As `hwsim.pulp.table` calls it; every layer and target has these types."""
  layer = Layer("any", "conv", 8, 8)
  sizes = Geometry(*map(np.float64, of_layer(layer)))
  bits = table.grid_of(layer, table.BITS)
  constants = get_target("xpulpnn_v1", {}).constants
  with jax.enable_x64(True):
    table._compiled().trace(sizes, bits, constants, False)


compiling.share_contexts()  # made by a fork, when it first needs one
for module in MODULES:
  importlib.import_module(module)
trace()
