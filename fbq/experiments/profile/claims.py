"""What a profile says in words: its answer and the three published claims."""

from fbq.experiments.profile.results import Profile, Statement, short


def answer(profile: Profile) -> str:
  """The profile in two or three sentences."""
  eight, four, free = map(profile.whole, ("8/8", "4/4", "4/4+FB"))
  clock = profile.constant("frequency_hz")
  macs = sum(c.macs for c in profile.in_uniform(profile.target, "8/8"))
  milliseconds = eight.cycles / clock * 1e3
  own = [w for w in profile.wholes if w.target == profile.target]
  best = min(own, key=lambda w: w.cycles)
  sentence = (
    f"At 8 bits everywhere an image takes {eight.cycles:,} cycles on "
    f"{short(profile.target)}: {milliseconds:,.1f} ms at "
    f"{clock / 1e6:g} MHz, {macs / eight.cycles:.2f} MAC/cycle. "
    f"4 bits change that by {four.change:+.1%}, and by {free.change:+.1%} once "
    f"Free Bits has raised {free.raised} layers."
  )
  if best.name not in ("4/4", "4/4+FB"):
    sentence += f" Fastest is {best.name}: {best.change:+.1%}."
  return sentence


def statements(profile: Profile) -> list[Statement]:
  """The three claims, each with the numbers of all targets."""
  return [_narrow(profile), _depthwise(profile), _higher(profile)]


def _ratios(profile, kinds, ratio):
  """(numbers by target and kind, the same in a sentence)."""
  numbers = {
    f"{short(target)} {kind}": round(ratio(target, kind), 4)
    for target in profile.targets
    for kind in kinds
  }
  said = "; ".join(f"{name} {value:.2f}x" for name, value in numbers.items())
  return numbers, said


def _narrow(profile):
  convolutions = {"convolution", "pointwise"}
  kinds = [kind for kind in profile.kinds() if kind in convolutions]
  numbers, said = _ratios(
    profile, kinds, lambda *which: profile.relative(*which, 8, 4)
  )
  return Statement(
    "Weights narrower than activations ruin performance on XPulpNNv1",
    f"Cycles with 8-bit inputs and 4-bit weights over those at 8/8: {said}. "
    "XPulpNNv1 unpacks such weights in software inside the inner loop, XPulpV2 "
    "all that is below 8 bits; XPulpNNv2 decodes mixtures in hardware.",
    numbers,
  )


def _depthwise(profile):
  claim = "Depthwise layers gain less from fewer bits"
  kinds = profile.kinds()
  if "depthwise" not in kinds:
    return Statement(claim, "This network has no depthwise layers.", {})
  other = "pointwise" if "pointwise" in kinds else "convolution"
  numbers, said = _ratios(
    profile,
    ("depthwise", other),
    lambda *which: 1 / profile.relative(*which, 4, 4),
  )
  return Statement(
    claim,
    f"Speed at 4/4 over that at 8/8: {said}. Depthwise kernels compute at 8 "
    "bits whatever the operands, so only transfers and tiles get smaller.",
    numbers,
  )


def _higher(profile):
  numbers: dict[str, float] = {}
  said = []
  for start in ("4/4", "2/2"):
    found = [gain for gain in profile.gains if gain.start == start]
    saved = sum(gain.before.cycles - gain.after.cycles for gain in found)
    share = saved / profile.whole(start).cycles
    numbers |= {
      f"{start} layers": len(found),
      f"{start} cycles saved": saved,
      f"{start} share": round(share, 4),
    }
    said.append(
      f"of {len(profile.layers)} layers at {start}, {len(found)} are faster at "
      f"more bits, {saved:,} cycles in all ({share:.1%} of the network)"
    )
  return Statement(
    "Some layers run faster at higher precision",
    f"On {short(profile.target)}, {'; '.join(said)}.",
    numbers,
  )
