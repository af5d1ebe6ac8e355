"""The precision of every tensor of a network, for the hardware it runs on.

    import fbq
    net = fbq.build("mobilenet_v1", width=0.25, resolution=32, classes=10)
    bits = fbq.precision.uniform(net, 4)

Costs of networks on hardware are hwsim's.
"""

from typing import Any

from hwsim import public

_PLACES = {
  # Networks: a table, and the Flax module that interprets it
  "BUILDERS": "fbq.nets:BUILDERS",
  "Model": "fbq.model:Model",
  "Net": "fbq.nets:Net",
  "Node": "fbq.nets:Node",
  "build": "fbq.nets:build",
  # Assignments: {tensor: bits} and {tensor: block format}
  "block_formats": "fbq.block_formats",
  "precision": "fbq.precision",
  # How a model quantizes its tensors: at given bits or formats, or searching
  "BayesianBits": "fbq.schemes.bayesian_bits:BayesianBits",
  "BlockFloat": "fbq.schemes.block_float:BlockFloat",
  "Fixed": "fbq.schemes.fixed:Fixed",
  "Fractional": "fbq.schemes.fractional:Fractional",
  "FreeBits": "fbq.schemes.free_bits:FreeBits",
  "Gridded": "fbq.schemes.gridded:Gridded",
  "Mixture": "fbq.schemes.mixture:Mixture",
  # Choosing precisions from tables
  "bitq": "fbq.search.bitq",
  "exact": "fbq.search.exact",
  "free_bits": "fbq.search.free_bits:free_bits",
  "milp": "fbq.search.milp",
  "pareto": "fbq.search.pareto",
  "problem": "fbq.search.problem",
  "sensitivity": "fbq.search.sensitivity",
  "value": "fbq.search.value",
  # Quantization without training
  "Bench": "fbq.ptq.bench:Bench",
  "Recipe": "fbq.ptq.recipes:Recipe",
  "adaround": "fbq.ptq.adaround",
  # Integers
  "IntegerNet": "fbq.deploy.integer:IntegerNet",
  "integer_apply": "fbq.deploy.integer:integer_apply",
  "lower": "fbq.deploy.lowering:lower",
}
__all__ = sorted([*_PLACES, "__version__"])


def __getattr__(name: str) -> Any:
  return public.load(__name__, _PLACES, name)


def __dir__() -> list[str]:
  return __all__
