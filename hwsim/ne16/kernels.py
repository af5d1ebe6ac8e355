"""Cycles of NE16's jobs, in closed form.

A job goes through its outputs 3 x 3 pixels and 32 channels (16 depthwise) at a
time and through its inputs 16 channels at a time (256 in linear mode), one
weight bit after the other; 1x1 convolutions read all bits of a weight at once.
Loads, products, scales and stores never overlap. Sources: docs/facts/ne16.md.
"""

from typing import NamedTuple

import numpy as np

from hwsim.ne16.target import Constants
from hwsim.workload import Layer

MODES = ("3x3", "depthwise", "1x1", "linear")
_SIDE = 3  # rows and columns of outputs that are computed together
_INPUTS = 16
_LINEAR_INPUTS = 256


class Job(NamedTuple):
  """Work that NE16 is given at once; all but `mode` may be arrays.

  Attributes:
    mode: one of `MODES`.
    rows, columns: output pixels.
    in_channels, out_channels: channels; equal if depthwise.
    weight_bits: 2 to 8.
    stride: 1 or 2.
    cut_bottom, cut_right: rows and columns of padding there, which are not
      loaded (those at the top and left are).
    out_bytes: bytes of an output: 1, or 4 for accumulators.
  """

  mode: str
  rows: int | np.ndarray
  columns: int | np.ndarray
  in_channels: int | np.ndarray
  out_channels: int | np.ndarray
  weight_bits: int
  stride: int = 1
  cut_bottom: int | np.ndarray = 0
  cut_right: int | np.ndarray = 0
  out_bytes: int = 1


def mode_of(layer: Layer) -> str | None:
  """The mode of NE16 that runs a layer; None where the cores do.

  NE16 has no kernels but 1x1 and 3x3, no strides but 1 and 2, no pools and no
  additions, pads 3x3 kernels alone, by 2 at most, and at stride 2 stores an
  even number of bytes (section 1).
  """
  if layer.op == "linear":
    return "linear"
  kernel = layer.kernel_height, layer.kernel_width
  if layer.stride > 2 or (layer.stride == 2 and layer.out_channels % 2):
    return None
  if layer.op == "conv" and kernel == (1, 1) and max(layer.padding) == 0:
    return "1x1"
  if layer.op in ("conv", "depthwise") and kernel == (3, 3):
    if max(layer.padding) <= 2:
      return "depthwise" if layer.op == "depthwise" else "3x3"
  return None


def cycles(job: Job, target: Constants) -> np.ndarray:
  """Cycles int64[H, T] of jobs on `H` targets, by their models of the engine.

  Args:
    job: sizes of `T` jobs, each a number or [T].
    target: constants [H, 1], see `Constants.against`.
  """
  found = state_machine_cycles(job, target.norm_bits)
  if target.is_analytic.any():
    found = np.where(target.is_analytic, analytic_cycles(job), found)
  times = target.job_times[:, [MODES.index(job.mode)]]
  if job.stride == 2 and job.mode != "linear":
    times = times * target.stride_2_times
  return np.rint(found * times).astype(np.int64)


def state_machine_cycles(
  job: Job,
  norm_bits: int | np.ndarray = 8,
  bias: bool = True,
  channel_shift: bool = False,
):
  """Cycles of a job in GVSOC's model of NE16 (section 2.2).

  Args:
    job: what is computed. At stride 2 each 2 x 2 outputs are a job of their own
      that computes 3 x 3, as pulp-nnx sends them.
    norm_bits: 8, 16 or 32 bits of a channel's multiplier.
    bias: whether outputs have one.
    channel_shift: whether every channel has a shift of its own.
  """
  if job.stride == 2 and job.mode != "linear":
    whole = job._replace(
      rows=_SIDE, columns=_SIDE, stride=1, cut_bottom=0, cut_right=0
    )
    jobs = _blocks(job.rows, 2) * _blocks(job.columns, 2)
    return jobs * state_machine_cycles(whole, norm_bits, bias, channel_shift)

  # Sums over the blocks of pixels: how many there are, the inputs that they
  # load and the lines that they store.
  high, wide = _blocks(job.rows, _SIDE), _blocks(job.columns, _SIDE)
  spots = high * wide
  loaded = (job.rows + 2 * high - job.cut_bottom) * (
    job.columns + 2 * wide - job.cut_right
  )
  stored = _SIDE * (job.rows - high) * wide + high * job.columns

  # Sums over the blocks of output channels.
  k = job.out_channels
  channels = 16 if job.mode == "depthwise" else 32
  count = _blocks(k, channels)
  last = k - (count - 1) * channels
  scale = (count - 1) * norm_bits + _ceil(last * norm_bits, 32)
  per_block = 4 * bias + channel_shift

  w, steps = job.weight_bits, _blocks(job.in_channels, _INPUTS)
  if job.mode == "3x3":
    work = steps * (count * (18 * spots + loaded) + spots * k * w)
  elif job.mode == "depthwise":
    work = count * (28 * spots + loaded) + spots * k * w
  elif job.mode == "1x1":
    work = steps * spots * (31 * count + k)
    stored = stored + 9 * spots - job.rows * job.columns
  else:
    passes = _blocks(job.in_channels, _LINEAR_INPUTS)
    work = count * (22 * passes + steps) + passes * k * w
    stored = spots
  stored = stored * count * job.out_bytes
  if job.out_bytes > 1:  # accumulators are not scaled
    scale = 0 * scale
  return work + spots * (scale + count * per_block) + stored + 2


def analytic_cycles(job: Job, norm_bits: int = 32, bias: bool = False):
  """Cycles of a job by the formula of DORY, PLiNIO and MATCH (section 2.1).

  Linear layers are 1x1 convolutions of one pixel. Padding and stride do not
  count, nor do weight bits in 1x1.
  """
  depthwise, k = job.mode == "depthwise", job.out_channels
  spots = _blocks(job.rows, _SIDE) * _blocks(job.columns, _SIDE)
  steps = 1 if depthwise else _blocks(job.in_channels, _INPUTS)
  taps = job.mode in ("3x3", "depthwise")

  def block(k):
    load = (31 if taps else 19) + 6 + k * depthwise
    product = 6 + (k * job.weight_bits if taps else k)
    norm = 9 + _ceil(k * norm_bits, 32) + (8 + _ceil(k, 8)) * bias
    return steps * (load + product + 2) + norm + 13

  size = 16 if depthwise else 32
  rest = k % size
  return spots * (k // size * block(size) + (rest > 0) * block(rest))


def weight_bytes(layer: Layer, weight_bits: int, channels):
  """Bytes of the packed weights of some output channels (section 1)."""
  taps = layer.kernel_height * layer.kernel_width
  if layer.op == "depthwise":
    return _ceil(channels, _INPUTS) * weight_bits * taps * 2
  return channels * _ceil(layer.in_channels, _INPUTS) * weight_bits * taps * 2


def _blocks(size, step):
  return -(-size // step)


_ceil = _blocks
