"""Clusters of RISC-V cores whose dot-product unit takes MX blocks, as records.

Every number says where it is from; (i) marks what was inferred. Of both papers
the abstracts alone were at hand (docs/facts/dense.md 6 and 7).
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Target:
  """A cluster whose unit multiplies blocks of small floats with their scales.

  The scales are E8M0: both papers say MX, whose scales they are.

  Attributes:
    name: name of the target.
    cores: cores of the cluster.
    unit: {element: products that all cores together make in a cycle}, as pairs.
    granule: elements that an instruction takes, all under one pair of scales.
    utilization: share of its peak that the unit reaches on large products.
    software: products of all cores in a cycle where the unit cannot be used:
      elements are cast to FP32, multiplied and scaled one by one.
    fp32: products in FP32 of all cores in a cycle, at `utilization`.
    unit_joules: {element: energy of one product in the unit}, as pairs.
    software_joules: energy of one product in software.
    memory_bytes: shared first-level memory; 128 KiB in Snitch clusters (i).
    dma_bytes: bytes between it and the far memory in a cycle; 64, the 512 bits
      of a Snitch cluster's DMA (i).
    hertz: clock.
  """

  name: str
  cores: int
  unit: tuple[tuple[str, int], ...]
  granule: int
  utilization: float
  software: float
  fp32: float
  unit_joules: tuple[tuple[str, float], ...]
  software_joules: float
  memory_bytes: int = 128 * 1024
  dma_bytes: int = 64
  hertz: float = 1e9

  def __post_init__(self):
    elements = [name for name, _ in self.unit]
    if elements != [name for name, _ in self.unit_joules]:
      raise ValueError(
        f"target {self.name!r}: unit_joules has other elements than unit, "
        f"{elements}"
      )
    for field in ("cores", "granule", "memory_bytes", "dma_bytes"):
      if getattr(self, field) < 1:
        raise ValueError(
          f"target {self.name!r}: {field} is {getattr(self, field)}, expected "
          "at least 1"
        )
    for field in ("software", "fp32", "hertz"):
      if not getattr(self, field) > 0:
        raise ValueError(
          f"target {self.name!r}: {field} is {getattr(self, field)}, expected "
          "a positive number"
        )
    if not 0 < self.utilization <= 1:
      raise ValueError(
        f"target {self.name!r}: utilization is {self.utilization}, expected "
        "a share, above 0 and at most 1"
      )


_FP8 = ("E4M3", "E5M2")

MXDOTP = Target(
  # arXiv 2505.13159, abstract: eight Snitch cores, 12 nm, 0.8 V, 1 GHz; an
  # instruction takes eight MXFP8 products, both scales and an FP32 accumulator;
  # at most 80 % utilization, 356 GFLOPS/W; 25 times as fast and 12.5 times as
  # efficient as casts to FP32 and explicit scaling.
  name="mxdotp",
  cores=8,
  unit=tuple((name, 8 * 8) for name in _FP8),
  granule=8,
  utilization=0.80,
  software=8 * 8 * 0.80 / 25,
  # (i) A Snitch core's FPU is 64 bits wide: two FP32 products a cycle (Zaruba
  # et al., IEEE Transactions on Computers 2021).
  fp32=8 * 2,
  unit_joules=tuple((name, 2 / 356e9) for name in _FP8),
  software_joules=12.5 * 2 / 356e9,
)

VMXDOTP = Target(
  # arXiv 2603.04979, abstract: a vector cluster in the same technology; MXFP8
  # and MXFP4 in, block sizes set by software; up to 97 % utilization, 125 and
  # 250 GFLOPS, 843 and 1,632 GFLOPS/W; 7.0 times as fast and 4.9 times as
  # efficient as MXFP8 in software.
  name="vmxdotp",
  cores=8,  # (i) 125 GFLOPS at 97 % and 1 GHz are 64 products a cycle
  unit=(*((name, 64) for name in _FP8), ("E2M1", 128)),
  granule=8,  # (i) 64 bits of MXFP8
  utilization=0.97,
  software=64 * 0.97 / 7.0,
  fp32=8 * 2,  # (i) as above
  unit_joules=(*((name, 2 / 843e9) for name in _FP8), ("E2M1", 2 / 1632e9)),
  software_joules=4.9 * 2 / 843e9,
)

TARGETS = (MXDOTP, VMXDOTP)
