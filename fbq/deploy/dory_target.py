"""How DORY is told which hardware to write code for: its command, its limits.

DORY (be3d6dd) has a description of each board and picks a library of kernels.
Left to itself ("auto") it takes pulp-nn where every tensor has 8 bits, which
knows no signed outputs; so the library is always named.
"""

from typing import NamedTuple

from hwsim.pulp import Target

# Fields of dory/Hardware_targets/PULP/*/HW_description.json
BOARDS = {
  "PULP.PULP_gvsoc": dict(
    l1_bytes=64_000,
    l2_bytes=512_000,
    core0_stack_bytes=3_800,
    other_stack_bytes=3_600,
    double_buffering=2,
  ),
  "PULP.GAP8": dict(
    l1_bytes=64_000,
    l2_bytes=512_000,
    core0_stack_bytes=3_500,
    other_stack_bytes=3_400,
    double_buffering=1,
  ),
}


class Invocation(NamedTuple):
  """How DORY is called for a target.

  Attributes:
    command: command line, run in DORY's checkout on the exported config.json.
    notes: what DORY would do otherwise than the target says, in sentences.
  """

  command: str
  notes: tuple[str, ...]


def invocation(target: Target) -> Invocation:
  """The command for a target, and what it leaves to be done by hand."""
  # The board that is nearest; a field that differs has to be edited
  differing = {
    board: [
      f"{field}={getattr(target, field)}"
      for field, value in fields.items()
      if getattr(target, field) != value
    ]
    for board, fields in BOARDS.items()
  }
  board = min(differing, key=lambda name: len(differing[name]))
  notes = []
  if differing[board]:
    notes.append(
      f"Edit HW_description.json of {board}, which differs: the target has "
      f"{', '.join(differing[board])}."
    )

  # DORY has no option for XpulpNN-mixed, and takes pulp-nn for all layers only
  if target.conv_library != target.other_library:
    notes.append(
      f"DORY takes one library for all layers: convolutions run kernels of "
      f"{target.other_library}, slower than those of {target.conv_library} "
      "that were simulated."
    )
  library = "mixed-sw" if target.other_library == "XpulpV2" else "mixed-hw"
  return Invocation(
    f"python network_generate.py Quantlab {board} dory/config.json "
    f"--optional {library} --app_dir application",
    tuple(notes),
  )
