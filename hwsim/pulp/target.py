"""One PULP cluster as the simulator sees it: every constant, unit and source.

A target is data. To describe other hardware copy one with
`dataclasses.replace(XPULPNN_V1, name="mine", code_reserved_bytes=120_000)`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hwsim.choosing import chosen
from hwsim.pulp import coefficients
from hwsim.pulp.geometry import Number
from hwsim.target_fields import check_budgets, check_numbers, refuse

# Even columns are worth 3,000,000 points to DORY's tiler of convolutions; a
# byte of L1 is worth one, 16 pixels a million, the last tile 30,000. Below this
# budget the largest even number of columns is best (`tiling.py`).
MOST_L1_BYTES = 1_900_000
# Kernel sets of `kernels.json`: XpulpNN-mixed has convolutions alone.
_LIBRARIES = {
  "conv_library": ("XpulpV2", "XpulpNN", "XpulpNN-mixed", "pulp-nn"),
  "other_library": ("XpulpV2", "XpulpNN", "pulp-nn"),
}


@dataclasses.dataclass(frozen=True)
class Target:
  """Constants of a cluster, its memories and its kernel library.

  Sources: [CODE] read in public sources (DORY's PULP_gvsoc hardware
  description, its tiler and templates; gvsoc-pulp), [GVSOC] measured on that
  simulator with DORY's layer template, [INFER] an assumption nobody measured.
  `iss` has what was assumed before GVSOC was run. Nothing is fitted to the
  latency of a network.

  Attributes:
    name: name for reports and tables.
    conv_library: kernel set of convolutions: XpulpV2, XpulpNN, XpulpNN-mixed;
      or pulp-nn, which is XpulpV2 but at 8 bits throughout: DORY takes it for
      networks of 8 bits only, so that a baseline may be told with both.
    other_library: kernel set of depthwise, linear: XpulpV2 or XpulpNN.
    timing: what a kernel's cycles hold: "iss", its instructions; "core", also
      the core's stalls and prologues; "gvsoc", also the stalls of the
      instruction cache [GVSOC, kernels.json].
    cores: number of cores of the cluster [CODE]. The kernels' work split is
      written for 8.
    l1_bytes: shared scratchpad, bytes [CODE HW_description.json].
    core0_stack_bytes, other_stack_bytes: stacks carved out of it [CODE].
    l2_bytes: capacity of L2, bytes [CODE].
    code_reserved_bytes: part of L2 held by code, bytes. An application
      parameter: 160000 is MobileNetV1's "fast_xpnn" configuration in
      dory_examples [CODE]; others use 120000 to 150000. Sweep it in reports.
    double_buffering: 2: tiles are fetched while others are computed; 1: DMA
      blocks (GAP8 boards) [CODE].
    constant_bits: bits of the batch-norm multiplier k and offset lambda [CODE].
    bias_bits: bits of the bias of a linear layer [CODE].
    dma_bytes_per_cycle: bytes per cycle between L2 and L1, in each direction,
      in parallel [CODE mchan].
    dma_line_cycles: least cycles of one line of a 2D transfer [CODE].
    dma_store_line_cycles: cycles more that a line takes to L2 [GVSOC].
    dma_transpose_bytes_per_cycle: depthwise inputs change from HWC to CHW in
      1-byte lines, one per cycle [CODE + INFER].
    dma_command_cycles: cycles of one queued transfer besides its lines [GVSOC;
      MATCH uses 12 to 27].
    dma_queue_commands: transfers that the engine queues. A depthwise input has
      one per byte of channels, and the cores wait while there are more [CODE
      mchan; GVSOC agrees].
    tile_cycles: software overhead of one tile iteration [GVSOC].
    channel_tile_cycles: the same where the channels change [GVSOC].
    layer_start_cycles: software overhead of one layer [GVSOC].
    barrier_cycles: the cores meet after a kernel [GVSOC].
    l3_bytes_per_cycle: HyperRAM at 50 MB/s over a 100 MHz cluster [CODE
      udma_hyper_v3.cpp; GAP8 silicon reaches 0.65].
    l3_setup_cycles: cycles to start one L3 transfer [INFER].
    frequency_hz: turns cycles into seconds in reports [CODE].
  """

  name: str
  conv_library: str
  other_library: str
  timing: str = "gvsoc"
  cores: int = 8
  l1_bytes: int = 64_000
  core0_stack_bytes: int = 3_800
  other_stack_bytes: int = 3_600
  l2_bytes: int = 512_000
  code_reserved_bytes: int = 160_000
  double_buffering: int = 2
  constant_bits: int = 32
  bias_bits: int = 32
  dma_bytes_per_cycle: int = 8
  dma_line_cycles: int = 1
  dma_store_line_cycles: int = 1
  dma_transpose_bytes_per_cycle: int = 1
  dma_command_cycles: float = 2.5
  dma_queue_commands: int = 8
  tile_cycles: int = 389
  channel_tile_cycles: int = 71
  layer_start_cycles: int = 1_009
  barrier_cycles: int = 5
  l3_bytes_per_cycle: float = 0.5
  l3_setup_cycles: int = 1_500
  frequency_hz: float = 100e6

  def __post_init__(self):
    check_numbers(self)
    if self.cores != 8:
      split = "the work split of the measured kernels is written for eight"
      refuse(self, "cores", self.cores, f"8: {split}")
    for field in ("conv_library", "other_library"):
      if getattr(self, field) not in _LIBRARIES[field]:
        known = f"one of {', '.join(_LIBRARIES[field])}"
        refuse(self, field, getattr(self, field), known)
    if self.timing not in coefficients.TIMINGS:
      refuse(self, "timing", self.timing, f"one of {coefficients.TIMINGS}")
    if self.double_buffering not in (1, 2):
      refuse(self, "double_buffering", self.double_buffering, "1 or 2")
    if self.l1_budget_bytes > MOST_L1_BYTES:
      reason = "DORY's objective counts bytes beside points that a larger L1"
      expected = f"at most {MOST_L1_BYTES}: {reason} outweighs"
      refuse(self, "l1_budget_bytes", self.l1_budget_bytes, expected)
    check_budgets(self)

  @property
  def l1_budget_bytes(self) -> int:
    """L1 left to tiles once the stacks are placed (35000 by default)."""
    stacks = self.core0_stack_bytes + (self.cores - 1) * self.other_stack_bytes
    return self.l1_bytes - stacks

  @property
  def l2_budget_bytes(self) -> int:
    """L2 left to tensors once the code is loaded (352000 by default)."""
    return self.l2_bytes - self.code_reserved_bytes

  @property
  def constants(self) -> "Constants":
    """The target as numbers that a compiled function takes."""
    scalars = (getattr(self, name) for name in Constants._fields[:-1])
    libraries = coefficients.load(
      self.conv_library, self.other_library, self.timing
    )
    return Constants(*map(np.float64, scalars), kernels=libraries)


class Constants(NamedTuple):
  """A target as a pytree of float64: what may be traced, mapped, derived.

  The fields are those of `Target`, units included.
  """

  l1_budget_bytes: Number
  l2_budget_bytes: Number
  double_buffering: Number
  constant_bits: Number
  bias_bits: Number
  dma_bytes_per_cycle: Number
  dma_line_cycles: Number
  dma_store_line_cycles: Number
  dma_transpose_bytes_per_cycle: Number
  dma_command_cycles: Number
  dma_queue_commands: Number
  tile_cycles: Number
  channel_tile_cycles: Number
  layer_start_cycles: Number
  barrier_cycles: Number
  l3_bytes_per_cycle: Number
  l3_setup_cycles: Number
  kernels: coefficients.Kernels


# Which public library serves which instruction set: DORY's
# BackendKernelsAdapter [CODE]; the names of the paper are matched to it by us
# [INFER]. XpulpNN-mixed has no depthwise, linear or add kernels.
XPULP_V2 = Target("xpulp_v2", "XpulpV2", "XpulpV2")
XPULPNN_V1 = Target("xpulpnn_v1", "XpulpNN", "XpulpNN")
XPULPNN_V2 = Target("xpulpnn_v2", "XpulpNN-mixed", "XpulpNN")
TARGETS = (XPULP_V2, XPULPNN_V1, XPULPNN_V2)


def iss(target: Target) -> Target:
  """The target as it was before GVSOC was run, named "<name>_iss".

  Kernels take the cycles of an instruction-level simulator, and what software
  and transfers cost is assumed.
  """
  return dataclasses.replace(
    target,
    name=f"{target.name}_iss",
    timing="iss",
    dma_store_line_cycles=0,
    dma_command_cycles=12,
    dma_queue_commands=1_000_000,
    tile_cycles=400,
    channel_tile_cycles=0,
    layer_start_cycles=1_000,
    barrier_cycles=15,
  )


ISS_TARGETS = tuple(iss(target) for target in TARGETS)
XPULP_V2_ISS, XPULPNN_V1_ISS, XPULPNN_V2_ISS = ISS_TARGETS


def get_target(
  which: str | Target, overrides: Mapping[str, Any] | None = None
) -> Target:
  """The target of that name, or the one given, with some fields replaced.

  Args:
    which: name of one of `TARGETS` or `ISS_TARGETS`, or your own.
    overrides: field -> value; None leaves the field. What is replaced stands
      in the name of the result: "xpulpnn_v1 (l1_bytes=128000)".

  Raises:
    ValueError: no target of that name, no such field, or a value of another
      type or out of range; the message has the choices.
  """
  return chosen(which, (*TARGETS, *ISS_TARGETS), overrides)
