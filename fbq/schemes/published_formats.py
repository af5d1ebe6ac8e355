"""Published block floating point formats as configurations of one training.

Each is trained with the blocks and the rounding of its authors and priced as
those blocks are stored, whatever they leave out: all of them quantize every
tensor here, though FlexBlock leaves the first, the downsampling and the last
layers in FP32. Where a paper has several modes, the one meant is said; BitQ
(arXiv 2409.17093, table 3) labels DBPS and FlexBlock "16-bit" and FAST and BSFP
"8-bit" without telling the mode. Facts and sources: docs/facts/bitq.md 4.3.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fbq import block_formats
from fbq.nets.graph import Net
from fbq.quantizers import microscaling
from fbq.schemes.block_float import BlockFloat
from fbq.schemes.microscaling import Microscaling, row_of, rows_of
from hwsim.bfp.formats import FP32, BlockFormat, block_format

GRID, VECTORS, WINDOWS, SAMPLES = "grid", "vectors", "windows", "samples"
MICROSCALING, NVFP4 = "microscaling", "nvfp4"
ELEMENTS = "elements"  # searched microscaling formats
NOT_TRAINED = "not trained"
MICROSCALING_SCHEMES = {
  MICROSCALING: Microscaling(),
  NVFP4: Microscaling((16,), "E4M3"),
}
"""The further schemes that candidates are trained in."""

NAMES = (
  *("FlexBlock FB24", "FlexBlock FB16", "FlexBlock FB12", "DBPS"),
  *("FAST high", "FAST low", "MSFP-16", "MSFP-12", "MXINT8"),
  *("HBFP12", "HBFP8", "BSFP"),
  *("MXFP8 E4M3", "MXFP8 E5M2", "MXFP6 E2M3", "MXFP6 E3M2", "MXFP4", "NVFP4"),
)

# Channels of a block of FlexBlock, whose window is 3 x 3 -> bits X. The code
# keeps a sign besides the 16, 8 and 4 bits of the names.
_FLEXBLOCK = {"FB24": (17, 6), "FB16": (9, 12), "FB12": (5, 24)}
_FAST = "quoted g and m; e recalled"
# Name -> word, (X, e, block), source, mode.
_VECTORS = {
  "FAST high": (8, (5, 3, 16), _FAST, "m = 4 throughout"),
  "FAST low": (8, (3, 3, 16), _FAST, "m = 2 throughout"),
  "MSFP-16": (16, (8, 8, 16), "recalled", "X = 8, blocks of 16"),
  "MSFP-12": (8, (4, 8, 16), "recalled", "X = 4, blocks of 16"),
  "MXINT8": (
    8,
    (8, 8, 32),
    "quoted (microxcaling)",
    "X = 8, blocks of 32, ties away from zero",
  ),
}
_DBPS_ZEROED = 0.1  # share of elements that a tensor may lose to zero
_HBFP_TILE = 24


def schemes(sizes: Iterable[int]) -> dict[str, BlockFloat]:
  """Schemes of block floating point that candidates are trained in, by name.

  Args:
    sizes: block sizes of the searched formats.
  """
  return {
    GRID: BlockFloat(tuple(sorted({1, *sizes}))),
    VECTORS: BlockFloat((16, 32), spans_kernel=False),
    WINDOWS: BlockFloat((6, 12, 24), "floor", 3),
    SAMPLES: BlockFloat((0, _HBFP_TILE), "even", 0),
  }


class BlockCandidate(NamedTuple):
  """A network with a format for every tensor, on its way to training.

  Attributes:
    name: unique.
    family: "BitQ", "uniform", "published" or "ablation".
    word: bits that its authors, or BitQ, label it with.
    formats: {site: format}, what is priced.
    rows: int32 [S, 3], the same as it is trained: X, bits of the shared
      exponent, or of each element's in a microscaling scheme, block size.
    scheme: name of what it is trained in, or `NOT_TRAINED`.
    source: where its numbers are from.
    text: the formats in words.
  """

  name: str
  family: str
  word: int
  formats: Mapping[str, BlockFormat]
  rows: np.ndarray
  scheme: str = GRID
  source: str = ""
  text: str = ""


def of_formats(
  net: Net,
  name: str,
  family: str,
  word: int,
  formats: Mapping[str, BlockFormat],
  **more: str,
) -> BlockCandidate:
  """A candidate of formats, which are trained as they are priced.

  Args:
    net: network whose tensors have the formats.
    name, family, word, formats: see `BlockCandidate`.
    **more: its other attributes.
  """
  rows = rows_in(more.get("scheme", GRID))(net, formats)
  return BlockCandidate(name, family, word, formats, rows, **more)


def rows_in(
  scheme: str,
) -> Callable[[Net, Mapping[str, BlockFormat]], np.ndarray]:
  """(net, formats) -> rows that the scheme of this name takes."""
  return rows_of if scheme == ELEMENTS else block_formats.to_array


def published(
  net: Net,
  names: Sequence[str],
  zeroed: Callable[[list], Mapping[str, np.ndarray]],
) -> list[BlockCandidate]:
  """FP32 and the published formats of the given `NAMES`.

  Args:
    net: the network.
    names: names of the formats.
    zeroed: (list of (X, SE, block size)) -> {site: share of elements that each
      of them turns to zero in the scheme `WINDOWS`}; for DBPS.
  """
  makers = {
    **{f"FlexBlock {mode}": _flexblock for mode in _FLEXBLOCK},
    "DBPS": lambda net, name: _dbps(net, zeroed),
    **dict.fromkeys(_VECTORS, _vectors),
    "HBFP12": lambda net, name: _hbfp(net, 12),
    "HBFP8": lambda net, name: _hbfp(net, 8),
    "BSFP": lambda net, name: _bsfp(net),
    **dict.fromkeys(microscaling.FORMATS.keys() - _VECTORS, _microscaling),
  }
  fp32 = block_formats.uniform(net, FP32)
  found = [of_formats(net, "FP32", "published", 32, fp32, text="32 bits")]
  return found + [makers[name](net, name) for name in names]


def _flexblock(net, name):
  bits, channels = _FLEXBLOCK[name.split()[1]]
  format_ = block_format(bits, 8, channels, window=3)
  return of_formats(
    net,
    name,
    "published",
    16,
    block_formats.uniform(net, format_),
    scheme=WINDOWS,
    source="quoted (BFPsim); e = 8 bits; all layers quantized",
    text=f"static mode: X = {bits}, blocks of {channels} channels x 3 x 3, cut "
    "off",
  )


def _vectors(net, name):
  """A uniform format whose blocks lie along the input channels."""
  word, numbers, source, text = _VECTORS[name]
  format_ = block_format(*numbers, spans_kernel=False)
  formats = block_formats.uniform(net, format_)
  more = dict(scheme=VECTORS, source=source, text=text)
  return of_formats(net, name, "published", word, formats, **more)


def priced(preset: microscaling.Format) -> BlockFormat:
  """What a microscaling format costs."""
  return block_format(
    preset.element_bits,
    microscaling.SCALE_BITS,
    preset.block_size,
    spans_kernel=False,
    element=preset.element,
    scale="" if preset.scale == "E8M0" else preset.scale,
  )


def _microscaling(net, name):
  """A uniform MX format, or NVFP4, by its definition."""
  preset = microscaling.FORMATS[name]
  size = preset.block_size
  formats = block_formats.uniform(net, priced(preset))
  is_mx = preset.scale == "E8M0"
  return BlockCandidate(
    name,
    "published",
    preset.element_bits,
    formats,
    np.tile(np.array(row_of(preset), np.int32), (len(formats), 1)),
    MICROSCALING if is_mx else NVFP4,
    "quoted (OCP MX v1.0)" if is_mx else "quoted (torchao)",
    f"{preset.element} in blocks of {size} with {preset.scale} scales",
  )


def _dbps(net, zeroed):
  """For every tensor the cheapest format that turns few elements to zero."""
  choices = [
    (bits, size)
    for bits in sorted(bits for bits, _ in _FLEXBLOCK.values())
    for size in (24, 12, 6)
  ]
  formats = {}
  for site, lost in zeroed([(bits, 8, size) for bits, size in choices]).items():
    allowed = np.flatnonzero(lost <= _DBPS_ZEROED)
    bits, size = choices[allowed[0] if len(allowed) else -1]
    formats[site] = block_format(bits, 8, size, window=3)
  return of_formats(
    net,
    "DBPS",
    "published",
    16,
    formats,
    scheme=WINDOWS,
    source="inferred: FlexBlock's formats and its zero-setting error",
    text="for each tensor the cheapest of X = 5, 9, 17 and 24, 12, 6 channels "
    f"x 3 x 3 with at most {_DBPS_ZEROED:.0%} of its elements lost to zero",
  )


def _hbfp(net, mantissa_bits):
  """Samples share an exponent, and so do blocks of 24 kernels."""
  bits = mantissa_bits + 1
  formats = block_formats.uniform(net, block_format(bits, 10, 0, window=0))
  formats |= {
    site: block_format(bits, 10, _HBFP_TILE)
    for site in formats
    if site.endswith(".weight")
  }
  return of_formats(
    net,
    f"HBFP{mantissa_bits}",
    "published",
    16 if mantissa_bits > 8 else 8,
    formats,
    scheme=SAMPLES,
    source="quoted; weights in blocks of 24 kernels, not tiles of 24 x 24",
    text=f"X = {bits}, one exponent for a sample",
  )


def _bsfp(net):
  """Weights of two subwords with a scale each: no block format of one sum."""
  formats = {}
  for site in net.workload.sites:
    bits, exponent = (4, 16) if site.endswith(".weight") else (8, 8)
    formats[site] = block_format(bits, exponent, 16, spans_kernel=False)
  return of_formats(
    net,
    "BSFP",
    "published",
    8,
    formats,
    scheme=NOT_TRAINED,
    source="inferred from a summary of the paper; priced only",
    text="weights of 4 bits in two subwords with 8-bit scales, activations "
    "MSFP-16",
  )
