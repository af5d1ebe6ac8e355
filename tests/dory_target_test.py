"""The command that makes DORY write code for a target."""

import dataclasses

import pytest

from fbq.deploy import dory_target
from hwsim.pulp import XPULP_V2, XPULPNN_V1, XPULPNN_V2

GAP8 = dataclasses.replace(
  XPULP_V2,
  name="gap8",
  core0_stack_bytes=3_500,
  other_stack_bytes=3_400,
  double_buffering=1,
)


@pytest.mark.parametrize(
  "target, board, library",
  [
    (XPULP_V2, "PULP.PULP_gvsoc", "mixed-sw"),
    (XPULPNN_V1, "PULP.PULP_gvsoc", "mixed-hw"),
    (GAP8, "PULP.GAP8", "mixed-sw"),
  ],
)
def test_board_and_library_are_those_of_the_target(target, board, library):
  command, notes = dory_target.invocation(target)
  assert f"Quantlab {board} dory/config.json --optional {library} " in command
  assert notes == ()


def test_what_dory_would_do_otherwise_is_told():
  mine = dataclasses.replace(GAP8, l2_bytes=400_000)
  command, (note,) = dory_target.invocation(mine)
  assert "PULP.GAP8" in command and note.endswith("has l2_bytes=400000.")
  command, (note,) = dory_target.invocation(XPULPNN_V2)
  assert "mixed-hw" in command and "those of XpulpNN-mixed" in note
