"""What reads what in a lowered program."""

import contextlib

import jax

# What is not fused with what it reads, or only with that.
_ENDS = {
  f"stablehlo.{name}"
  for name in (
    *("dot_general", "convolution", "optimization_barrier"),
    *("reduce", "reduce_window"),
  )
}


def lowered(function, *arguments, platform="cuda"):
  """`function` lowered for a platform that need not be here.

  Args:
    function: jitted function.
    arguments: arrays or their shapes.
    platform: name of the platform.
  """
  with _on_a_gpu() if platform == "cuda" else contextlib.nullcontext():
    traced = function.trace(*arguments)
    return traced.lower(lowering_platforms=(platform,))


def _on_a_gpu():
  """What jax from 0.11 on asks for to lower a kernel where there is no GPU."""
  device = jax.sharding.AbstractDevice("NVIDIA H100", None, "gpu")
  mesh = jax.sharding.AbstractMesh((), (), abstract_device=device)
  return jax.sharding.use_abstract_mesh(mesh)


def products_of_strided_slices(program: jax.stages.Lowered) -> list[str]:
  """Matrix products that read a strided slice, however it was reshaped."""
  module = program.compiler_ir("stablehlo")
  operations = [*_operations(module)]
  functions, calls = {}, {}
  for operation in operations:
    if operation.name == "func.func":
      functions[_text(operation, "sym_name")] = operation
    if operation.name == "func.call":
      calls.setdefault(_text(operation, "callee"), []).append(operation)
  return [
    str(operation)
    for operation in operations
    if operation.name == "stablehlo.dot_general"
    and any(_is_sliced(v, functions, calls) for v in operation.operands)
  ]


def _operations(module):
  for region in module.operation.regions:
    for block in region:
      for operation in block:
        yield operation.operation
        yield from _operations(operation)


def _text(operation, name):
  return str(operation.attributes[name]).strip('@"')


def _is_sliced(value, functions, calls) -> bool:
  """Whether a strided slice is behind a value, with no product between."""
  left, seen = [value], set()
  while left:
    value = left.pop()
    if value in seen:
      continue
    seen.add(value)
    made = None if hasattr(value, "arg_number") else value.owner
    if made is not None and made.name == "stablehlo.slice":
      if any(int(stride) != 1 for stride in made.attributes["strides"]):
        return True
    left += _behind(value, functions, calls)
  return False


def _behind(value, functions, calls) -> list:
  """What a value is made of."""
  # An argument of a function or of a loop's body: what it is called with.
  if hasattr(value, "arg_number"):
    owner = value.owner.owner
    owner = getattr(owner, "operation", owner)
    readers = [owner]
    if owner.name == "func.func":
      readers = calls.get(_text(owner, "sym_name"), [])
    number = value.arg_number
    return [r.operands[number] for r in readers if number < len(r.operands)]

  made = value.owner
  if made.name == "func.call":
    body = functions[_text(made, "callee")].regions[0].blocks[0]
    return [_end(body).operands[value.result_number]]
  if made.name in _ENDS:
    return []
  inner = [v for r in made.regions for b in r for v in _end(b).operands]
  return [*made.operands, *inner]


def _end(block):
  *_, end = block.operations
  return end
