"""Quantizers: pure functions with analytic gradients, precision as data."""
