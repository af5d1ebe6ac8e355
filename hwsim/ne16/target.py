"""GAP9 with its accelerator NE16 as the simulator sees it.

A target is data. To describe other hardware copy one with
`dataclasses.replace(GAP9_NE16, name="mine", l1_bytes=64_000)`.
"""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from hwsim import pulp
from hwsim.latency_table import Ladder
from hwsim.target_fields import check_budgets, check_numbers, refuse

ENGINES = ("state machine", "analytic")


@dataclasses.dataclass(frozen=True)
class Target:
  """Constants of NE16, of the memories around it and of the cores beside it.

  Sources are those of docs/facts/ne16.md, by section; [INFER] is an assumption
  nobody measured. Nothing is fitted to the latency of a network.

  Attributes:
    name: name for reports and tables.
    engine: cycles of a job: "state machine", GVSOC's model, equal to runs of it
      (2.2); or "analytic", the formula of DORY, PLiNIO and MATCH (2.1), which
      prices stride 2 at up to 2.25 times too little.
    norm_bits: bits of the multiplier of a channel; 8 in GreenWaves' files (4).
    bias_bits: bits of the bias of a channel (1).
    job_setup_cycles: cycles to write the 24 registers of a job, which the job
      before hides (2.2, measured with constants).
    l1_bytes: shared scratchpad, bytes (3).
    core0_stack_bytes, other_stack_bytes: stacks carved out of it, GreenWaves'
      (3).
    l2_bytes: capacity of L2, bytes (3).
    code_reserved_bytes: part of L2 that GreenWaves leaves to code (3).
    dma_bytes_per_cycle: bytes per cycle between L2 and L1, in each direction
      (3).
    dma_line_cycles: least cycles of one line of a 2D transfer, MATCH's (3).
    dma_command_cycles: cycles to program one transfer [INFER, as of PULP; MATCH
      takes 920].
    tile_cycles: software overhead of one tile iteration [INFER, as of PULP].
    layer_start_cycles: software overhead of one layer [INFER, as of PULP].
    l3_bytes_per_cycle: bytes per cycle between L3 and L2 [INFER, as of PULP].
    l3_setup_cycles: cycles to start such a transfer [INFER, as of PULP].
    frequency_hz: clock at 0.8 V (3).
  """

  name: str
  engine: str = "state machine"
  norm_bits: int = 8
  bias_bits: int = 32
  job_setup_cycles: int = 84
  l1_bytes: int = 128_000
  core0_stack_bytes: int = 4_096
  other_stack_bytes: int = 1_024
  l2_bytes: int = 1_500_000
  code_reserved_bytes: int = 100_000
  dma_bytes_per_cycle: int = 8
  dma_line_cycles: int = 1
  dma_command_cycles: int = 12
  tile_cycles: int = 400
  layer_start_cycles: int = 1_000
  l3_bytes_per_cycle: float = 0.5
  l3_setup_cycles: int = 1_500
  frequency_hz: float = 370e6

  def __post_init__(self):
    check_numbers(self)
    if self.engine not in ENGINES:
      refuse(self, "engine", self.engine, f"one of {ENGINES}")
    if self.norm_bits not in (8, 16, 32):
      refuse(self, "norm_bits", self.norm_bits, "8, 16 or 32")
    check_budgets(self)

  @property
  def ladder(self) -> Ladder:
    """Precisions of the hardware: weights of 2 to 8 bits, activations of 8."""
    return Ladder(activations=(8,), weights=(2, 3, 4, 5, 6, 7, 8))

  @property
  def l1_budget_bytes(self) -> int:
    """L1 left to tiles once the stacks of nine cores are placed."""
    return self.l1_bytes - self.core0_stack_bytes - 8 * self.other_stack_bytes

  @property
  def l2_budget_bytes(self) -> int:
    """L2 left to tensors once the code is loaded."""
    return self.l2_bytes - self.code_reserved_bytes

  @property
  def cores(self) -> pulp.Target:
    """The eight worker cores, which run what NE16 cannot, at 8 bits.

    Their kernels are pulp-nn's for XpulpV2; GreenWaves' are not published.
    """
    return dataclasses.replace(
      pulp.XPULP_V2,
      name=f"cores of {self.name}",
      l1_bytes=self.l1_bytes,
      core0_stack_bytes=self.core0_stack_bytes + self.other_stack_bytes,
      other_stack_bytes=self.other_stack_bytes,
      l2_bytes=self.l2_bytes,
      code_reserved_bytes=self.code_reserved_bytes,
      dma_bytes_per_cycle=self.dma_bytes_per_cycle,
      dma_line_cycles=self.dma_line_cycles,
      dma_command_cycles=self.dma_command_cycles,
      tile_cycles=self.tile_cycles,
      layer_start_cycles=self.layer_start_cycles,
      l3_bytes_per_cycle=self.l3_bytes_per_cycle,
      l3_setup_cycles=self.l3_setup_cycles,
      frequency_hz=self.frequency_hz,
    )

  @property
  def constants(self) -> "Constants":
    """The target as arrays of one, for code of many targets."""
    numbers = {
      name: np.array([getattr(self, name)]) for name in Constants._fields[:12]
    }
    return Constants(
      **numbers,
      is_analytic=np.array([self.engine == "analytic"]),
      job_times=np.ones((1, 4)),
      stride_2_times=np.ones(1),
      cores_times=np.ones(1),
      kept_share=np.zeros(1),
      cores=jax.tree.map(lambda x: np.asarray(x)[None], self.cores.constants),
    )


class Constants(NamedTuple):
  """`H` targets as numbers, each array with a first axis [H].

  Attributes:
    norm_bits, ..., l3_setup_cycles: as in `Target`; budgets in place of sizes.
    is_analytic: bool, which of `ENGINES`.
    job_times: [H, 4], factor of the cycles of jobs, by mode.
    stride_2_times: factor of those at stride 2, on top.
    cores_times: factor of all that layers take on the cores.
    kept_share: share of the transfers of input and output that a layer which is
      one tile does without, as they stay in L1 between layers.
    cores: constants of the cores.
  """

  norm_bits: np.ndarray
  bias_bits: np.ndarray
  job_setup_cycles: np.ndarray
  l1_budget_bytes: np.ndarray
  l2_budget_bytes: np.ndarray
  dma_bytes_per_cycle: np.ndarray
  dma_line_cycles: np.ndarray
  dma_command_cycles: np.ndarray
  tile_cycles: np.ndarray
  layer_start_cycles: np.ndarray
  l3_bytes_per_cycle: np.ndarray
  l3_setup_cycles: np.ndarray
  is_analytic: np.ndarray
  job_times: np.ndarray
  stride_2_times: np.ndarray
  cores_times: np.ndarray
  kept_share: np.ndarray
  cores: pulp.Constants

  def take(self, rows: np.ndarray) -> "Constants":
    """Those of some targets."""
    return jax.tree.map(lambda values: values[rows], self)

  def against(self) -> "Constants":
    """The same with an axis more, [H, 1], to broadcast against tiles."""
    arrays = {
      name: getattr(self, name)[..., None]
      for name in self._fields
      if name not in ("job_times", "cores")
    }
    return self._replace(**arrays)


GAP9_NE16 = Target("gap9_ne16")
TARGETS = (GAP9_NE16,)
