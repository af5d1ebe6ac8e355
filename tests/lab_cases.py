"""Experiments of a ConfigDict as far as their checks, for tests."""

from fbq import config as config_lib
from fbq.lab.lab import Lab


def checked(given):
  """(settings, lab) of a sound configuration, not yet open."""
  found = config_lib.brought("experiment", given.experiment, "experiment")
  settings = config_lib.of(found.settings, given)
  lab = Lab(settings)
  found.check(settings, lab)
  return settings, lab
