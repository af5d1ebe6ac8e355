"""How tests compile: without optimization, in a quarter of the time.

Where it counts what compiled code rounds, a test compiles as users do, with the
compiler options `AS_SHIPPED`.
"""

import functools
import importlib.metadata

# Half of compiling is fusion emitters, half of the rest optimization; parts of
# a program that several threads compile take a quarter more together. A later
# XLA that does not know a flag would end the process.
_IS_KNOWN = importlib.metadata.version("jax").startswith("0.10.")
_QUICK = {
  "xla_backend_optimization_level": 0,
  "xla_cpu_parallel_codegen_split_count": 1,
}
AS_SHIPPED = {"xla_backend_optimization_level": 3}
if _IS_KNOWN:
  _QUICK["xla_cpu_use_fusion_emitters"] = False
  AS_SHIPPED["xla_cpu_use_fusion_emitters"] = True
XLA_FLAGS = " ".join(
  f"--{name}={str(value).lower()}" for name, value in _QUICK.items()
)


def share_contexts() -> None:
  """Lets all programs of this process be written down in one MLIR context.

  jax makes one for each, in 3 ms; a small program takes 13 besides, and the
  suite has thousands of them. Of a jax that was not looked at nothing is done.
  """
  if _IS_KNOWN:
    from jax._src.interpreters import mlir

    mlir.make_ir_context = functools.cache(mlir.make_ir_context)
