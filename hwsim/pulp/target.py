"""One PULP cluster as the simulator sees it: every constant, unit and source.

A target is data. To describe other hardware copy one with
`dataclasses.replace(XPULPNN_V1, name="mine", code_reserved_bytes=120_000)`.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Target:
  """Constants of a cluster, its memories and its kernel library.

  Sources: [CODE] read in public sources (DORY's PULP_gvsoc hardware
  description, its tiler and templates; gvsoc-pulp), [INFER] an assumption
  nobody measured. Nothing is fitted to the latency of a network.

  Attributes:
    name: name for reports and tables.
    conv_library: kernel set of convolutions: XpulpV2, XpulpNN, XpulpNN-mixed.
    other_library: kernel set of depthwise, linear: XpulpV2 or XpulpNN.
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
    dma_transpose_bytes_per_cycle: depthwise inputs change from HWC to CHW in
      1-byte lines, one per cycle [CODE + INFER].
    dma_command_cycles: cycles to program one transfer [INFER; MATCH uses 12 to
      27].
    tile_cycles: software overhead of one tile iteration [INFER].
    layer_start_cycles: software overhead of one layer [INFER].
    barrier_cycles: the cores meet after a kernel [ISS].
    l3_bytes_per_cycle: HyperRAM at 50 MB/s over a 100 MHz cluster [CODE
      udma_hyper_v3.cpp; GAP8 silicon reaches 0.65].
    l3_setup_cycles: cycles to start one L3 transfer [INFER].
    frequency_hz: turns cycles into seconds in reports [CODE].
  """

  name: str
  conv_library: str
  other_library: str
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
  dma_transpose_bytes_per_cycle: int = 1
  dma_command_cycles: int = 12
  tile_cycles: int = 400
  layer_start_cycles: int = 1_000
  barrier_cycles: int = 15
  l3_bytes_per_cycle: float = 0.5
  l3_setup_cycles: int = 1_500
  frequency_hz: float = 100e6

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      least = 0 if field.name.endswith(("_cycles", "reserved_bytes")) else 1
      if field.name == "l3_bytes_per_cycle":
        least = 1e-9
      if field.type in (int, float) and value < least:
        raise ValueError(
          f"target {self.name!r}: {field.name} is {value}, "
          f"expected at least {least}"
        )
    if self.cores != 8:
      raise ValueError(
        f"target {self.name!r}: cores is {self.cores}, expected 8: the work "
        "split of the measured kernels is written for eight cores"
      )
    if self.double_buffering not in (1, 2):
      raise ValueError(
        f"target {self.name!r}: double_buffering is "
        f"{self.double_buffering}, expected 1 or 2"
      )
    for budget in ("l1_budget_bytes", "l2_budget_bytes"):
      if getattr(self, budget) < 1:
        raise ValueError(
          f"target {self.name!r}: {budget} is "
          f"{getattr(self, budget)}; stacks or code fill it"
        )

  @property
  def l1_budget_bytes(self) -> int:
    """L1 left to tiles once the stacks are placed (35000 by default)."""
    stacks = self.core0_stack_bytes + (self.cores - 1) * self.other_stack_bytes
    return self.l1_bytes - stacks

  @property
  def l2_budget_bytes(self) -> int:
    """L2 left to tensors once the code is loaded (352000 by default)."""
    return self.l2_bytes - self.code_reserved_bytes


# Which public library serves which instruction set: DORY's
# BackendKernelsAdapter [CODE]; the names of the paper are matched to it by us
# [INFER]. XpulpNN-mixed has no depthwise, linear or add kernels.
XPULP_V2 = Target("xpulp_v2", "XpulpV2", "XpulpV2")
XPULPNN_V1 = Target("xpulpnn_v1", "XpulpNN", "XpulpNN")
XPULPNN_V2 = Target("xpulpnn_v2", "XpulpNN-mixed", "XpulpNN")
TARGETS = (XPULP_V2, XPULPNN_V1, XPULPNN_V2)


def get_target(name: str) -> Target:
  """The target of that name; ValueError, with the choices, if there is none."""
  for target in TARGETS:
    if target.name == name:
      return target
  raise ValueError(
    f"unknown target {name!r}; expected one of "
    f"{[target.name for target in TARGETS]}, or your own Target"
  )
