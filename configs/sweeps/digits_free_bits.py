"""Free Bits on digits for every PULP core, with three seeds each.

  python -m launch.sweep --config=configs/digits_free_bits.py \
    --sweep=configs/sweeps/digits_free_bits.py --workdir=runs/digits_sweep
  python -m launch.sweep collect --workdir=runs/digits_sweep

9 points. One takes 3 minutes with two cores to itself; here it gets one core
and two run at a time. The whole was not timed yet: expect half an hour.
"""


def get_sweep() -> dict:
  """Values only; launch.expand.combine says what can stand here."""
  return dict(
    grid={
      "target": ("xpulp_v2", "xpulpnn_v1", "xpulpnn_v2"),
      "seeds": ((0,), (1,), (2,)),
    }
  )
