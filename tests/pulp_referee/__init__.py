"""PULP clusters in numpy, tile by tile: the referee of `hwsim.pulp`."""
