"""Hardware cost models: numpy and jax only, knows nothing of training."""
